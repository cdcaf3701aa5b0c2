"""The warm runner: executors that imported everything beforehand, and the Prefect server that feeds them."""

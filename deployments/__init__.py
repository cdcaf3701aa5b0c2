"""The objects that `transship deploy` applies to a Prefect server: pool, queues, blocks and deployments."""

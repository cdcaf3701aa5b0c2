"""The warm runner: executors that imported everything beforehand, and the Prefect server that feeds them.

Three kinds of process carry runs: the dispatcher (`__main__`, a Prefect worker), one template (`template`) that
imports everything and only forks, and the executors (`executor`) that it forked, each of which carries one
flow run at a time and is used again.
"""

"""The warm runner: executors with everything imported in advance, and the Prefect server that feeds them.

Three kinds of process carry out runs: the dispatcher (`__main__`, a Prefect worker), one template (`template`) that
imports everything and only forks, and the executors (`executor`) that it forks. An executor carries out one
flow run at a time and is reused.
"""

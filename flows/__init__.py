"""Flows: one import method a file. Order and undo, nothing else."""

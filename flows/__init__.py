"""Flows, one file per import method. They define only the order of steps and how to undo them."""

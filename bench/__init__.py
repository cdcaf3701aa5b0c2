"""Benchmarks: each step of the data path against what an operator would use by hand, in the same run."""

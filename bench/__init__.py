"""Benchmarks: compare each step of the data path with the tool that an operator would use by hand, in the same run."""

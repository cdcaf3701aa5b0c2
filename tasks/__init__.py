"""Prefect tasks. Each has one effect and is safe to repeat; arguments and results are never streams or secrets."""

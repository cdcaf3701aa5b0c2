"""Prefect tasks: one effect each, safe to repeat. They take and return small values, never streams or secrets."""

"""Destinations of notifications: a message bus, the log, Prefect's events. None of them uses the catalogue."""

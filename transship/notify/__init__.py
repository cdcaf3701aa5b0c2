"""Ways out for notifications: a message bus, the log, Prefect's events. None of them knows the catalogue."""

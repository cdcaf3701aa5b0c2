"""The keeper: the process that dispatches imports to Prefect and repairs what Prefect lost."""

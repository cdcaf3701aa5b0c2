"""Image import for OpenStack clouds, as Prefect flows of retryable tasks."""

"""What an operator applies to a Prefect server: pool, queues, blocks and deployments."""

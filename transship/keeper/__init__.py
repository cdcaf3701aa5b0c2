"""The keeper: the one process that tells Prefect what the catalogue wants, and puts right what Prefect lost."""

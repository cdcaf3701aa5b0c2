"""The catalogue: images, tasks, leases, locations, staging, secrets and the outbox, in one database.

It is the source of truth, from which Prefect, staging and the stores are repaired.
"""

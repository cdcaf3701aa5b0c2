"""The catalogue: images, tasks, leases, locations, staging, secrets and the outbox, in one database.

It is the truth; Prefect, staging and the stores are put right from it.
"""

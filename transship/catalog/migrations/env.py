"""Alembic's entry point: runs on the connection passed by `transship.catalog.engine.migrate`."""

from __future__ import annotations

from alembic import context

from transship.catalog.schema import METADATA

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=METADATA,
    render_as_batch=True,
    transaction_per_migration=False,
)
context.run_migrations()

"""Alembic's entry: runs on the connection that `transship.catalog.engine.migrate` hands over."""

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

"""Notifications that wait to be sent."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from transship.catalog.types import UtcTime

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

SINKS = ("bus", "log", "prefect")


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "notifications",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("message_id", sa.String(length=36), nullable=False),
        sa.Column("event_type", sa.String(length=64), nullable=False),
        sa.Column("priority", sa.String(length=10), nullable=False),
        sa.Column("payload", sa.JSON(), nullable=False),
        sa.Column("image_id", sa.String(length=36), nullable=False),
        sa.Column("task_id", sa.String(length=36), nullable=True),
        sa.Column("store", sa.String(length=255), nullable=True),
        sa.Column("occurred_at", UtcTime(), nullable=False),
        *(sa.Column(f"sent_to_{sink}", sa.Boolean(), nullable=False) for sink in SINKS),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_notifications")),
    )
    for sink in SINKS:
        op.create_index(f"ix_notifications_sent_to_{sink}_id", "notifications", [f"sent_to_{sink}", "id"])
    op.create_table(
        "notification_sinks",
        sa.Column("name", sa.String(length=20), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False, comment="why nothing can be sent to it now; empty when it can"),
        sa.Column("since", UtcTime(), nullable=False, comment="when this was noted"),
        sa.Column("dropped", sa.BigInteger(), nullable=False, comment="notifications given up because too many waited"),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_notification_sinks")),
    )

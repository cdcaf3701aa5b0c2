"""Let each worker write its host's row: when it was last heard, and how many imports it carries."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from transship.catalog.types import UtcTime

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply. The rows are not kept: workers write theirs again within seconds."""
    op.drop_table("hosts")
    op.create_table(
        "hosts",
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("heard_at", UtcTime(), nullable=False, comment="last sign of life, by the database's clock"),
        sa.Column("slots", sa.Integer(), nullable=False, comment="imports that its worker carries at the same time"),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_hosts")),
        comment="Hosts with a staging directory; each worker writes its own row.",
    )

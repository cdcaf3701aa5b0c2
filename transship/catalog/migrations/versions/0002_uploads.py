"""Uploads: digests computed on the way in, and which hosts serve their staging."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from transship.catalog.types import UtcTime

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "hosts",
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("alive", sa.Boolean(), nullable=False, comment="a worker of this host answered lately"),
        sa.Column("heard_at", UtcTime(), nullable=True, comment="the last time that one did"),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_hosts")),
        comment="Hosts whose staging is served, as the keeper sees their workers.",
    )
    with op.batch_alter_table("staged_files", schema=None) as batch_op:
        batch_op.add_column(
            sa.Column(
                "digests",
                sa.JSON(),
                nullable=True,
                comment="of a sealed file, hex by algorithm, where they were computed on the way",
            )
        )


def downgrade() -> None:
    """Take back."""
    with op.batch_alter_table("staged_files", schema=None) as batch_op:
        batch_op.drop_column("digests")

    op.drop_table("hosts")

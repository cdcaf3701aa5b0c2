"""Housekeeping claims what it removes, and lists what is not ours."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from transship.catalog.types import UtcTime

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "inventories",
        sa.Column("place", sa.String(length=255), nullable=False, comment="store:<id> or staging:<host>"),
        sa.Column("taken_at", UtcTime(), nullable=False),
        sa.Column("strays", sa.BigInteger(), nullable=False, comment="how many things there no row names"),
        sa.Column("names", sa.JSON(), nullable=False, comment="the first of them, in order"),
        sa.PrimaryKeyConstraint("place", name=op.f("pk_inventories")),
        comment="What housekeeping found that is not ours; it is listed here and never touched.",
    )
    with op.batch_alter_table("locations", schema=None) as batch_op:
        batch_op.add_column(
            sa.Column("claim", sa.String(length=255), comment="who removes it now besides a holder of the lease")
        )
        batch_op.add_column(
            sa.Column("claim_until", UtcTime(), comment="by the database's clock; then another one may remove it")
        )


def downgrade() -> None:
    """Take back."""
    with op.batch_alter_table("locations", schema=None) as batch_op:
        batch_op.drop_column("claim_until")
        batch_op.drop_column("claim")

    op.drop_table("inventories")

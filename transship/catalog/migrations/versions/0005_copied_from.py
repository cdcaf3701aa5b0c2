"""Note which file each copy was made from, so that a resumed import knows its finished copies."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    with op.batch_alter_table("locations") as table:
        table.add_column(
            sa.Column("copied_from", sa.Text(), server_default="", nullable=False, comment="the file that was copied")
        )
    # SQLite keeps no comments.
    if op.get_bind().dialect.supports_comments:
        op.alter_column(
            "import_targets",
            "state",
            existing_type=sa.String(length=12),
            existing_nullable=False,
            comment="waiting, uploading, written, done or failed",
            existing_comment="waiting, uploading, done or failed",
        )

"""When copies were verified, and what was wrong with them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from transship.catalog.types import UtcTime

revision = "0101"
down_revision = "0100"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    compared = "when all its bytes were last read and compared with the image's digest"
    op.add_column("locations", sa.Column("verified_at", UtcTime(), nullable=True, comment=compared))
    op.add_column("locations", sa.Column("damage", sa.Text(), nullable=True, comment="what was wrong with it then"))

"""How many items each job has."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Add them, counted."""
    row_id = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.create_table(
        "item_totals",
        sa.Column("job_id", row_id, primary_key=True, autoincrement=False),
        sa.Column("total", sa.BigInteger(), nullable=False),
    )
    op.execute("INSERT INTO item_totals SELECT job_id, count(*) FROM items GROUP BY job_id")

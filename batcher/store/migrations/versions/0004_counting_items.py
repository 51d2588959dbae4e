"""How many items each job has, and an index of those that failed or were rejected."""

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
    faulty = sa.text("status IN ('failed', 'rejected')")
    columns = ["job_id", "status", "error_class", "id"]
    op.create_index("ix_items_faulty", "items", columns, sqlite_where=faulty, postgresql_where=faulty)
    op.execute("INSERT INTO item_totals SELECT job_id, count(*) FROM items GROUP BY job_id")

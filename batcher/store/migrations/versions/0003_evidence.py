"""What jobs and calls are for, drawn samples, who judged them, calibrated ladders."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add them."""
    row_id = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.add_column("jobs", sa.Column("purpose", sa.String(20), nullable=False, server_default="answer"))
    op.add_column("jobs", sa.Column("parent_id", row_id))
    op.add_column("jobs", sa.Column("sampling", sa.Text()))
    op.add_column("jobs", sa.Column("routing", sa.Text()))
    op.add_column("jobs", sa.Column("ladder_policy_id", row_id))
    op.add_column("jobs", sa.Column("reader", sa.Text()))
    op.add_column("jobs", sa.Column("reading_until", sa.Float()))
    has_parent = sa.text("parent_id IS NOT NULL")
    op.create_index(
        "ix_jobs_parent_id", "jobs", ["parent_id"], sqlite_where=has_parent, postgresql_where=has_parent
    )
    op.add_column("items", sa.Column("start_tier", sa.String(50)))
    op.add_column("attempts", sa.Column("logprob", sa.Float()))
    op.add_column("samples", sa.Column("note", sa.Text()))
    op.add_column("samples", sa.Column("judged_at", sa.Float()))
    op.create_table(
        "sampled_items",
        sa.Column("item_id", row_id, primary_key=True, autoincrement=False),
        sa.Column("job_id", row_id, nullable=False),
        sa.Column("tier", sa.String(50), nullable=False),
        sa.Column("model", sa.String(200), nullable=False),
        sa.Column("probability", sa.Float(), nullable=False),
        sa.Column("drawn_at", sa.Float(), nullable=False),
    )
    op.create_index("ix_sampled_items_job_id", "sampled_items", ["job_id"])
    op.create_table(
        "ladder_policies",
        sa.Column("id", row_id, primary_key=True, autoincrement=True),
        sa.Column("task", sa.String(100), nullable=False),
        sa.Column("fingerprint", sa.LargeBinary(20), nullable=False),
        sa.Column("policy", sa.Text(), nullable=False),
        sa.Column("evidence", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_ladder_policies_fingerprint", "ladder_policies", ["fingerprint"])

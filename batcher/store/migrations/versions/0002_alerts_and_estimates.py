"""alerts, a job's estimate and priority, the provider that a lease's money stands under, tallies."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add them."""
    op.add_column("jobs", sa.Column("estimate", sa.Text()))
    op.add_column("jobs", sa.Column("priority", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("leases", sa.Column("provider", sa.String(100), nullable=False, server_default=""))
    op.add_column(
        "attempts", sa.Column("price_request_nusd", sa.BigInteger(), nullable=False, server_default="0")
    )
    with op.batch_alter_table("caps") as caps:
        caps.alter_column("cap_nusd", existing_type=sa.BigInteger(), nullable=True)
    row_id = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.create_table(
        "alerts",
        sa.Column("id", row_id, primary_key=True, autoincrement=True),
        sa.Column("rule", sa.String(50), nullable=False),
        sa.Column("scope", sa.String(200), nullable=False),
        sa.Column("day", sa.String(10), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("state", sa.String(10), nullable=False),
        sa.Column("taken_by", sa.Text(), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("next_try_at", sa.Float(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("sent_at", sa.Float()),
        sa.UniqueConstraint("rule", "scope", "day", name="uq_alerts_rule"),
    )
    op.create_index("ix_alerts_state", "alerts", ["state", "next_try_at"])
    _add_tallies(row_id)


def _add_tallies(row_id: sa.types.TypeEngine[int]) -> None:
    """Sums of calls and answers, brought up to what is there, and the indexes of what they leave out."""
    op.create_table(
        "tallies",
        sa.Column("job_id", row_id, primary_key=True, autoincrement=False),
        sa.Column("tier", sa.String(50), primary_key=True),
        sa.Column("model", sa.String(200), primary_key=True),
        *(sa.Column(name, sa.BigInteger(), nullable=False) for name in (*_SUMS, "cost_nusd", "answered")),
    )
    for name, table, column, where in _PARTIAL:
        condition = sa.text(where)
        op.create_index(name, table, [column], sqlite_where=condition, postgresql_where=condition)
    op.execute(_COUNT_CALLS)
    op.execute(_COUNT_ANSWERS)


_SUMS = ("calls", "input_tokens", "cached_tokens", "output_tokens")

_PARTIAL = (
    ("ix_items_reused", "items", "job_id", "reused"),
    ("ix_attempts_unknown", "attempts", "job_id", "state = 'unknown'"),
)

_COUNT_CALLS = """
    INSERT INTO tallies SELECT job_id, tier, model, count(*), sum(input_tokens), sum(cached_tokens),
    sum(output_tokens), sum(cost_nusd), 0 FROM attempts WHERE state = 'settled' GROUP BY job_id, tier, model
"""

_COUNT_ANSWERS = """
    UPDATE tallies SET answered = (
        SELECT count(*) FROM items JOIN attempts ON attempts.id = items.result_id
        WHERE items.job_id = tallies.job_id AND NOT items.reused
        AND attempts.tier = tallies.tier AND attempts.model = tallies.model
    )
"""

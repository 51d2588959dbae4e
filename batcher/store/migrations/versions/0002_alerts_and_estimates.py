"""alerts, a job's estimate and priority, the provider that a lease's money stands under, lifted caps."""

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

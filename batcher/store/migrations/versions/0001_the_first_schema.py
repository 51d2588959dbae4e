"""the first schema."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create every table."""
    _create_attempts()
    _create_caps()
    _create_document_images()
    _create_documents()
    _create_items()
    _create_jobs()
    _create_leases()
    _create_ledger_accounts()
    _create_ledger_clock()
    _create_results()
    _create_samples()


def _create_attempts() -> None:
    op.create_table(
        "attempts",
        sa.Column(
            "id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=False, nullable=False
        ),
        sa.Column("item_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("job_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("lease_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("purpose", sa.String(length=20), nullable=False),
        sa.Column("part", sa.Integer(), nullable=False),
        sa.Column("tier", sa.String(length=50), nullable=False),
        sa.Column("model", sa.String(length=200), nullable=False),
        sa.Column("provider", sa.String(length=100), nullable=False),
        sa.Column("state", sa.String(length=10), nullable=False),
        sa.Column("outcome", sa.String(length=30), nullable=True),
        sa.Column("status_code", sa.SmallInteger(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("request_id", sa.Text(), nullable=True),
        sa.Column("day", sa.String(length=10), nullable=False),
        sa.Column("reserved_nusd", sa.BigInteger(), nullable=False),
        sa.Column("cost_nusd", sa.BigInteger(), nullable=False),
        sa.Column("price_input_nusd", sa.BigInteger(), nullable=False),
        sa.Column("price_output_nusd", sa.BigInteger(), nullable=False),
        sa.Column("price_cached_nusd", sa.BigInteger(), nullable=False),
        sa.Column("price_cache_write_nusd", sa.BigInteger(), nullable=False),
        sa.Column("input_tokens", sa.Integer(), nullable=False),
        sa.Column("cached_tokens", sa.Integer(), nullable=False),
        sa.Column("cache_write_tokens", sa.Integer(), nullable=False),
        sa.Column("output_tokens", sa.Integer(), nullable=False),
        sa.Column("reasoning_tokens", sa.Integer(), nullable=False),
        sa.Column("sent_at", sa.Float(), nullable=False),
        sa.Column("latency_s", sa.Float(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    with op.batch_alter_table("attempts", schema=None) as batch_op:
        batch_op.create_index("ix_attempts_day", ["day", "job_id"], unique=False)
        batch_op.create_index("ix_attempts_item_id", ["item_id"], unique=False)
        batch_op.create_index(
            "ix_attempts_open",
            ["lease_id"],
            unique=False,
            sqlite_where=sa.text("state = 'sending'"),
            postgresql_where=sa.text("state = 'sending'"),
        )


def _create_caps() -> None:
    op.create_table(
        "caps",
        sa.Column("scope", sa.String(length=100), nullable=False),
        sa.Column("cap_nusd", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("scope"),
    )


def _create_document_images() -> None:
    op.create_table(
        "document_images",
        sa.Column("hash", sa.LargeBinary(length=20), nullable=False),
        sa.Column("page", sa.SmallInteger(), nullable=False),
        sa.Column("mime", sa.String(length=50), nullable=False),
        sa.Column("width", sa.Integer(), nullable=False),
        sa.Column("height", sa.Integer(), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("hash", "page"),
    )


def _create_documents() -> None:
    op.create_table(
        "documents",
        sa.Column("hash", sa.LargeBinary(length=20), nullable=False),
        sa.Column("text_bytes", sa.Integer(), nullable=False),
        sa.Column("image_count", sa.SmallInteger(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("hash"),
    )


def _create_items() -> None:
    op.create_table(
        "items",
        sa.Column(
            "id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False
        ),
        sa.Column("job_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("document_hash", sa.LargeBinary(length=20), nullable=True),
        sa.Column("result_key", sa.LargeBinary(length=20), nullable=True),
        sa.Column("accepts_key", sa.Integer(), nullable=False),
        sa.Column("status", sa.String(length=20), nullable=False),
        sa.Column("tier", sa.String(length=50), nullable=False),
        sa.Column("ready_at", sa.Float(), nullable=False),
        sa.Column("lease_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.Column("reused", sa.Boolean(), nullable=False),
        sa.Column("result_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.Column("error_class", sa.String(length=30), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    with op.batch_alter_table("items", schema=None) as batch_op:
        batch_op.create_index(
            "ix_items_lease",
            ["lease_id"],
            unique=False,
            sqlite_where=sa.text("lease_id IS NOT NULL"),
            postgresql_where=sa.text("lease_id IS NOT NULL"),
        )
        batch_op.create_index("ix_items_queue", ["job_id", "status", "tier", "ready_at", "id"], unique=False)
        batch_op.create_index("ix_items_result_key", ["result_key"], unique=False)
        batch_op.create_index(
            "uq_items_in_flight",
            ["result_key", "accepts_key"],
            unique=True,
            sqlite_where=sa.text("status = 'leased'"),
            postgresql_where=sa.text("status = 'leased'"),
        )
        batch_op.create_index("uq_items_job_source", ["job_id", "source"], unique=True)


def _create_jobs() -> None:
    op.create_table(
        "jobs",
        sa.Column(
            "id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False
        ),
        sa.Column("corpus_key", sa.LargeBinary(length=20), nullable=False),
        sa.Column("task", sa.String(length=100), nullable=False),
        sa.Column("paths", sa.Text(), nullable=False),
        sa.Column("source_options", sa.Text(), nullable=False),
        sa.Column("spec", sa.Text(), nullable=False),
        sa.Column("tier", sa.String(length=50), nullable=False),
        sa.Column("pinned_model", sa.String(length=200), nullable=True),
        sa.Column("ladder", sa.Text(), nullable=False),
        sa.Column("accepts", sa.Text(), nullable=False),
        sa.Column("refresh", sa.Boolean(), nullable=False),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("resume_at", sa.Float(), nullable=True),
        sa.Column("max_cost_nusd", sa.BigInteger(), nullable=True),
        sa.Column("waiting_reason", sa.Text(), nullable=True),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("started_at", sa.Float(), nullable=True),
        sa.Column("finished_at", sa.Float(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sqlite_autoincrement=True,
    )
    with op.batch_alter_table("jobs", schema=None) as batch_op:
        batch_op.create_index("ix_jobs_corpus_key", ["corpus_key"], unique=False)
        batch_op.create_index("ix_jobs_state", ["state"], unique=False)


def _create_leases() -> None:
    op.create_table(
        "leases",
        sa.Column(
            "id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False
        ),
        sa.Column("job_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("tier", sa.String(length=50), nullable=False),
        sa.Column("worker", sa.Text(), nullable=False),
        sa.Column("state", sa.String(length=10), nullable=False),
        sa.Column("day", sa.String(length=10), nullable=False),
        sa.Column("reserved_nusd", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sqlite_autoincrement=True,
    )
    with op.batch_alter_table("leases", schema=None) as batch_op:
        batch_op.create_index("ix_leases_state", ["state", "expires_at"], unique=False)


def _create_ledger_accounts() -> None:
    op.create_table(
        "ledger_accounts",
        sa.Column("scope", sa.String(length=100), nullable=False),
        sa.Column("period", sa.String(length=10), nullable=False),
        sa.Column("cap_nusd", sa.BigInteger(), nullable=True),
        sa.Column("reserved_nusd", sa.BigInteger(), nullable=False),
        sa.Column("spent_nusd", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("scope", "period"),
    )


def _create_ledger_clock() -> None:
    op.create_table(
        "ledger_clock",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("last_day", sa.String(length=10), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )


def _create_results() -> None:
    op.create_table(
        "results",
        sa.Column(
            "id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=False, nullable=False
        ),
        sa.Column("result_key", sa.LargeBinary(length=20), nullable=False),
        sa.Column("model", sa.String(length=200), nullable=False),
        sa.Column("refresh_job_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("tier", sa.String(length=50), nullable=False),
        sa.Column("output", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("result_key", "model", "refresh_job_id", name="uq_results_key"),
    )


def _create_samples() -> None:
    op.create_table(
        "samples",
        sa.Column(
            "item_id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=False,
            nullable=False,
        ),
        sa.Column("judged_by", sa.String(length=50), nullable=False),
        sa.Column("job_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("expected", sa.Text(), nullable=False),
        sa.Column("score", sa.Float(), nullable=True),
        sa.Column("field_scores", sa.Text(), nullable=True),
        sa.Column("correct", sa.Boolean(), nullable=True),
        sa.PrimaryKeyConstraint("item_id", "judged_by"),
    )
    with op.batch_alter_table("samples", schema=None) as batch_op:
        batch_op.create_index("ix_samples_job_id", ["job_id"], unique=False)

"""The tables. Money columns end in ``_nusd`` (nano-dollars), times in ``_at`` (Unix seconds, database clock).

Hot tables carry no foreign keys: every writer is in this package, rows are never deleted in mid-run, and a
key check per row would cost as much as the row (measured on ingestion: a third of the insert time).
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)

metadata = MetaData(
    naming_convention={"ix": "ix_%(column_0_label)s", "uq": "uq_%(table_name)s_%(column_0_name)s"}
)

Id = BigInteger().with_variant(Integer, "sqlite")
"""Row ids: SQLite assigns them only for a column of type INTEGER."""

FAULTY: Final = "status IN ('failed', 'rejected')"

jobs = Table(
    "jobs",
    metadata,
    Column("id", Id, primary_key=True, autoincrement=True),
    Column("corpus_key", LargeBinary(20), nullable=False),
    Column("task", String(100), nullable=False),
    Column("paths", Text, nullable=False),
    Column("source_options", Text, nullable=False),
    Column("spec", Text, nullable=False),
    Column("tier", String(50), nullable=False),
    Column("pinned_model", String(200)),
    Column("ladder", Text, nullable=False),
    Column("accepts", Text, nullable=False),
    Column("refresh", Boolean, nullable=False),
    Column("state", String(20), nullable=False),
    Column("reason", Text),
    Column("resume_at", Float),
    Column("max_cost_nusd", BigInteger),
    Column("estimate", Text),
    Column("priority", Integer, nullable=False, server_default="0"),
    Column("purpose", String(20), nullable=False, server_default="answer"),
    Column("parent_id", Id),
    Column("sampling", Text),
    Column("routing", Text),
    Column("ladder_policy_id", Id),
    Column("reader", Text),
    Column("reading_until", Float),
    Column("waiting_reason", Text),
    Column("created_at", Float, nullable=False),
    Column("started_at", Float),
    Column("finished_at", Float),
    Index("ix_jobs_corpus_key", "corpus_key"),
    Index("ix_jobs_state", "state"),
    Index(
        "ix_jobs_parent_id",
        "parent_id",
        sqlite_where=text("parent_id IS NOT NULL"),
        postgresql_where=text("parent_id IS NOT NULL"),
    ),
    sqlite_autoincrement=True,
)
"""``purpose`` is what its calls are paid for: ``answer``, or ``golden`` or ``judge``. A job with a
``parent_id`` checks samples of that job, whose cap pays for it. ``reader`` is the process that reads the
corpus, or the last that did; NULL once all of it is in. Until ``reading_until`` it need not say so again."""

documents = Table(
    "documents",
    metadata,
    Column("hash", LargeBinary(20), primary_key=True),
    Column("text_bytes", Integer, nullable=False),
    Column("image_count", SmallInteger, nullable=False),
    Column("body", LargeBinary, nullable=False),
)
"""``body`` is the zlib-compressed UTF-8 text; pages of image documents stand in ``document_images``."""

document_images = Table(
    "document_images",
    metadata,
    Column("hash", LargeBinary(20), primary_key=True),
    Column("page", SmallInteger, primary_key=True),
    Column("mime", String(50), nullable=False),
    Column("width", Integer, nullable=False),
    Column("height", Integer, nullable=False),
    Column("data", LargeBinary, nullable=False),
)

items = Table(
    "items",
    metadata,
    Column("id", Id, primary_key=True, autoincrement=True),
    Column("job_id", Id, nullable=False),
    Column("source", Text, nullable=False),
    Column("document_hash", LargeBinary(20)),
    Column("result_key", LargeBinary(20)),
    Column("accepts_key", Integer, nullable=False),
    Column("status", String(20), nullable=False),
    Column("tier", String(50), nullable=False),
    Column("ready_at", Float, nullable=False),
    Column("lease_id", Id),
    Column("reused", Boolean, nullable=False),
    Column("result_id", Id),
    Column("error_class", String(30)),
    Column("error", Text),
    Column("start_tier", String(50)),
    Index("uq_items_job_source", "job_id", "source", unique=True),
    Index("ix_items_queue", "job_id", "status", "tier", "ready_at", "id"),
    Index(
        "ix_items_lease",
        "lease_id",
        sqlite_where=text("lease_id IS NOT NULL"),
        postgresql_where=text("lease_id IS NOT NULL"),
    ),
    Index("ix_items_result_key", "result_key"),
    Index(
        "ix_items_faulty",
        "job_id",
        "status",
        "error_class",
        "id",
        sqlite_where=text(FAULTY),
        postgresql_where=text(FAULTY),
    ),
    Index("ix_items_reused", "job_id", sqlite_where=text("reused"), postgresql_where=text("reused")),
    Index(
        "uq_items_in_flight",
        "result_key",
        "accepts_key",
        unique=True,
        sqlite_where=text("status = 'leased'"),
        postgresql_where=text("status = 'leased'"),
    ),
)
"""``uq_items_in_flight`` makes it impossible that two items with one key and one set of models are paid for
at once; the second stays pending and takes the first's answer. See ``twins`` for other sets."""

item_totals = Table(
    "item_totals",
    metadata,
    Column("job_id", Id, primary_key=True, autoincrement=False),
    Column("total", BigInteger, nullable=False),
)
"""How many items each job has. Not a column of ``jobs``: whoever adds items would hold the job's row, which
is the lock of those who hand answers over."""

leases = Table(
    "leases",
    metadata,
    Column("id", Id, primary_key=True, autoincrement=True),
    Column("job_id", Id, nullable=False),
    Column("tier", String(50), nullable=False),
    Column("provider", String(100), nullable=False, server_default=""),
    Column("worker", Text, nullable=False),
    Column("state", String(10), nullable=False),
    Column("day", String(10), nullable=False),
    Column("reserved_nusd", BigInteger, nullable=False),
    Column("expires_at", Float, nullable=False),
    Index("ix_leases_state", "state", "expires_at"),
    sqlite_autoincrement=True,
)
"""A chunk in one worker's hands. Its id is the fencing token; ``reserved_nusd`` is what of the chunk's
reservation no attempt has taken over yet."""

attempts = Table(
    "attempts",
    metadata,
    Column("id", Id, primary_key=True, autoincrement=False),
    Column("item_id", Id, nullable=False),
    Column("job_id", Id, nullable=False),
    Column("lease_id", Id, nullable=False),
    Column("purpose", String(20), nullable=False),
    Column("part", Integer, nullable=False),
    Column("tier", String(50), nullable=False),
    Column("model", String(200), nullable=False),
    Column("provider", String(100), nullable=False),
    Column("state", String(10), nullable=False),
    Column("outcome", String(30)),
    Column("status_code", SmallInteger),
    Column("error", Text),
    Column("request_id", Text),
    Column("day", String(10), nullable=False),
    Column("reserved_nusd", BigInteger, nullable=False),
    Column("cost_nusd", BigInteger, nullable=False),
    Column("price_input_nusd", BigInteger, nullable=False),
    Column("price_output_nusd", BigInteger, nullable=False),
    Column("price_cached_nusd", BigInteger, nullable=False),
    Column("price_cache_write_nusd", BigInteger, nullable=False),
    Column("price_request_nusd", BigInteger, nullable=False, server_default="0"),
    Column("input_tokens", Integer, nullable=False),
    Column("cached_tokens", Integer, nullable=False),
    Column("cache_write_tokens", Integer, nullable=False),
    Column("output_tokens", Integer, nullable=False),
    Column("reasoning_tokens", Integer, nullable=False),
    Column("sent_at", Float, nullable=False),
    Column("latency_s", Float),
    Column("logprob", Float),
    Index("ix_attempts_item_id", "item_id"),
    Index("ix_attempts_day", "day", "job_id"),
    Index(
        "ix_attempts_open",
        "lease_id",
        sqlite_where=text("state = 'sending'"),
        postgresql_where=text("state = 'sending'"),
    ),
    Index(
        "ix_attempts_unknown",
        "job_id",
        sqlite_where=text("state = 'unknown'"),
        postgresql_where=text("state = 'unknown'"),
    ),
)
"""One row per call to a model. The id is ``lease_id << 20 | sequence``: unique without a round trip. The
prices are those that it was charged at: once settled, those of long calls if it was one. ``logprob`` is the
natural logarithm of the probability that the model gave its answer, where that was asked for and told."""

results = Table(
    "results",
    metadata,
    Column("id", Id, primary_key=True, autoincrement=False),
    Column("result_key", LargeBinary(20), nullable=False),
    Column("model", String(200), nullable=False),
    Column("refresh_job_id", Id, nullable=False),
    Column("tier", String(50), nullable=False),
    Column("output", Text, nullable=False),
    Column("created_at", Float, nullable=False),
    UniqueConstraint("result_key", "model", "refresh_job_id", name="uq_results_key"),
)
"""Valid answers, written once; the id is that of the attempt that brought it. ``refresh_job_id`` is 0, or the
``--refresh`` job that asked for a new one."""

tallies = Table(
    "tallies",
    metadata,
    Column("job_id", Id, primary_key=True, autoincrement=False),
    Column("tier", String(50), primary_key=True),
    Column("model", String(200), primary_key=True),
    Column("calls", BigInteger, nullable=False),
    Column("input_tokens", BigInteger, nullable=False),
    Column("cached_tokens", BigInteger, nullable=False),
    Column("output_tokens", BigInteger, nullable=False),
    Column("cost_nusd", BigInteger, nullable=False),
    Column("answered", BigInteger, nullable=False),
)
"""What the settled attempts of a job's tier and model come to, and how many items they answered."""

ledger_accounts = Table(
    "ledger_accounts",
    metadata,
    Column("scope", String(100), primary_key=True),
    Column("period", String(10), primary_key=True),
    Column("cap_nusd", BigInteger),
    Column("reserved_nusd", BigInteger, nullable=False),
    Column("spent_nusd", BigInteger, nullable=False),
)
"""One row per cap and period: scopes ``day``, ``provider:NAME``, ``task:NAME`` and ``tier:NAME`` by date,
scope ``job:ID`` with period ``''``."""

caps = Table(
    "caps",
    metadata,
    Column("scope", String(100), primary_key=True),
    Column("cap_nusd", BigInteger),
)
"""The cap that a new period of a scope starts with; NULL: none, not even the default one of a day."""

ledger_clock = Table(
    "ledger_clock",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("last_day", String(10), nullable=False),
)
"""The latest day that the ledger has booked on: the day never goes back."""

samples = Table(
    "samples",
    metadata,
    Column("item_id", Id, primary_key=True, autoincrement=False),
    Column("judged_by", String(50), primary_key=True),
    Column("job_id", Id, nullable=False),
    Column("expected", Text, nullable=False),
    Column("score", Float),
    Column("field_scores", Text),
    Column("correct", Boolean),
    Column("note", Text),
    Column("judged_at", Float),
    Index("ix_samples_job_id", "job_id"),
)
"""What was found of answers. ``judged_by`` is ``golden`` where the right answer was known beforehand,
``judge:MODEL`` or ``person:NAME``; ``expected`` is JSON, ``null`` where nobody knows what would have been
right. ``score`` stays NULL until the item has an answer that was looked at."""

sampled_items = Table(
    "sampled_items",
    metadata,
    Column("item_id", Id, primary_key=True, autoincrement=False),
    Column("job_id", Id, nullable=False),
    Column("tier", String(50), nullable=False),
    Column("model", String(200), nullable=False),
    Column("probability", Float, nullable=False),
    Column("drawn_at", Float, nullable=False),
    Index("ix_sampled_items_job_id", "job_id"),
)
"""Answers that were drawn for checking: which model gave them, on which tier, and how likely each was to be
drawn."""

ladder_policies = Table(
    "ladder_policies",
    metadata,
    Column("id", Id, primary_key=True, autoincrement=True),
    Column("task", String(100), nullable=False),
    Column("fingerprint", LargeBinary(20), nullable=False),
    Column("policy", Text, nullable=False),
    Column("evidence", Text, nullable=False),
    Column("created_at", Float, nullable=False),
    Index("ix_ladder_policies_fingerprint", "fingerprint"),
    sqlite_autoincrement=True,
)
"""Ladders that were calibrated on golden data, as JSON, with the evidence for them; the newest counts."""

alerts = Table(
    "alerts",
    metadata,
    Column("id", Id, primary_key=True, autoincrement=True),
    Column("rule", String(50), nullable=False),
    Column("scope", String(200), nullable=False),
    Column("day", String(10), nullable=False),
    Column("title", Text, nullable=False),
    Column("body", Text, nullable=False),
    Column("state", String(10), nullable=False),
    Column("taken_by", Text, nullable=False),
    Column("tries", Integer, nullable=False),
    Column("next_try_at", Float, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("sent_at", Float),
    UniqueConstraint("rule", "scope", "day", name="uq_alerts_rule"),
    Index("ix_alerts_state", "state", "next_try_at"),
)
"""What somebody is to hear of: once per rule, scope and ledger day. ``state`` is pending until every channel
has taken it, then sent; ``taken_by`` holds the fingerprints of those that have, a space between two."""

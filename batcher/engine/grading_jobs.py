"""Judges' answers about known documents' answers: what a ladder learns the worth of a judge's word from."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from typing import Final

import orjson
from sqlalchemy import Connection

from batcher.budget.ledger import Ledger
from batcher.domain import JobState, Purpose
from batcher.engine.golden_jobs import NOT_THE_MODELS_FAULT
from batcher.engine.submission import PAUSED_BY_USER, Sources
from batcher.planning.ladder_checks import RungJudging
from batcher.store.database import Store
from batcher.store.ingestion import NewItem, add_items
from batcher.store.job_items import retry_failed
from batcher.store.jobs import (
    Job,
    NewJob,
    create_job,
    find_newest,
    finish_if_complete,
    get_job,
    set_state,
)
from batcher.store.judging import has_pending

_PAGE: Final = 100
"""Questions per transaction: they hold documents."""


def grading_key(judging: RungJudging) -> bytes:
    """What tells one judge of one task from another."""
    return blake2b(
        b"grade\0" + judging.spec.fingerprint + judging.model.name.encode(), digest_size=20
    ).digest()


def open_grading_job(
    store: Store,
    ledger: Ledger,
    judging: RungJudging,
    task: str,
    asked: Iterable[NewItem],
) -> Job:
    """The job that asks a judge about answers to known documents, paused until it is set off.

    There is one for each judge of a task. It asks nothing twice: what it or a climb has asked is there.

    Args:
        store: the store.
        ledger: its books.
        judging: who judges, and what is asked.
        task: the task's name, whose cap holds for it too.
        asked: the questions; see ``ladder_checks.questions``.

    Returns:
        The job; in state ``done`` if nothing is left to ask.
    """
    key = grading_key(judging)
    with store.write() as connection:
        job = _opened(connection, store, ledger, judging, task, key)
    left = iter(asked)
    while page := list(islice(left, _PAGE)):
        with store.write() as connection:
            add_items(connection, job, page)
    with store.write() as connection:
        for failure in NOT_THE_MODELS_FAULT:
            retry_failed(connection, job.id, failure, job.tier)
        if not has_pending(connection, job.id):
            now = store.now(connection)
            set_state(connection, job.id, JobState.RUNNING, now)
            finish_if_complete(connection, job.id, now)
        return get_job(connection, job.id)


def _opened(
    connection: Connection, store: Store, ledger: Ledger, judging: RungJudging, task: str, key: bytes
) -> Job:
    """The judge's job, paused, so that no worker starts on it before its price is told."""
    found, now = find_newest(connection, key), store.now(connection)
    if found is None or found.state is JobState.CANCELLED:
        found = create_job(connection, _new_job(judging, task, key), now)
        ledger.open_job(connection, found.id, None)
    set_state(connection, found.id, JobState.RUNNING, now)
    reason = f"{PAUSED_BY_USER}: its price is not agreed to yet"
    set_state(connection, found.id, JobState.PAUSED, now, reason=reason)
    return found


def _new_job(judging: RungJudging, task: str, key: bytes) -> NewJob:
    return NewJob(
        corpus_key=key,
        task=task,
        paths=(),
        source_options=orjson.dumps(asdict(Sources(folder=str(Path.cwd())))).decode(),
        spec=judging.spec.to_json(),
        tier=judging.tier,
        pinned_model=judging.model.name,
        ladder=(),
        accepts=(judging.model.name,),
        refresh=False,
        max_cost_nusd=None,
        purpose=Purpose.JUDGE,
    )

"""From a request to a job in the store: check everything first, then read the corpus, or take up a job."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from hashlib import blake2b
from itertools import chain
from pathlib import Path
from typing import BinaryIO

import orjson
from sqlalchemy import Connection

from batcher.budget.ledger import Ledger
from batcher.documents.corpus import Parsed, Rejected, SourceOptions, read_corpus
from batcher.documents.paths import STDIN
from batcher.domain import JobState, Purpose
from batcher.engine.children import resume_children
from batcher.engine.ingestion import Intake, ingest
from batcher.engine.reading import expect_reader, paused_if_unread
from batcher.engine.reclaiming import reclaim_lost
from batcher.errors import UsageError
from batcher.planning.entry import EntryRules
from batcher.planning.known import read_known
from batcher.planning.order import Order, corpus_key
from batcher.routing.state import MOST_MOVES, Routing
from batcher.store.database import Store
from batcher.store.job_items import wake_pending
from batcher.store.jobs import Job, NewJob, create_job, find_unfinished, get_job, set_pause_reason, set_state
from batcher.store.leases import active_workers
from batcher.store.reading import end_reading
from batcher.store.routing import set_routing
from batcher.store.steps import resume_stages
from batcher.store.turns import set_priority
from batcher.store.worker_names import process_of
from batcher.tasks.golden import Golden, load_golden

PAUSED_BY_USER = "paused by user"
"""How the reason of a pause begins that only the user ends; ``batcher resume`` without a job leaves it."""


@dataclass(frozen=True, slots=True)
class Sources:
    """How a job's paths are read; stored with the job, so that an ingestion can be finished elsewhere.

    Attributes:
        folder: the working folder that relative paths start from.
        golden: the golden file, absolute.
        known_only: the job's documents are those of the golden file, which is the first of its paths: the
            others are where they are looked for.
    """

    folder: str
    text_column: str | None = None
    id_column: str | None = None
    limit: int | None = None
    golden: str | None = None
    known_only: bool = False

    @classmethod
    def of(cls, job: Job) -> Sources:
        """The stored sources of a job."""
        return cls(**orjson.loads(job.source_options))

    def options(self, max_file_bytes: int) -> SourceOptions:
        """The same in the words of the documents package."""
        return SourceOptions(max_file_bytes, self.text_column, self.id_column, self.limit, self.golden)


@dataclass(frozen=True, slots=True)
class Submitted:
    """A job whose corpus is in the store. ``taken_up`` tells that it was there already, unfinished."""

    job: Job
    intake: Intake
    taken_up: bool


def submit(
    store: Store,
    ledger: Ledger,
    order: Order,
    *,
    max_file_bytes: int,
    key: bytes | None = None,
    shared: bool = False,
    hold: str | None = None,
    stdin: BinaryIO | None = None,
    on_take_up: Callable[[Job], None] = lambda _: None,
    on_progress: Callable[[Intake], None] = lambda _: None,
) -> Submitted:
    """Bring the corpus into the store, as a new job or into the unfinished one of the same request.

    Args:
        store: the store.
        ledger: its books.
        order: what ``check_request`` gave.
        max_file_bytes: larger files are rejected.
        key: the order's ``corpus_key``, if the caller knows it already.
        shared: workers do the work: they may be at this job already.
        hold: keep the job paused with this reason, so that no worker starts before the caller sets it
            running; a job that is under way already is left so.
        stdin: what ``-`` reads.
        on_take_up: told of the unfinished job that is taken up, before its corpus is read.
        on_progress: told of each batch.

    Raises:
        UsageError: if the corpus is empty, or a live process is running the unfinished job.
    """
    key = key or corpus_key(order)
    known = _unfinished(store, key)
    if known is not None:
        job = take_up_request(store, ledger, order, known, shared=shared, hold=hold)
        on_take_up(known)
        intake = finish_ingestion(
            store, job, order.first.image_tier, max_file_bytes=max_file_bytes, golden=order.golden,
            on_progress=on_progress, rules=order.first.entry,
        )  # fmt: skip
        return Submitted(job, intake, taken_up=True)
    sources = sources_of(order)
    with contextlib.closing(
        read_corpus(order.request.paths, sources.options(max_file_bytes), stdin)
    ) as corpus:
        entries = _not_empty(corpus, order.request.paths)
        job = create_requested(store, ledger, order, key, sources, hold)
        intake = ingest(
            store,
            job,
            entries,
            image_tier=order.first.image_tier,
            rules=order.first.entry,
            golden=order.golden,
            on_progress=on_progress,
        )
    return Submitted(job, intake, taken_up=False)


def open_job(store: Store, ledger: Ledger, order: Order, key: bytes) -> Job:
    """A job in state ``ingesting`` whose corpus somebody else reads: the unfinished one, or a new one."""
    known = _unfinished(store, key)
    if known is not None:
        return take_up_request(store, ledger, order, known, shared=True)
    return create_requested(store, ledger, order, key, sources_of(order))


def _unfinished(store: Store, key: bytes) -> Job | None:
    with store.read() as connection:
        return find_unfinished(connection, key)


def take_up_request(
    store: Store, ledger: Ledger, order: Order, known: Job, *, shared: bool, hold: str | None = None
) -> Job:
    """Set the unfinished job of a request going again, with what the request asks for anew.

    Raises:
        UsageError: if a live process is running it.
    """
    held = hold is not None and known.state is JobState.PAUSED
    job = take_up(store, ledger, known.id, JobState.PAUSED if held else JobState.INGESTING, shared=shared)
    request = order.request
    with store.write() as connection:
        if held and hold is not None:
            set_pause_reason(connection, job.id, hold)
        if request.max_cost_nusd is not None:
            ledger.set_job_cap(connection, job.id, request.max_cost_nusd)
        if request.priority is not None:
            set_priority(connection, job.id, request.priority)
        if order.routing is not None:
            return _routed_anew(connection, job, order.routing)
    return job


def _routed_anew(connection: Connection, job: Job, wanted: Routing) -> Job:
    """A job with the routing that a request asks for now; what was chosen so far stays in its history."""
    before = Routing.of(job)
    if before is not None:
        moved = wanted.moves if wanted.model != before.model else ()
        wanted = replace(wanted, moves=(*before.moves, *moved)[-MOST_MOVES:])
    routing = wanted.to_json()
    set_routing(connection, job.id, routing)
    return replace(job, routing=routing)


def take_up(store: Store, ledger: Ledger, job_id: int, target: JobState, *, shared: bool = False) -> Job:
    """Set an unfinished job going again.

    Args:
        store: the store.
        ledger: its books.
        job_id: the job.
        target: ``running``, or ``ingesting`` if its corpus is to be read again.
        shared: workers do the work: they may be at it already.

    Raises:
        UsageError: if a live process works on it that would not share it, or it was cancelled.
    """
    reclaim_lost(store, ledger)
    with store.write() as connection:
        if not shared and (running := live_worker(active_workers(connection, job_id))):
            raise UsageError(
                f"Job {job_id} is being run right now by {running}. Watch it: batcher status {job_id} --watch"
            )
        job = get_job(connection, job_id)
        wake_pending(connection, job_id)
        if job.state is not target and not set_state(connection, job_id, target, store.now(connection)):
            raise UsageError(f"Job {job_id} is {job.state} and cannot be set going. Submit it again")
        if target is JobState.INGESTING:
            expect_reader(connection, job_id, store.now(connection))
        elif target is JobState.RUNNING:
            end_reading(connection, job_id)
        resume_stages(connection, job_id, target, store.now(connection))
        resume_children(connection, job_id, store.now(connection), unless=PAUSED_BY_USER)
        return replace(job, state=target, reason=None, resume_at=None)


def live_worker(workers: Iterable[tuple[int, str]]) -> str | None:
    """Process and host of the first of these leases' owners, for people; None if there is none."""
    return next((process_of(worker) for _, worker in workers), None)


def finish_ingestion(
    store: Store,
    job: Job,
    image_tier: str | None,
    *,
    max_file_bytes: int,
    golden: Golden | None = None,
    on_progress: Callable[[Intake], None] = lambda _: None,
    rules: EntryRules | None = None,
) -> Intake:
    """Read a job's sources again and add what is missing; the job runs afterwards.

    Raises:
        UsageError: if its folder or its sources are gone.
    """
    with paused_if_unread(store, job.id):
        sources = Sources.of(job)
        if golden is None and sources.golden is not None:
            golden = load_golden(sources.golden)
        if golden is not None and sources.known_only:
            known = read_known(golden, job.paths[1:], sources.options(max_file_bytes))
            return ingest(
                store, job, known.documents, image_tier=image_tier, golden=known, on_progress=on_progress
            )
        with (
            _in_folder(sources.folder),
            contextlib.closing(read_corpus(job.paths, sources.options(max_file_bytes))) as corpus,
        ):
            return ingest(
                store, job, corpus, image_tier=image_tier, golden=golden, on_progress=on_progress, rules=rules
            )


def can_be_read_again(job: Job) -> bool:
    """Whether the job's sources are still there to be read: standard input is not."""
    return STDIN not in job.paths


def sources_of(order: Order) -> Sources:
    """How a request's paths are read."""
    request = order.request
    return Sources(
        folder=str(Path.cwd()),
        text_column=request.text_column,
        id_column=request.id_column,
        limit=request.limit,
        golden=str(request.golden.resolve()) if request.golden else None,
        known_only=request.purpose is Purpose.GOLDEN,
    )


def _not_empty(
    corpus: Generator[Parsed | Rejected, None, None], paths: Sequence[str]
) -> Iterator[Parsed | Rejected]:
    first = next(corpus, None)
    if first is None:
        raise UsageError(f"There are no documents in {', '.join(paths)}. Hidden files are left out")
    return chain([first], corpus)


def create_requested(
    store: Store, ledger: Ledger, order: Order, key: bytes, sources: Sources, hold: str | None = None
) -> Job:
    """A new job for a request, its corpus still to be read; paused if there is a reason to hold it.

    The jobs of its earlier steps are made with it.
    """
    request = order.request
    new = replace(
        _new_job(order, order.task.name, key),
        paths=request.paths,
        source_options=orjson.dumps(asdict(sources)).decode(),
        max_cost_nusd=request.max_cost_nusd,
        sampling=None if order.sampling is None else order.sampling.to_json(),
        routing=None if order.routing is None else order.routing.to_json(),
    )
    with store.write() as connection:
        job = create_job(connection, new, store.now(connection))
        expect_reader(connection, job.id, store.now(connection))
        ledger.open_job(connection, job.id, request.max_cost_nusd)
        for step in order.stages:
            own = blake2b(f"step {job.id} {step.spec.stage}".encode(), digest_size=20).digest()
            stage = replace(_new_job(step, order.task.name, own), parent_id=job.id)
            create_job(connection, stage, store.now(connection))
        if request.priority is not None:
            set_priority(connection, job.id, request.priority)
        if hold is not None:
            set_state(connection, job.id, JobState.PAUSED, store.now(connection), reason=hold)
        return job


def _new_job(step: Order, task: str, key: bytes) -> NewJob:
    """One step of a request. All stand under the task's name: its cap is one for all of them."""
    request = step.request
    return NewJob(
        corpus_key=key,
        task=task,
        paths=(),
        source_options="{}",
        spec=step.spec.to_json(),
        tier=step.queue,
        pinned_model=step.pinned_model,
        ladder=() if step.pinned_model else step.ladder,
        accepts=step.accepts,
        refresh=request.refresh,
        max_cost_nusd=None,
        purpose=request.purpose,
        ladder_policy_id=step.ladder_policy_id,
    )


@contextlib.contextmanager
def _in_folder(folder: str) -> Iterator[None]:
    """Relative paths mean what they meant when the job was submitted."""
    try:
        context = contextlib.chdir(folder)
        context.__enter__()
    except OSError as error:
        raise UsageError(
            f"The job was submitted in {folder}, which cannot be entered: {error.strerror}."
        ) from error
    try:
        yield
    finally:
        context.__exit__(None, None, None)

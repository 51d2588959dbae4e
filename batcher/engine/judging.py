"""Has drawn answers judged: makes the judges' jobs and their items, and writes down what they say.

A judge's job has the judged one as its parent: that one's cap pays for it, and its run works on it. Its items
are named by the item that they judge, so that none is made twice.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import defaultdict
from collections.abc import Sequence
from hashlib import blake2b
from typing import Final

import orjson
from sqlalchemy import Connection, select

from batcher.alerts.book import Alert, Rule, raise_alert
from batcher.alerts.jobs import ON_PURPOSE
from batcher.budget.ledger import Ledger
from batcher.catalog.models import Model
from batcher.domain import JobState, Purpose
from batcher.engine.pace import Pace
from batcher.errors import CatalogError, ConfigurationError, UsageError
from batcher.planning.admission import result_key
from batcher.planning.judges import Judges
from batcher.planning.sampling import judge_tier
from batcher.quality.judge import judge_spec, judged_document
from batcher.quality.judgements import Question, note_asked, open_questions, take_verdicts
from batcher.quality.sampling import Sampling
from batcher.store.database import Store
from batcher.store.documents import images_of, text_of
from batcher.store.ingestion import NewItem, add_items
from batcher.store.jobs import Job, NewJob, create_job, get_job, set_state
from batcher.store.judging import children_of, has_pending, jobs_to_judge
from batcher.store.ladders import get_ladder
from batcher.store.tables import jobs
from batcher.store.turns import set_priority
from batcher.tasks.spec import TaskSpec

_log = logging.getLogger("batcher.judging")

PAGE: Final = 100
"""Questions per transaction: they hold documents."""

LOOK_EVERY_S: Final = 5.0
LOOK_SHARE: Final = 20
"""Looking for something to judge may take a twentieth of a run's time."""

_TELL_EVERY_S: Final = 3_600.0
"""The book of alerts keeps one a day; a process need not offer it more often than this."""

_LEAST_PRIORITY: Final = -100
"""While there are answers to be made, judging takes a hundredth of a tier's turns."""


class Judging:
    """Keeps up with what is drawn.

    Args:
        store: the store.
        ledger: tells the day of an alert.
        judges: who may judge a job's answers.
    """

    def __init__(self, store: Store, ledger: Ledger, judges: Judges) -> None:
        self._store = store
        self._ledger = ledger
        self._judges = judges
        self._unjudged: set[int] = set()
        self._tell_again_at: dict[int, float] = {}
        self._of_ladders: dict[int | None, str | None] = {}
        self._turn = threading.Lock()
        self._pace = Pace(LOOK_EVERY_S, LOOK_SHARE)

    def keep_up(self, job_ids: Sequence[int] | None, *, at_once: bool = False) -> bool:
        """Write down new verdicts and ask for those that are missing.

        Args:
            job_ids: jobs of a run, judged ones or judges' own; None for all that may need it.
            at_once: look even if the last look was a moment ago.

        Returns:
            Whether there is new work for an engine.
        """
        if not (at_once or self._pace.is_due()):
            return False
        with self._pace.looking(), self._turn:
            made = sum([self._look_after(job) for job in self._to_judge(job_ids)])
        return made > 0

    def _to_judge(self, job_ids: Sequence[int] | None) -> list[Job]:
        """The jobs whose samples a judge is to look at."""
        unknown = None if job_ids is None else [job_id for job_id in job_ids if job_id not in self._unjudged]
        if unknown is not None and not unknown:
            return []
        with self._store.read() as connection:
            found = jobs_to_judge(connection, unknown, self._store.now(connection))
        judged = [job for job in found if (sampling := Sampling.of(job)) and sampling.judge]
        self._unjudged |= {job.id for job in found} - {job.id for job in judged}
        return judged

    def _look_after(self, job: Job) -> int:
        self._take_verdicts(job)
        sampling = Sampling.of(job)
        if sampling is None or sampling.judge is None:
            return 0
        try:
            judges = self._judges.models_for(job, sampling.judge)
        except (CatalogError, ConfigurationError, UsageError):
            made = 0
        else:
            with self._store.write() as connection:
                made = self._ask(connection, job, sampling, judges)
        if not made and time.monotonic() >= self._tell_again_at.get(job.id, 0.0):
            self._tell_trouble(job)
        return made

    def _tell_trouble(self, job: Job) -> None:
        """Put an alert into the book if judging cannot go on unless somebody sees to it: one a day."""
        with self._store.read() as connection:
            found = self._judges.state_of(connection, job)
        why = None if found is None else found.trouble
        if found is None or why is None or (found.reason or "").startswith(ON_PURPOSE):
            return
        self._tell_again_at[job.id] = time.monotonic() + _TELL_EVERY_S
        _log.warning("Samples of job %s are not judged: %s", job.id, why)
        alert = Alert(
            Rule.JOB_FAILED,
            f"job:{job.id}/judge",
            f"Job {job.id}: {found.total - found.judged:,} of its answers are not judged",
            f"{job.task}. {why}.\nSee: batcher status {job.id}. When it is mended: "
            f"{'batcher resume' if found.waiting else 'batcher retry'} {job.id}",
        )
        with self._store.write() as connection:
            self._ledger.lock(connection, brief=True)
            raise_alert(connection, alert, self._ledger.today(connection), self._store.now(connection))

    def _take_verdicts(self, job: Job) -> None:
        with self._store.read() as connection:
            children = children_of(connection, job.id)
        for child in children:
            taken = PAGE
            while taken:
                with self._store.write() as connection:
                    now = self._store.now(connection)
                    taken = take_verdicts(connection, job.id, child.id, child.pinned_model or "", now)

    def _ask(self, connection: Connection, job: Job, sampling: Sampling, judges: Sequence[Model]) -> int:
        """Make the items of judges for a page of answers; returns how many there is work for."""
        # One process at a time: two would make two jobs of one judge.
        connection.execute(select(jobs.c.id).where(jobs.c.id == job.id).with_for_update())
        spec = TaskSpec.from_json(job.spec)
        if job.ladder_policy_id not in self._of_ladders:
            self._of_ladders[job.ladder_policy_id] = _judge_of_ladder(connection, job.ladder_policy_id)
        of_ladder = self._of_ladders[job.ladder_policy_id]
        judges = [model for model in judges if model.name != of_ladder]
        by_judge: dict[str | None, list[Question]] = defaultdict(list)
        for question in open_questions(connection, job.id, judged=spec.judged, limit=PAGE):
            judge = choose_judge(judges, question, judge_own=sampling.judge_own)
            by_judge[None if judge is None else judge.name].append(question)
        made = 0
        for model in judges:
            questions = by_judge.get(model.name, [])
            if questions:
                self._give_to(connection, job, spec, sampling, model, questions)
                made += len(questions)
        note_asked(connection, job.id, [one.item_id for one in by_judge[None]], None)
        return made + self._reopen(connection, job.id)

    def _give_to(
        self,
        connection: Connection,
        job: Job,
        spec: TaskSpec,
        sampling: Sampling,
        model: Model,
        questions: Sequence[Question],
    ) -> None:
        child = self._child(connection, job, spec, sampling, model)
        judging = TaskSpec.from_json(child.spec)
        batch = [_item(connection, judging, question) for question in questions]
        add_items(connection, child, batch)
        note_asked(connection, job.id, [question.item_id for question in questions], model.name)

    def _child(
        self, connection: Connection, job: Job, spec: TaskSpec, sampling: Sampling, model: Model
    ) -> Job:
        """The job of a judge; made if it is not there."""
        known = next((one for one in children_of(connection, job.id) if one.pinned_model == model.name), None)
        if known is not None:
            return known
        tier = judge_tier(self._judges.catalog, sampling.judge or "", model)
        now = self._store.now(connection)
        child = create_job(connection, _new_child(job, judge_spec(spec, tier), tier, model), now)
        set_priority(connection, child.id, _LEAST_PRIORITY)
        set_state(connection, child.id, JobState.RUNNING, now)
        return get_job(connection, child.id)

    def _reopen(self, connection: Connection, job_id: int) -> int:
        """Set judges' jobs going again that were done before there was more to judge; returns how many."""
        now = self._store.now(connection)
        done = [child for child in children_of(connection, job_id) if child.state is JobState.DONE]
        return sum(
            set_state(connection, child.id, JobState.RUNNING, now)
            for child in done
            if has_pending(connection, child.id)
        )


def choose_judge(judges: Sequence[Model], question: Question, *, judge_own: bool) -> Model | None:
    """The first of these models that can judge an answer and did not give it; None if there is none."""
    fit = (
        model
        for model in judges
        if (judge_own or model.name != question.model)
        and (not question.image_count or "vision" in model.abilities)
    )
    return next(fit, None)


def _item(connection: Connection, judging: TaskSpec, question: Question) -> NewItem:
    images = images_of(connection, question.document_hash) if question.image_count else ()
    document = judged_document(text_of(question.body), images, question.output, question.expected)
    return NewItem(str(question.item_id), document, result_key(judging, document))


def _new_child(job: Job, spec: TaskSpec, tier: str, model: Model) -> NewJob:
    key = blake2b(f"judge {job.id} {model.name}".encode(), digest_size=20).digest()
    return NewJob(
        corpus_key=key,
        task=job.task,
        paths=(),
        source_options="{}",
        spec=spec.to_json(),
        tier=tier,
        pinned_model=model.name,
        ladder=(),
        accepts=(model.name,),
        refresh=False,
        max_cost_nusd=None,
        purpose=Purpose.JUDGE,
        parent_id=job.id,
    )


def _judge_of_ladder(connection: Connection, ladder_id: int | None) -> str | None:
    """The model on whose word answers of a ladder stand, which cannot check them; None if there is none."""
    if ladder_id is None:
        return None
    judge = orjson.loads(get_ladder(connection, ladder_id).policy)["judge"]
    return None if judge is None else str(judge)

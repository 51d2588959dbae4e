"""``batcher plan``: what a request would cost and take, before anything is written, sent or spent."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import TYPE_CHECKING

import click

from batcher.cli.output import echo_json, note
from batcher.cli.request_options import request_options
from batcher.cli.routing_options import allowed_models, privacy_explained, routed
from batcher.errors import CatalogError, ConfigurationError, UsageError
from batcher.settings import Settings

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from batcher.budget.ledger import Ledger
    from batcher.catalog.models import Model
    from batcher.planning.caps import Books
    from batcher.planning.choice import Usable
    from batcher.planning.judging import JudgePricer
    from batcher.planning.order import Order, SubmitRequest
    from batcher.planning.plan import Plan, Planner
    from batcher.planning.sizes import Size
    from batcher.planning.staged_plan import StagedPlan
    from batcher.planning.survey import Stored, Survey
    from batcher.runtime import Runtime
    from batcher.store.database import Store
    from batcher.store.jobs import Job
    from batcher.tasks.spec import TaskSpec


@click.command("plan")
@request_options
@click.option(
    "--finish-by",
    metavar="TIME",
    help="Say whether it would be done by HH:MM (the next one, in the configured time_zone) or by an ISO date"
    " and time.",
)
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
@click.pass_obj
def plan(settings: Settings, request: SubmitRequest, finish_by: str | None, as_json: bool) -> None:
    """Say what a submission would cost and take.

    Takes what submit takes, reads the corpus and looks into the store; writes, sends and spends nothing. It
    tells what is new, the cost on every model as low, likely and high, whether it fits today's caps, and how
    long it takes at the known rate limits.
    """
    from batcher.cli.plan_view import echo_plan, plan_json
    from batcher.planning.staged_plan import StagedPlan
    from batcher.runtime import Runtime

    found = _make_plan(Runtime(settings), request, finish_by)
    if isinstance(found, StagedPlan):
        _echo_staged(found, as_json=as_json)
    elif as_json:
        echo_json(plan_json(found))
    else:
        echo_plan(found)


def _echo_staged(plan: StagedPlan, *, as_json: bool) -> None:
    from batcher.cli.staged_plan_view import echo_staged_plan, staged_plan_json

    if as_json:
        echo_json(staged_plan_json(plan))
    else:
        echo_staged_plan(plan)


def _make_plan(runtime: Runtime, request: SubmitRequest, finish_by: str | None) -> Plan | StagedPlan:
    from batcher.store.database import Store
    from batcher.store.schema import open_to_read

    with privacy_explained(runtime, request):
        order, usable = _checked(runtime, request)
    url = runtime.settings.store_url()
    store = open_to_read(url)
    if store is None:
        # Never connected to: it lends its dialect to a ledger that tells when days begin.
        route = _routes(runtime, order, None, time.time(), usable)
        return _plan(runtime, route, Store(url, read_only=True), None, finish_by)
    with closing(store), store.read() as connection:
        route = _routes(runtime, order, connection, store.now(connection), usable)
        return _plan(runtime, route, store, connection, finish_by)


def _routes(
    runtime: Runtime, order: Order, connection: Connection | None, now: float, usable: Usable
) -> Callable[[Sequence[Size]], Order]:
    """What gives the order its model, for documents of these sizes; without any, as far as it is known."""

    def route(sizes: Sequence[Size]) -> Order:
        return routed(runtime, order, connection, now, usable, sizes)

    return route


def _checked(runtime: Runtime, request: SubmitRequest) -> tuple[Order, Usable]:
    """The checked request and which models take part: without a key for it, as if there were one for all."""
    from batcher.planning.order import check_request

    quality = runtime.settings.quality
    try:
        order = check_request(request, runtime.catalog, allowed_models(runtime, request.route), quality)
        return order, runtime.is_usable
    except CatalogError:
        raise
    except ConfigurationError as error:
        if request.route.privacy is not None:
            raise
        order = check_request(request, runtime.catalog, _any, quality)
        note(f"{error}. Planned as if there were a key for every model.")
        return order, _any


def _any(_: Model) -> bool:
    return True


def _plan(
    runtime: Runtime,
    route: Callable[[Sequence[Size]], Order],
    store: Store,
    connection: Connection | None,
    finish_by: str | None,
) -> Plan | StagedPlan:
    """The plan.

    Args:
        runtime: settings and catalogue; its store is not touched, because opening that writes.
        route: gives the checked request its model.
        store: the same store, read only.
        connection: a transaction on it; None if there is none yet.
        finish_by: as the user wrote it.
    """
    from batcher.budget.ledger import Ledger
    from batcher.dispatch.finish_by import parse_finish_by
    from batcher.planning.evidence import Knowledge, known_answers
    from batcher.planning.history import History, read_history
    from batcher.planning.order import corpus_key
    from batcher.planning.plan import Planner
    from batcher.planning.staged_plan import plan_steps
    from batcher.store.jobs import find_unfinished
    from batcher.store.stages import steps_of

    settings, order = runtime.settings, route(())
    ledger = Ledger(store, settings.time_zone)
    known = None if connection is None else find_unfinished(connection, corpus_key(order))
    books = _books(runtime, order, store, ledger, connection, known)
    until = parse_finish_by(finish_by, books.now, settings.time_zone).at if finish_by is not None else None
    jobs: list[Job | None] = [None] * len(order.steps)
    if connection is not None and known is not None:
        jobs = [*steps_of(connection, known.id)]
    steps = zip(order.steps, jobs, strict=True)
    surveys = _survey(runtime, [(step, _stored(step, connection, job)) for step, job in steps])
    if order.routing is not None and (sizes := surveys[0].sizes()):
        order = route(sizes)

    def planner(step: Order, survey: Survey) -> Planner:
        history = History() if connection is None else read_history(connection, step.spec, runtime.catalog)
        golden = known_answers(order.golden, order.task) if step is order else []
        return Planner(
            order=step,
            catalog=runtime.catalog,
            is_usable=runtime.is_usable,
            survey=survey,
            knowledge=Knowledge(step.spec, history, golden),
            books=books,
            ledger=ledger,
            concurrency=settings.concurrency,
            judge=_judge_pricer(runtime, step, connection),
        )

    taken_up = known.id if known else None
    if order.stages:
        return plan_steps(planner, order.steps, surveys, until, taken_up)
    return planner(order, surveys[0]).plan(until, taken_up)


def _judge_pricer(runtime: Runtime, order: Order, connection: Connection | None) -> JudgePricer | None:
    """What prices the judging of a step's answers; None if nobody judges them."""
    from batcher.planning.history import History, read_history
    from batcher.planning.judging import JudgePricer
    from batcher.store.ladders import answers_of_ladder

    if order.sampling is None or order.sampling.judge is None:
        return None

    def history_of(asked: TaskSpec) -> History:
        if connection is None:
            return History()
        return read_history(connection, asked, runtime.catalog, judging=True)

    climbed = {}
    if connection is not None and order.ladder_policy_id is not None:
        climbed = answers_of_ladder(connection, order.ladder_policy_id)
    usable = allowed_models(runtime, order.request.route)
    return JudgePricer(order.sampling, runtime.catalog, usable, history_of, climbed)


def _books(
    runtime: Runtime,
    order: Order,
    store: Store,
    ledger: Ledger,
    connection: Connection | None,
    known: Job | None,
) -> Books:
    from batcher.planning.caps import first_books, read_books

    zone, max_cost_nusd = runtime.settings.time_zone, order.request.max_cost_nusd
    if connection is None:
        return first_books(time.time(), zone, max_cost_nusd)
    return read_books(store, connection, ledger, zone, known.id if known else None, max_cost_nusd)


def _stored(order: Order, connection: Connection | None, known: Job | None) -> Stored | None:
    from batcher.planning.survey import Stored

    if connection is None:
        return None
    refresh_key = 0 if not order.request.refresh else known.refresh_key if known else None
    return Stored(connection, order.accepts, refresh_key, known.id if known else None)


def _survey(runtime: Runtime, steps: list[tuple[Order, Stored | None]]) -> list[Survey]:
    """What each step of the order has to do."""
    from batcher.cli.reading import ReadingNote
    from batcher.documents.corpus import read_corpus
    from batcher.engine.ingestion import Intake
    from batcher.engine.submission import sources_of
    from batcher.planning.staged_plan import survey_steps
    from batcher.planning.survey import take_survey

    order, stored = steps[0]
    request = order.request
    max_file_bytes = int(runtime.settings.max_file_mb * 1_000_000)
    options = sources_of(order).options(max_file_bytes)
    with (
        ReadingNote() as reading,
        closing(read_corpus(request.paths, options, sys.stdin.buffer)) as corpus,
    ):

        def show(read: int, rejected: int) -> None:
            reading.show(Intake(read, rejected))

        if len(steps) > 1:
            surveys = survey_steps(corpus, steps, on_progress=show)
        else:
            surveys = [take_survey(corpus, order.spec, order.image_tier, stored, show, order.entry)]
    if not surveys[0].read:
        raise UsageError(f"There are no documents in {', '.join(request.paths)}. Hidden files are left out")
    return surveys

"""``batcher evaluate``: how accurate models are on known answers, what that costs, and which one to take."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from batcher.cli.arguments import MANY, Finite
from batcher.cli.known_answers import known_answer_options, known_answer_request
from batcher.cli.log_lines import LogFormat, begin_log, is_watched
from batcher.cli.output import echo_json, note
from batcher.cli.request_options import table_options
from batcher.errors import UsageError
from batcher.settings import Settings

if TYPE_CHECKING:
    from batcher.cli.confirming import PricedJob
    from batcher.planning.known import KnownDocuments
    from batcher.planning.order import Order, SubmitRequest
    from batcher.quality.evaluation import Measurement
    from batcher.runtime import Runtime
    from batcher.store.jobs import Job


@click.command("evaluate")
@known_answer_options
@click.option(
    "--floor",
    type=Finite(0, 1),
    metavar="SHARE",
    help="The least accuracy that is good enough, 0 to 1. Default: the task's.",
)
@click.option(
    "--confidence",
    type=Finite(0.5, 0.9999),
    default=0.95,
    show_default=True,
    help="Of the intervals, and of the verdict.",
)
@click.option(
    "--monthly", type=MANY, default=100_000, show_default=True, metavar="N", help="Documents a month."
)
@click.option("--limit", type=MANY, help="Measure on so many rows, drawn by chance, always the same ones.")
@click.option(
    "--max-cost", metavar="USD", help="A cap on all of it, earlier starts included, beside the daily one."
)
@table_options
@click.option(
    "--picture",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Draw cost against accuracy, as an SVG.",
)
@click.option("--yes", "-y", is_flag=True, help="Ask nothing; nothing is asked without a terminal either.")
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
@click.pass_obj
def evaluate(
    settings: Settings,
    paths: tuple[str, ...],
    task: str,
    golden: Path,
    params: tuple[str, ...],
    models: tuple[str, ...],
    tiers: tuple[str, ...],
    floor: float | None,
    confidence: float,
    monthly: int,
    limit: int | None,
    max_cost: str | None,
    text_column: str | None,
    id_column: str | None,
    picture: Path | None,
    yes: bool,
    as_json: bool,
) -> int:
    """Measure models on documents whose right answer is known.

    Asks every model for every document, under all caps, and tells how often each was right, what a correct
    answer cost, and which is the cheapest that clears the floor. Answers that are stored already are not
    asked for again: a second run costs nothing, and one that was stopped goes on.
    """
    from batcher.money import usd_to_nusd
    from batcher.runtime import Runtime

    if picture is not None:
        _check_picture(picture)
    request = known_answer_request(
        paths, task, golden, params, limit=limit, text_column=text_column, id_column=id_column
    )
    wanted = Wanted(models, tiers, floor, confidence, monthly, picture, yes=yes, as_json=as_json)
    cap_nusd = None if max_cost is None else usd_to_nusd(max_cost)
    return _evaluate(Runtime(settings), request, wanted, cap_nusd)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is measured beside the request, and how it is told."""

    models: tuple[str, ...]
    tiers: tuple[str, ...]
    floor: float | None
    confidence: float
    monthly: int
    picture: Path | None
    yes: bool
    as_json: bool


def _check_picture(path: Path) -> None:
    if path.suffix.lower() != ".svg":
        raise UsageError(f"--picture draws an SVG: name a file that ends in .svg, not {path}")
    if not path.absolute().parent.is_dir():
        raise UsageError(f"--picture: there is no folder {path.absolute().parent}")


def _evaluate(runtime: Runtime, request: SubmitRequest, wanted: Wanted, cap_nusd: int | None) -> int:
    from batcher.cli.golden_notes import note_unfit
    from batcher.cli.judging_control import note_own_judge
    from batcher.cli.local_weights import ensure_weights
    from batcher.planning.candidates import candidate_orders

    orders = candidate_orders(
        request,
        wanted.models,
        wanted.tiers,
        runtime.catalog,
        runtime.is_usable,
        judge_own=runtime.settings.quality.judge_own,
    )
    note_unfit(orders[0])
    note_own_judge(runtime, orders)
    known = known_documents(runtime, orders[0])
    if not is_watched():
        begin_log(LogFormat.TEXT)
    for order in orders:
        ensure_weights(runtime, order.model, yes=wanted.yes)
    code, spent_nusd, jobs = measure_models(runtime, orders, known, wanted, cap_nusd)
    if jobs is None:
        return code
    return _tell(runtime, orders, jobs, known, wanted, spent_nusd) or code


def known_documents(runtime: Runtime, order: Order) -> KnownDocuments:
    """The documents of the golden file; says which of its rows are left out."""
    from batcher.cli.golden_notes import note_doubles, note_left_out, note_scoring
    from batcher.engine.submission import sources_of
    from batcher.planning.known import read_known

    assert order.golden is not None
    note_scoring(order)
    options = sources_of(order).options(int(runtime.settings.max_file_mb * 1_000_000))
    known = read_known(order.golden, order.request.paths[1:], options)
    note_left_out(order.golden, known)
    note_doubles(order.golden, known)
    return known


def measure_models(
    runtime: Runtime, orders: list[Order], known: KnownDocuments, wanted: Wanted, cap_nusd: int | None
) -> tuple[int, int, list[Job] | None]:
    """Ask for what is not known yet: the exit code, what that cost, and the jobs; None if it is put off."""
    from batcher.cli.confirming import agreed, price_job, set_off
    from batcher.cli.judging_control import is_judging_open, take_up_judging
    from batcher.cli.locking import single_run
    from batcher.domain import JobState
    from batcher.engine.golden_jobs import open_golden_job
    from batcher.engine.submission import PAUSED_BY_USER
    from batcher.planning.order import corpus_key

    shared = runtime.settings.broker_url is not None
    # Workers would start at once, before the price is agreed to and the cap is shared out.
    hold = f"{PAUSED_BY_USER}: its price is not agreed to yet" if shared else None
    keys = [corpus_key(order) for order in orders]
    with ExitStack() as locks:
        for key in sorted(set(keys)):
            locks.enter_context(single_run(runtime, key))
        for order, key in zip(orders, keys, strict=True):
            _judge_as_asked(runtime, order, key)
        jobs = [
            open_golden_job(runtime.store, runtime.ledger, order, known, key=key, shared=shared, hold=hold)
            for order, key in zip(orders, keys, strict=True)
        ]
        open_jobs = [job for job in jobs if job.state is not JobState.DONE or is_judging_open(runtime, job)]
        prices = {job.id: price_job(runtime, job) for job in open_jobs}
        _note_prices(jobs, known, prices)
        worst_nusd = sum(price.all.worst_nusd for price in prices.values())
        if not agreed(runtime, open_jobs, worst_nusd, yes=wanted.yes):
            return 1, 0, None
        _set_caps(runtime, cap_nusd, jobs, prices)
        if not open_jobs:
            return _outcome(runtime, jobs), 0, jobs
        for job in open_jobs:
            set_off(runtime, job)
            if job.state is JobState.DONE:
                take_up_judging(runtime, job)
        if shared:
            locks.close()
        code, spent_nusd = _ask(runtime, open_jobs)
        return max(code, _outcome(runtime, jobs)), spent_nusd, jobs


def _judge_as_asked(runtime: Runtime, order: Order, key: bytes) -> None:
    """Let the answers of an earlier run be judged as the task now says; say that this is done anew."""
    from batcher.engine.judging_changes import judge_as_asked
    from batcher.store.jobs import find_newest

    with runtime.store.read() as connection:
        job = find_newest(connection, key)
    if job is None:
        return
    count = judge_as_asked(runtime.store, job, order.spec, order.sampling)
    if count:
        note(
            f"Job {job.id}, {order.model.name}: {count:,} verdicts are of another judge or rubric than the "
            "task's: they are asked for anew."
        )


def _outcome(runtime: Runtime, jobs: list[Job]) -> int:
    """The exit code that what became of all jobs asks for, in this run or in an earlier one."""
    from batcher.cli.job_view import read_job_view
    from batcher.cli.judging_control import judging_code
    from batcher.cli.running import exit_code

    codes = [(exit_code(runtime, read_job_view(runtime, job.id)), judging_code(runtime, job)) for job in jobs]
    return max(max(pair) for pair in codes)


def _ask(runtime: Runtime, jobs: list[Job]) -> tuple[int, int]:
    """Run golden jobs until they are answered and judged, as far as that goes: exit code, nano-dollars."""
    from batcher.budget.spend import job_balances
    from batcher.cli.running import explain_stop, run_jobs

    def spent_nusd() -> int:
        with runtime.store.read() as connection:
            balances = job_balances(connection)
        return sum(balances[job.id].spent_nusd for job in jobs if job.id in balances)

    before_nusd = spent_nusd()
    run = run_jobs(runtime, [job.id for job in jobs])
    explain_stop(run)
    return run.exit_code, spent_nusd() - before_nusd


def _set_caps(runtime: Runtime, cap_nusd: int | None, jobs: list[Job], prices: dict[int, PricedJob]) -> None:
    """Share out what all jobs have left of the cap, earlier starts included; without one, lift theirs."""
    from batcher.budget.ledger import job_account
    from batcher.money import format_usd
    from batcher.planning.candidates import share_cap

    if cap_nusd is None:
        with runtime.store.write() as connection:
            for job_id in prices:
                runtime.ledger.set_job_cap(connection, job_id, None)
        return
    with runtime.store.write() as connection:
        spent_nusd = {
            job.id: sum(
                balance.spent_nusd + balance.reserved_nusd
                for balance in runtime.ledger.balances(connection, [job_account(job.id)])
            )
            for job in jobs
        }
        left_nusd = cap_nusd - sum(spent_nusd.values())
        shares = share_cap(left_nusd, {job_id: price.all.worst_nusd for job_id, price in prices.items()})
        for job_id, share_nusd in shares.items():
            runtime.ledger.set_job_cap(connection, job_id, spent_nusd[job_id] + share_nusd)
    if shares and left_nusd <= 0:
        note(
            f"These jobs have spent {format_usd(sum(spent_nusd.values()))} already, which is all of "
            "--max-cost: go on with a larger one."
        )


def _note_prices(jobs: list[Job], known: KnownDocuments, prices: dict[int, PricedJob]) -> None:
    """What is left to ask each model, and what that costs."""
    from batcher.cli.confirming import judging_note
    from batcher.money import format_usd

    for job in jobs:
        priced = prices.get(job.id)
        left = priced.all.items if priced else 0
        told = f"{left:,} of {len(known.documents):,} documents to ask" if left else "nothing left to ask"
        told += " but the judge" if not left and priced and priced.judging else ""
        if priced and priced.all.worst_nusd:
            price = priced.all
            told += f", about {format_usd(price.likely_nusd)}, at most {format_usd(price.worst_nusd)}"
            told += f"; of that, {judging_note(priced.judging)}" if priced.judging else ""
        note(f"Job {job.id}, {job.pinned_model}: {told}.")
    worst = sum(price.all.worst_nusd for price in prices.values())
    if worst:
        likely = sum(price.all.likely_nusd for price in prices.values())
        note(
            f"Price of all: about {format_usd(likely)}; with a repair of every answer at most "
            f"{format_usd(worst)}. The caps hold in any case."
        )


def _tell(
    runtime: Runtime,
    orders: list[Order],
    jobs: list[Job],
    known: KnownDocuments,
    wanted: Wanted,
    spent_nusd: int,
) -> int:
    """Print the report; 0, or the exit code that it asks for itself."""
    from batcher.cli.evaluation_view import Report, echo_evaluation, evaluation_json
    from batcher.cli.judging_control import state_of
    from batcher.errors import ConfigurationError
    from batcher.quality.picture import draw
    from batcher.quality.verdict import judge

    task = orders[0].task
    floor = orders[0].spec.floor if wanted.floor is None else wanted.floor
    measured = [read_measured(runtime, order, job, wanted) for order, job in zip(orders, jobs, strict=True)]
    verdict = judge(measured, floor, wanted.confidence, _present(runtime, task.tier))
    judging = {job.id: state for job in jobs if (state := state_of(runtime, job)) is not None}
    report = Report(
        task=task.name,
        documents=len(known.documents),
        left_out=len(known.left_out),
        measured=measured,
        verdict=verdict,
        monthly=wanted.monthly,
        spent_nusd=spent_nusd,
        judging=judging,
    )
    if wanted.as_json:
        echo_json(evaluation_json(report))
    else:
        echo_evaluation(report)
    if wanted.picture is not None:
        try:
            wanted.picture.write_text(
                draw(verdict, f"{task.name}: {len(known.documents):,} known answers"), "utf-8"
            )
        except OSError as error:
            raise ConfigurationError(
                f"The picture cannot be written to {wanted.picture}: {error.strerror or error}"
            ) from error
        note(f"Drawn: {wanted.picture}")
    return 0


def read_measured(runtime: Runtime, order: Order, job: Job, wanted: Wanted) -> Measurement:
    """Score a job's answers by the task as it now is, and add up."""
    from batcher.quality.evaluation import forget_scores, read_measurement
    from batcher.quality.golden import score_samples

    if not order.spec.judged:  # what a judge said of an answer stays true of it
        with runtime.store.write() as connection:
            forget_scores(connection, job.id)
    score_samples(runtime.store, job.id, order.task.score, order.spec.correct_at)
    with runtime.store.read() as connection:
        return read_measurement(
            connection, job.id, order.model.name, order.tier, confidence=wanted.confidence
        )


def _present(runtime: Runtime, tier: str) -> str | None:
    """The model that a submission of the task would use."""
    from batcher.errors import ConfigurationError
    from batcher.planning.choice import pick_model

    try:
        return pick_model(runtime.catalog, tier, None, runtime.is_usable).name
    except ConfigurationError:
        return None

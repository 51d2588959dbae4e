"""``batcher ladder``: learn from known answers when a cheap answer may stand, and who is asked next."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from batcher.cli.arguments import MANY, Finite
from batcher.cli.known_answers import known_answer_options, known_answer_request
from batcher.cli.output import echo_json, echo_table, note, say
from batcher.errors import UsageError
from batcher.money import format_usd, usd_to_nusd
from batcher.settings import Settings

if TYPE_CHECKING:
    from batcher.cli.evaluate import Wanted
    from batcher.planning.ladder_record import Former, Production
    from batcher.planning.order import SubmitRequest
    from batcher.quality.evaluation import Measurement
    from batcher.routing.ladder.goals import Goal
    from batcher.routing.ladder.policy import LadderPolicy
    from batcher.routing.ladder.records import GoldenRow


@click.group("ladder")
def ladder() -> None:
    """Ladders of models, learned from known answers."""


@ladder.command("learn")
@known_answer_options
@click.option("--accuracy", type=Finite(0, 1, min_open=True), help="Reach this share, cheaply.")
@click.option("--spend", metavar="USD", help="Spend at most so much on a document, as rightly as possible.")
@click.option(
    "--judge",
    metavar="NAME",
    help="Learn too what the word of this model, or tier, on an answer is worth; its calls cost. none: no"
    " judge.",
)
@click.option("--limit", type=MANY, help="Learn from so many rows, drawn by chance, always the same ones.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the folds.")
@click.option("--yes", "-y", is_flag=True, help="Ask nothing before models are measured.")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
@click.pass_obj
def learn(
    settings: Settings,
    paths: tuple[str, ...],
    task: str,
    golden: Path,
    params: tuple[str, ...],
    models: tuple[str, ...],
    tiers: tuple[str, ...],
    accuracy: float | None,
    spend: str | None,
    judge: str | None,
    limit: int | None,
    seed: int,
    yes: bool,
    as_json: bool,
) -> int:
    """Learn which model is asked first, when its answer stands, and which one is asked next.

    Models are measured on the known answers as `batcher evaluate` does, what is measured already for nothing.
    `batcher submit --learned-ladder` then climbs the ladder. It is learned again when the task changes.
    """
    from batcher.cli.evaluate import Wanted
    from batcher.cli.ladder_beforehand import check_limit
    from batcher.routing.ladder.goals import Goal
    from batcher.routing.ladder.learning import check_installed

    if (accuracy is None) == (spend is None):
        raise UsageError("Say what the ladder is for: either --accuracy SHARE or --spend USD a document")
    goal = Goal.of_spend(usd_to_nusd(spend)) if spend is not None else Goal.of_accuracy(accuracy or 1.0)
    check_installed()  # before models are measured, which costs
    check_limit(limit)
    request = known_answer_request(paths, task, golden, params, limit=limit)
    wanted = Wanted(models, tiers, None, 0.95, 1, None, yes=yes, as_json=as_json)
    return _learn(settings, request, wanted, goal, judge, seed)


def _learn(
    settings: Settings, request: SubmitRequest, wanted: Wanted, goal: Goal, judge: str | None, seed: int
) -> int:
    import orjson

    from batcher.cli.evaluate import known_documents, measure_models, read_measured
    from batcher.cli.ladder_beforehand import check_known, check_one_step, judging_by
    from batcher.cli.ladder_judging import check_measured, judged_by
    from batcher.planning.candidates import candidate_orders
    from batcher.planning.ladder_checks import verified_rows
    from batcher.planning.ladder_record import read_former, read_production
    from batcher.planning.learned_ladders import read_golden_rows
    from batcher.routing.ladder.policy import evidence_to_json
    from batcher.runtime import Runtime
    from batcher.store.ladders import add_ladder

    runtime = Runtime(settings)
    orders = candidate_orders(request, wanted.models, wanted.tiers, runtime.catalog, runtime.is_usable)
    task, spec = orders[0].task, orders[0].spec
    check_one_step(orders[0])
    judging = judging_by(runtime, orders[0], judge)
    known = known_documents(runtime, orders[0])
    check_known(orders[0], known)
    code, _, jobs = measure_models(runtime, orders, known, wanted, None)
    jobs = check_measured(runtime, jobs, code)
    measured = [read_measured(runtime, order, job, wanted) for order, job in zip(orders, jobs, strict=True)]
    measured = judged_to_the_end(measured)
    with runtime.store.read() as connection:
        rows = read_golden_rows(connection, measured)
    if task.verifier is not None:
        note(f"Running the task's verifier on the answers to {len(rows):,} documents ...")
        rows = verified_rows(rows, task.verify)
    if judging is not None:
        rows = judged_by(runtime, judging, task.name, rows, yes=wanted.yes)
    policy = _calibrated(rows, goal, seed, None if judging is None else judging.model.name)
    policy = replace(policy, options=_options(wanted, None if judging is None else judge))
    with runtime.store.write() as connection:
        stored = orjson.dumps(policy.to_json()).decode()
        evidence = orjson.dumps(evidence_to_json(policy.evidence)).decode()
        now = runtime.store.now(connection)
        number = add_ladder(connection, spec.name, spec.fingerprint, stored, evidence, now)
        production = read_production(connection, number, spec, policy)
        former = read_former(connection, number, spec)
    _tell(policy, production, former, spec.name, as_json=wanted.as_json)
    return 0 if policy.reached else 1


def _options(wanted: Wanted, judge: str | None) -> tuple[str, ...]:
    named = [("--model", name) for name in wanted.models] + [("--tier", name) for name in wanted.tiers]
    named += [] if judge is None else [("--judge", judge)]
    return tuple(word for pair in named for word in pair)


def judged_to_the_end(measured: list[Measurement]) -> list[Measurement]:
    """Without the models of whose answers some lack a verdict; says which.

    Raises:
        UsageError: if no model is left.
    """
    from batcher.quality.verdict import judged_words

    whole = [found for found in measured if not found.unjudged]
    for found in measured:
        if found.unjudged:
            note(
                f"{found.model} is left out: {judged_words(found)}, which is no fair sample of its answers. "
                f"See: batcher status {found.job_id}; then start this again."
            )
    if not whole:
        raise UsageError("There is no model whose answers are all judged: no ladder was learned")
    return whole


def _calibrated(rows: list[GoldenRow], goal: Goal, seed: int, judge: str | None) -> LadderPolicy:
    from batcher.routing.ladder.learning import calibrate

    note(f"Learning from {len(rows):,} documents ...")
    return calibrate(rows, goal, seed=seed, judge=judge)


@ladder.command("show")
@click.option("--task", "-t", required=True, help="A task's name, or the path of one.")
@click.option("--param", "-p", "params", multiple=True, metavar="K=V", help="A parameter of the task.")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
@click.pass_obj
def show(settings: Settings, task: str, params: tuple[str, ...], as_json: bool) -> int:
    """The ladder in force for a task as it stands."""
    import orjson

    from batcher.planning.ladder_record import read_former, read_production
    from batcher.routing.ladder.policy import LadderPolicy
    from batcher.store.ladders import newest_ladder
    from batcher.store.schema import open_to_read
    from batcher.tasks.params import parse_assignments
    from batcher.tasks.registry import load_task

    spec = load_task(task).spec(parse_assignments(params))
    store = open_to_read(settings.store_url())
    shown = None
    if store is not None:
        with store.read() as connection:
            stored = newest_ladder(connection, spec.fingerprint)
            if stored is not None:
                policy = LadderPolicy.from_json(orjson.loads(stored.policy))
                production = read_production(connection, stored.id, spec, policy)
                shown = policy, production, read_former(connection, stored.id, spec)
        store.close()
    if shown is None:
        raise UsageError(f"No ladder was learned for task {spec.name} as it stands: batcher ladder learn")
    _tell(*shown, spec.name, as_json=as_json)
    return 0


def _tell(
    policy: LadderPolicy, production: Production, former: Former | None, task: str, *, as_json: bool
) -> None:
    if as_json:
        echo_json(_as_json(policy, production, former, task))
        return
    found, number = policy.evidence, production.ladder_id
    reached = "" if policy.reached else ", which it is not expected to reach"
    say(f"Ladder {number} of task {task}, for {policy.target}{reached}")
    if former is not None or not policy.reached:
        say(_in_force(policy, former))
    say("")
    echo_table([("STEP", "MODEL", "ITS ANSWER STANDS"), *_steps(policy)], right=())
    say("")
    checks = ["the task's verifier"] if policy.verifies else []
    checks += [] if policy.judge is None else [f"{policy.judge}, which judges it (the last model's apart)"]
    if checks:
        say(f"Before an answer stands it is looked at by {' and by '.join(checks)}")
    say(
        f"Expected on new documents: accuracy {found.accuracy:.1%} ({found.low:.1%} to {found.high:.1%}, "
        f"{found.rows:,} known answers) at {format_usd(round(found.cost_nusd))} a document; "
        f"{found.best_model} alone {found.best_accuracy:.1%} at {format_usd(round(found.best_cost_nusd))}"
    )
    say(f"In production: {production.words}")
    say("Climb it with: batcher submit PATH --task " + task + " --learned-ladder")


def _in_force(policy: LadderPolicy, former: Former | None) -> str:
    """That the newest counts, whatever it reaches, and how to have the one before it back."""
    if former is None:
        return "It is in force all the same"
    told = f"It is in force, in place of ladder {former.ladder_id}, for {former.target}"
    if policy.reached or not former.reached:
        return told
    return f"{told}. To learn that one again, from what is paid for already: {former.command}"


def _steps(policy: LadderPolicy) -> Iterator[tuple[str, ...]]:
    for place, step in enumerate(policy.steps, start=1):
        is_last = place == len(policy.steps)
        bar = "always" if is_last else f"if it is right with a chance of {100 * step.stands_at:.3g} % or more"
        skipped = f"; skipped by texts it seldom gets right (under {100 * step.enters_at:.3g} %)"
        yield str(place), step.model, bar + (skipped if step.enters_at else "")


def _as_json(
    policy: LadderPolicy, production: Production, former: Former | None, task: str
) -> dict[str, Any]:
    from batcher.cli.accuracy_view import production_json
    from batcher.cli.output import usd
    from batcher.routing.ladder.policy import evidence_to_json

    evidence = evidence_to_json(policy.evidence)
    money = {name: evidence.pop(f"{name}_nusd") for name in ("cost", "cost_error", "best_cost")}
    by_model = evidence.pop("by_model")
    return {
        "ladder": production.ladder_id,
        "task": task,
        "target": policy.target,
        "reached": policy.reached,
        "in_place_of": None
        if former is None
        else {
            "ladder": former.ladder_id,
            "target": former.target,
            "reached": former.reached,
            "learn_again": former.command,
        },
        "production": production_json(production),
        "verifier": policy.verifies,
        "judge": policy.judge,
        "steps": [
            {"model": step.model, "stands_at": step.stands_at, "enters_at": step.enters_at}
            for step in policy.steps
        ],
        "evidence": {
            **evidence,
            **{f"{name}_usd": usd(round(nusd)) for name, nusd in money.items()},
            "models": [
                {"model": name, "cost_usd": usd(round(cost)), "accuracy": share}
                for name, (cost, share) in by_model.items()
            ],
        },
    }

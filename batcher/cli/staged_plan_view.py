"""A plan of several steps for people, and as JSON."""

from __future__ import annotations

from typing import Any

from batcher.cli.output import echo_table, iso_time, local_time, say, usd
from batcher.cli.plan_view import cap_json, cap_words, evidence_words, judging_words, plan_json
from batcher.money import format_usd
from batcher.planning.plan import Plan
from batcher.planning.pricing import Price
from batcher.planning.staged_plan import StagedPlan

_HEADER = ("STAGE", "TIER", "MODEL", "CALLS", "LOW", "LIKELY", "HIGH")


def echo_staged_plan(plan: StagedPlan) -> None:
    """Print what each step and all of them come to, and what one model for everything would."""
    last, first = plan.steps[-1], plan.steps[0]
    read = first.survey.read
    say(
        f"Plan of {last.order.spec.name} in {len(plan.steps)} stages: {read:,} "
        f"document{'' if read == 1 else 's'} read. Nothing was written, sent or spent."
    )
    for name, text in _facts(plan):
        if text:
            say(f"  {name:<9} {text}")
    say("")
    rows = [_row(step) for step in plan.steps]
    echo_table([_HEADER, *rows, ("all", "", "", *_figures(plan.price))], right=(3, 4, 5, 6))
    say("")
    for step in plan.steps:
        if step.chosen.price.calls:
            say(f"{stage_name(step)}: {evidence_words(step.chosen.evidence)}.")
    for model, price in plan.everything_on().items() if plan.price.calls else ():
        say(f"Everything on {model}: about {format_usd(price.likely_nusd)}{_against(plan, price)}.")


def stage_name(step: Plan) -> str:
    """The name of a step: its stage's, the task's for the last."""
    return step.order.spec.stage or step.order.spec.name


def _facts(plan: StagedPlan) -> list[tuple[str, str]]:
    survey, price = plan.steps[0].survey, plan.price
    rejected = ", ".join(f"{code} {count:,}" for code, count in survey.rejected.most_common() if count)
    taken_up = plan.steps[0].taken_up
    cost = (
        f"{format_usd(price.low_nusd)} to {format_usd(price.high_nusd)}, likely "
        f"{format_usd(price.likely_nusd)}; with a repair and a climb of every answer at most "
        f"{format_usd(price.worst_nusd)}"
    )
    return [
        ("job", f"{taken_up}, which is not finished, would be taken up" if taken_up else ""),
        ("new", f"{survey.new:,}"),
        ("reused", f"{survey.reused:,} in the first stage" if survey.reused else ""),
        ("twice", f"{survey.duplicates:,} with the content of another" if survey.duplicates else ""),
        ("rejected", f"{survey.rejected.total():,}: {rejected}" if rejected else ""),
        ("cost", cost if price.calls else "$0.00: nothing is left to ask"),
        ("judging", judging_words(plan.steps[-1].chosen.judging)),
        *(("cap", cap_words(check)) for check in plan.checks if price.calls),
        ("done at", local_time(plan.ends_at) if price.calls and plan.ends_at is not None else ""),
    ]


def _row(step: Plan) -> tuple[str, ...]:
    chosen = step.chosen
    return (stage_name(step), chosen.tier, chosen.model.name, *_figures(chosen.price))


def _figures(price: Price) -> tuple[str, ...]:
    return (f"{price.calls:,}", *map(format_usd, (price.low_nusd, price.likely_nusd, price.high_nusd)))


def _against(plan: StagedPlan, price: Price) -> str:
    """How much more or less it is than the stages as they are."""
    likely = plan.price.likely_nusd
    if not likely or price.likely_nusd == likely:
        return ""
    share = price.likely_nusd / likely - 1
    return f" ({share:+.0%})".replace("%", " %")


def staged_plan_json(plan: StagedPlan) -> dict[str, Any]:
    """Everything that it says; each stage as a plan of one would be told."""
    price = plan.price
    return {
        "task": plan.steps[-1].order.spec.name,
        "taken_up": plan.steps[0].taken_up,
        "stages": [{"stage": stage_name(step), **plan_json(step)} for step in plan.steps],
        "items": price.items,
        "calls": price.calls,
        "low_usd": usd(price.low_nusd),
        "likely_usd": usd(price.likely_nusd),
        "high_usd": usd(price.high_nusd),
        "worst_usd": usd(price.worst_nusd),
        "caps": [cap_json(check) for check in plan.checks],
        "ends_at": iso_time(plan.ends_at),
        "everything_on": {model: usd(one.likely_nusd) for model, one in plan.everything_on().items()},
    }

"""A plan for people, and as JSON."""

from __future__ import annotations

from typing import Any, Final

from batcher.cli.output import duration, echo_table, iso_time, local_time, say, usd, usd_or_none
from batcher.cli.routing_view import learning_words
from batcher.money import format_usd
from batcher.planning.advice import cheaper_choice, dearer_choice, sentence
from batcher.planning.caps import CapCheck
from batcher.planning.evidence import Evidence, Source
from batcher.planning.judging import JudgingPrice
from batcher.planning.plan import Choice, Plan
from batcher.routing.choice import percent
from batcher.routing.ladder.policy import LadderPolicy

_SHARES: Final = (0.05, 0.5, 0.95)
_BAR_WIDTH: Final = 32
_MOST_BARS: Final = 14
_HEADER: Final = ("", "TIER", "MODEL", "LOW", "LIKELY", "HIGH", "TIME", "AS OF", "")
_RIGHT: Final = (3, 4, 5, 6)


def echo_plan(plan: Plan) -> None:
    """Print the plan: in words, as a histogram and as a table."""
    facts = [f"  {name:<9} {text}" for name, text in _facts(plan) if text]
    for line in (_title(plan), *facts, *_histogram(plan)):
        say(line)
    if plan.survey.new:
        say("")
        echo_table([_HEADER, *map(_row, plan.choices)], right=_RIGHT)
        say("")
        for line in _below(plan):
            say(line)


def _title(plan: Plan) -> str:
    order, read = plan.order, plan.survey.read
    routing = order.routing
    where = f"on tier {order.tier}" if routing is None else f"with a floor of {percent(routing.floor)}"
    if order.learned is not None:
        where = f"on learned ladder {order.ladder_policy_id}"
    return (
        f"Plan of {order.spec.name} {where}, {plan.chosen.name}: {read:,} "
        f"document{'' if read == 1 else 's'} read. Nothing was written, sent or spent."
    )


def _facts(plan: Plan) -> list[tuple[str, str]]:
    survey, chosen = plan.survey, plan.chosen
    rejected = ", ".join(f"{code} {count:,}" for code, count in survey.rejected.most_common() if count)
    facts = [
        ("job", f"{plan.taken_up}, which is not finished, would be taken up" if plan.taken_up else ""),
        ("routing", plan.order.routing.reason if plan.order.routing else ""),
        ("learning", learning_words(plan.order.routing) if plan.order.routing else ""),
        ("new", f"{survey.new:,}"),
        ("reused", f"{survey.reused:,}" if survey.reused else ""),
        ("ended", f"{survey.ended:,} that failed before: batcher retry" if survey.ended else ""),
        ("twice", f"{survey.duplicates:,} with the content of another" if survey.duplicates else ""),
        ("rejected", f"{survey.rejected.total():,}: {rejected}" if rejected else ""),
        ("tokens", _tokens(plan)),
    ]
    if not survey.new:
        return [*facts, ("cost", "$0.00: nothing is left to ask")]
    price = chosen.price
    return [
        *facts,
        ("starts", _starts(plan)),
        ("router", _router(plan)),
        ("calls", _calls(chosen)),
        (
            "cost",
            f"{format_usd(price.low_nusd)} to {format_usd(chosen.price.high_nusd)}, likely "
            f"{format_usd(price.likely_nusd)}; with a repair and a climb of every answer at most "
            f"{format_usd(price.worst_nusd)}",
        ),
        ("judging", judging_words(chosen.judging)),
        (
            "because",
            learned_words(plan.order.learned) if plan.order.learned else evidence_words(chosen.evidence),
        ),
        *(("cap", cap_words(check)) for check in chosen.checks),
        ("time", _time(chosen)),
        ("finish by", _finish_by(plan)),
    ]


def _starts(plan: Plan) -> str:
    """How many documents the task's rules start where."""
    told = [f"{sizes.documents:,} on {rung}" for rung, sizes in plan.survey.by_rule.items()]
    if not told:
        return ""
    return f"by the task's rules {', '.join(told)}; the others on {plan.order.tier}"


def _router(plan: Plan) -> str:
    cost_nusd = plan.chosen.router_nusd
    if not cost_nusd:
        return ""
    return (
        f"asking it where {plan.survey.texts.documents:,} documents start costs about {format_usd(cost_nusd)}"
        f"; what it answers is not known yet, and they are priced on {plan.order.tier}"
    )


def _tokens(plan: Plan) -> str:
    spread = plan.survey.tokens
    if not spread.count:
        return ""
    low, middle, high = spread.percentiles(*_SHARES)
    return (
        f"about {spread.total:,} in all; of a document p5 {low:,}, p50 {middle:,}, p95 {high:,}, "
        f"most {spread.largest:,}"
    )


def _histogram(plan: Plan) -> list[str]:
    bars = list(plan.survey.tokens.bars().items())[-_MOST_BARS:]
    if len(bars) < 2:
        return []
    most = max(count for _, count in bars)
    width = len(f"{bars[-1][0]:,}")
    drawn = ((upper, "#" * -(-_BAR_WIDTH * count // most), count) for upper, count in bars)
    lines = (
        f"  {upper:>{width},} tokens or fewer  {bar:<{_BAR_WIDTH}} {count:,}" for upper, bar, count in drawn
    )
    return ["", *lines]


def _calls(chosen: Choice) -> str:
    costs = chosen.costs
    notes = []
    if costs.split:
        notes.append(f"{costs.split:,} documents are too long for one call and are split")
    if costs.too_long:
        notes.append(f"{costs.too_long:,} documents are too long, and the task does not split")
    if chosen.evidence.extra_share >= 0.005:
        notes.append(f"repairs and retries add {chosen.evidence.extra_share:.0%} to the cost")
    if chosen.evidence.climb_share >= 0.005:
        notes.append(f"{chosen.evidence.climb_share:.0%} climb to the next tier")
    if chosen.pictures_by:
        notes.append(f"pictures go to {chosen.pictures_by}")
    return f"{chosen.price.calls:,}" + (f" ({'; '.join(notes)})" if notes else "")


def evidence_words(evidence: Evidence) -> str:
    """What the likely figure rests on, for people."""
    answers = f"{evidence.output.answers:,} answer{'' if evidence.output.answers == 1 else 's'}"
    told = {
        Source.MEASURED: f"measured in {answers} of this model to this task",
        Source.OTHER_MODELS: f"measured in {answers} of other models to this task",
        Source.GOLDEN: f"the length of {answers} known to be right",
        Source.HINT: "the task's own typical_output_tokens",
        Source.SCHEMA: "a guess from the answer's fields; a first run with --limit 20 will measure it",
        Source.HALF_LIMIT: "half the output limit, a guess; a first run with --limit 20 will measure it",
    }[evidence.output_from]
    source = (
        f"measured in {evidence.input_calls:,} calls of this model"
        if evidence.input_calls
        else "estimated from the texts"
    )
    return f"output {evidence.output.typical:,.0f} tokens an answer, {told}; input {source}"


def learned_words(policy: LadderPolicy) -> str:
    """What a learned ladder's likely figure rests on, for people."""
    found = policy.evidence
    return (
        f"{format_usd(round(found.cost_nusd))} a document over all steps, measured on {found.rows:,} known "
        f"answers, {found.accuracy:.1%} of them right; the bounds are of every document on every step"
    )


def judging_words(judging: JudgingPrice | None) -> str:
    """What judging drawn answers costs, for people; "" if nobody judges them."""
    if judging is None:
        return ""
    price, answers = judging.price, f"{judging.answers:,} answer{'' if judging.answers == 1 else 's'}"
    return (
        f"{judging.judge} judges about {answers}, for likely {format_usd(price.likely_nusd)}, at most "
        f"{format_usd(price.worst_nusd)}: part of the cost"
    )


def cap_words(check: CapCheck) -> str:
    """A cost against one cap, for people."""
    balance = check.balance
    left = f"{format_usd(balance.room_nusd or 0)} left of {format_usd(balance.cap_nusd or 0)}"
    if check.least_nusd is not None:
        least = format_usd(check.least_nusd)
        return f"{check.name}: {left}; no call fits under it, the smallest needs {least}"
    if check.fits_worst:
        return f"{check.name}: {left}; even the worst case fits"
    if check.fits_likely:
        return f"{check.name}: {left}; the likely cost fits, the worst does not: it would then stop there"
    if check.days is None:
        return f"{check.name}: {left}; it would stop there"
    return f"{check.name}: {left}; it would take {check.days:,} days at this cap, today included"


def _time(choice: Choice) -> str:
    time = choice.time
    if time is None:
        return "not known: this model never answered this task on this machine; try --limit 5"
    source = "measured" if time.is_measured else "usual for such a model, not measured here"
    end = "the caps never let it end" if choice.ends_at is None else f"done at {local_time(choice.ends_at)}"
    return (
        f"{duration(time.seconds)} of work, bound by {time.limit} (a call takes {duration(time.latency_s)},"
        f" {source}); {end}"
    )


def _finish_by(plan: Plan) -> str:
    if plan.finish_by is None:
        return ""
    wanted = local_time(plan.finish_by)
    if plan.chosen.is_in_time(plan.finish_by):
        return f"{wanted}: it would be done in time"
    other = plan.first_in_time()
    if other is None:
        return f"{wanted}: not in time, and no model with a key would be"
    return (
        f"{wanted}: not in time; {other.model.name} (tier {other.tier}) would be, for about "
        f"{format_usd(other.price.likely_nusd)}"
    )


def _row(choice: Choice) -> tuple[str, ...]:
    price = choice.price
    figures = (price.low_nusd, price.likely_nusd, price.high_nusd)
    told = tuple(map(format_usd, figures)) if choice.has_room else ("-", "-", "-")
    time = duration(choice.time.seconds) if choice.time is not None and choice.has_room else "-"
    return (
        "*" if choice.is_chosen else "",
        choice.tier,
        choice.name,
        *told,
        time,
        choice.model.as_of,
        _remark(choice),
    )


def _remark(choice: Choice) -> str:
    remarks = []
    if not choice.is_usable:
        remarks.append("no key")
    if not choice.has_room:
        remarks.append("no room for the task")
    if choice.unseen:
        remarks.append(f"{choice.unseen:,} pictures unseen")
    if choice.accuracy is not None:
        remarks.append(f"{choice.accuracy.interval.share:.0%} right")
    return ", ".join(remarks)


def _below(plan: Plan) -> list[str]:
    lines = [
        "* is what submit would take. LOW: short answers. HIGH: what is reserved for the first calls."
        " AS OF: when the prices were read."
    ]
    cheaper, dearer = cheaper_choice(plan), dearer_choice(plan)
    if plan.chosen.price.first_nusd == 0:
        lines.append("Cheaper: nothing, this model costs nothing.")
    elif cheaper is not None:
        lines.append(f"Cheaper: {sentence(plan, cheaper)}.")
    if dearer is not None:
        lines.append(f"Dearer: {sentence(plan, dearer)}.")
    if plan.unpriced:
        lines.append(f"Without a price, and so left out: {', '.join(plan.unpriced)}.")
    return lines


def plan_json(plan: Plan) -> dict[str, Any]:
    """Everything that a plan says."""
    survey, order = plan.survey, plan.order
    low, middle, high = survey.tokens.percentiles(*_SHARES)
    cheaper, dearer = cheaper_choice(plan), dearer_choice(plan)
    return {
        "task": order.spec.name,
        "tier": order.tier,
        "model": order.model.name,
        "ladder": order.ladder_policy_id,
        "taken_up": plan.taken_up,
        "items": {
            "read": survey.read,
            "new": survey.new,
            "reused": survey.reused,
            "duplicates": survey.duplicates,
            "ended_before": survey.ended,
            "rejected": survey.rejected.total(),
            "rejected_by_reason": {code: count for code, count in survey.rejected.items() if count},
            "started_by_rule": {rung: sizes.documents for rung, sizes in survey.by_rule.items()},
        },
        "tokens": {
            "total": survey.tokens.total,
            "p5": low,
            "p50": middle,
            "p95": high,
            "max": survey.tokens.largest,
            "histogram": [
                {"up_to": upper, "documents": count} for upper, count in survey.tokens.bars().items()
            ],
        },
        "day": plan.books.day,
        "finish_by": iso_time(plan.finish_by),
        "first_in_time": None if (first := plan.first_in_time()) is None else first.model.name,
        "chosen": _choice_json(plan.chosen, plan.finish_by),
        "choices": [_choice_json(choice, plan.finish_by) for choice in plan.choices],
        "cheaper": None if cheaper is None else sentence(plan, cheaper),
        "dearer": None if dearer is None else sentence(plan, dearer),
        "unpriced": list(plan.unpriced),
    }


def _choice_json(choice: Choice, finish_by: float | None) -> dict[str, Any]:
    price, costs, time = choice.price, choice.costs, choice.time
    return {
        "tier": choice.tier,
        "model": choice.model.name,
        "provider": choice.model.provider,
        "usable": choice.is_usable,
        "chosen": choice.is_chosen,
        "has_room": choice.has_room,
        "items": price.items,
        "calls": price.calls,
        "split": costs.split,
        "too_long": costs.too_long,
        "pictures_by": choice.pictures_by,
        "pictures_unseen": choice.unseen,
        "input_tokens": round(costs.input_tokens),
        "output_tokens": round(costs.output_tokens),
        "low_usd": usd(price.low_nusd),
        "likely_usd": usd(price.likely_nusd),
        "high_usd": usd(price.high_nusd),
        "worst_usd": usd(price.worst_nusd),
        "router_usd": usd(choice.router_nusd),
        "judging": judging_price_json(choice.judging),
        "steps": list(choice.steps),
        "prices_as_of": choice.model.as_of,
        "evidence": _evidence_json(choice.evidence),
        "caps": [cap_json(check) for check in choice.checks],
        "seconds": None if time is None else time.seconds,
        "bound_by": None if time is None else time.limit,
        "call_seconds": None if time is None else time.latency_s,
        "call_seconds_measured": time is not None and time.is_measured,
        "ends_at": iso_time(choice.ends_at),
        "in_time": None if finish_by is None else choice.is_in_time(finish_by),
        "accuracy": None if choice.accuracy is None else choice.accuracy.interval.share,
        "scored": 0 if choice.accuracy is None else choice.accuracy.scored,
    }


def judging_price_json(judging: JudgingPrice | None) -> dict[str, Any] | None:
    """What judging costs, as JSON values; None if nobody judges."""
    if judging is None:
        return None
    return {
        "model": judging.judge,
        "tier": judging.tier,
        "answers": judging.answers,
        "low_usd": usd(judging.price.low_nusd),
        "likely_usd": usd(judging.price.likely_nusd),
        "high_usd": usd(judging.price.high_nusd),
        "worst_usd": usd(judging.price.worst_nusd),
    }


def _evidence_json(evidence: Evidence) -> dict[str, Any]:
    return {
        "output_tokens": evidence.output.typical,
        "output_from": evidence.output_from.value,
        "answers": evidence.output.answers,
        "input_factor": evidence.input_factor,
        "input_calls": evidence.input_calls,
        "image_tokens": evidence.image_tokens,
        "cached_share": evidence.cached_share,
        "extra_share": evidence.extra_share,
        "climb_share": evidence.climb_share,
    }


def cap_json(check: CapCheck) -> dict[str, Any]:
    """A cost against one cap, as JSON values."""
    balance = check.balance
    return {
        "scope": balance.account.scope,
        "cap_usd": usd_or_none(balance.cap_nusd),
        "spent_usd": usd(balance.spent_nusd),
        "reserved_usd": usd(balance.reserved_nusd),
        "left_usd": usd(balance.room_nusd or 0),
        "fits_likely": check.fits_likely,
        "fits_worst": check.fits_worst,
        "days": check.days,
        "least_usd": usd_or_none(check.least_nusd),
    }

"""What ``batcher evaluate`` found, for people and as JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from batcher.cli.judging_view import judging_json
from batcher.cli.output import echo_table, say, usd
from batcher.domain import FailureClass
from batcher.engine.golden_jobs import NOT_THE_MODELS_FAULT
from batcher.money import format_usd
from batcher.quality.evaluation import Measurement
from batcher.quality.judging_state import JudgingState
from batcher.quality.verdict import (
    Comparison,
    Placed,
    Verdict,
    accuracy_words,
    judged_words,
    p_words,
    percent,
    settling,
    switch_words,
)
from batcher.statistics.intervals import Interval

_HEADER: Final = (
    *("", "MODEL", "ACCURACY", "INTERVAL", "SCORED", "SCORE", "VALID", "PER DOC", "PER CORRECT"),
    *("P50", "P95", "MONTHLY", "FLOOR"),
)
_RIGHT: Final = tuple(range(2, 12))
_NONE: Final = "-"
_MOST_FIELDS: Final = 40


@dataclass(frozen=True, slots=True)
class Report:
    """All that is told.

    Attributes:
        documents: known documents that every model was asked for.
        left_out: golden rows without a document.
        monthly: documents a month.
        spent_nusd: what this run cost.
        judging: how far judges are with the answers of a job, where its task leaves them to one.
    """

    task: str
    documents: int
    left_out: int
    measured: Sequence[Measurement]
    verdict: Verdict
    monthly: int
    spent_nusd: int
    judging: Mapping[int, JudgingState] = field(default_factory=dict)


def echo_evaluation(report: Report) -> None:
    """Print the report: the verdict first, then what it rests on."""
    verdict = report.verdict
    say(verdict.sentence)
    for line in _more(report):
        say(line)
    say("")
    echo_table([_HEADER, *_rows(report)], right=_RIGHT)
    say("")
    for line in _legend(report):
        say(line)
    fields = _fields(report)
    if fields:
        say("")
        echo_table(fields, right=tuple(range(1, len(fields[0]))))
    if verdict.against_best:
        say("")
        say("Beside the most accurate, on the documents that both answered:")
        echo_table([_AGAINST, *map(_against, verdict.against_best)], right=(1, 2, 3, 4, 5))


def _more(report: Report) -> Iterator[str]:
    """What belongs to the verdict: switching, close calls, and what is not measured yet."""
    verdict = report.verdict
    for switch in verdict.switches:
        best = verdict.best is not None and switch.first == verdict.best.model
        yield switch_words(switch, "the most accurate" if best else "the task's present model")
    if verdict.chosen is not None:
        for one in verdict.close_calls:
            yield (
                f"{one.model} is cheaper ({format_usd(round(one.per_document_nusd))} a document) and close: "
                f"{accuracy_words(one.accuracy, one.measured.scored)}; {settling(one)}."
            )
    for found in verdict.unjudged:
        yield (
            f"{found.model} takes no part: {judged_words(found)}. Models that gave the same answer share its "
            "verdict, so what is judged first is no fair sample."
        )
    for found in report.measured:
        if found.waiting:
            yield (
                f"{found.model}: {found.waiting:,} of {report.documents:,} documents are not answered yet. "
                f"See: batcher status {found.job_id}; then start this again."
            )
        if found.job_id in report.judging:
            yield from _unjudged(found, report.judging[found.job_id])
        if found.rejected:
            yield f"{found.model}: {found.rejected:,} documents are pictures, which it does not see."
        if found.failed:
            classes = Counter(outcome.failure for outcome in found.outcomes if outcome.failure)
            told = ", ".join(f"{name} {count:,}" for name, count in classes.most_common())
            yield f"{found.model}: {found.failed:,} without an answer, which counts as wrong ({told})."
            yield from _asking_again(found, classes)


def _asking_again(found: Measurement, classes: Mapping[str, int]) -> Iterator[str]:
    """How documents are asked again that failed without an answer that the model is to blame for."""
    if any(name in NOT_THE_MODELS_FAULT for name in classes):
        yield f"{found.model}: start this again to ask anew what failed through no fault of the model's."
    refused = classes.get(FailureClass.BAD_REQUEST, 0)
    if refused:
        yield (
            f"{found.model}: {refused:,} requests were refused as wrong. When that is mended: "
            f"batcher retry {found.job_id} --class {FailureClass.BAD_REQUEST}; then start this again."
        )


def _unjudged(found: Measurement, state: JudgingState) -> Iterator[str]:
    """What is not judged, why, and how to go on."""
    if state.waiting:
        why = f" ({state.reason})" if state.reason else ""
        yield (
            f"{found.model}: {state.waiting:,} of {state.total:,} answers are not judged yet{why}. "
            f"See: batcher status {found.job_id}; then start this again."
        )
    if state.failed:
        told = ", ".join(f"{name} {count:,}" for name, count in state.failed.items())
        yield (
            f"{found.model}: the judge came to no verdict on {sum(state.failed.values()):,} answers ({told})."
            f" Ask it again: batcher retry {found.job_id}; then start this again. Where it never will, take "
            "those rows out of the golden file: what is answered and judged is not paid for again."
        )
    if state.nobody:
        yield (
            f"{found.model}: {state.nobody:,} answers that no model of the judge's may judge: "
            "a model does not judge its own. Name another judge, or set judge_own = true in [quality]."
        )


def _rows(report: Report) -> Iterator[tuple[str, ...]]:
    placed = {one.model: one for one in report.verdict.placed}
    order = [*placed, *(found.model for found in report.measured if found.model not in placed)]
    for found in sorted(report.measured, key=lambda found: order.index(found.model)):
        if found.model in placed:
            yield _row(report, placed[found.model])
        elif found.unjudged:
            yield ("", found.model, judged_words(found), _NONE, f"{found.scored:,}", *[_NONE] * 8)
        else:
            yield ("", found.model, *[_NONE] * 2, "0", *[_NONE] * 8)


def _row(report: Report, one: Placed) -> tuple[str, ...]:
    found, mark = one.measured, "*" if one is report.verdict.chosen else ""
    per_document = found.per_document_nusd
    return (
        mark,
        one.model,
        f"{100 * one.accuracy.share:.1f} %",
        f"{100 * one.accuracy.low:.1f} to {100 * one.accuracy.high:.1f} %",
        f"{found.scored:,}",
        f"{found.mean_score:.3f}",
        _valid(found.valid_at_once),
        _money(per_document),
        _money(found.per_correct_nusd),
        _seconds(found.latency_s(0.5)),
        _seconds(found.latency_s(0.95)),
        _money(None if per_document is None else per_document * report.monthly),
        one.standing.value,
    )


def _money(nusd: float | None) -> str:
    return _NONE if nusd is None else format_usd(round(nusd))


def _valid(interval: Interval | None) -> str:
    if interval is None:
        return _NONE
    return f"{100 * interval.share:.1f} % ({100 * interval.low:.1f} to {100 * interval.high:.1f} %)"


def _seconds(seconds: float | None) -> str:
    return _NONE if seconds is None else f"{seconds:.2f} s"


def _legend(report: Report) -> Iterator[str]:
    verdict = report.verdict
    yield (
        f"{report.documents:,} known documents; intervals at {percent(verdict.confidence)}; floor "
        f"{percent(verdict.floor)}; monthly for {report.monthly:,} documents. VALID: first answers that "
        "fitted the schema. Costs are those of answering, retries and repairs included."
    )
    yield from _judging(report)
    yield f"This run spent {format_usd(report.spent_nusd)}."
    unknown_nusd = sum(found.unknown_nusd for found in report.measured)
    if unknown_nusd:
        yield (
            "Calls whose outcome is unknown, because a process was killed or a connection broke, are booked "
            f"at up to {format_usd(unknown_nusd)} and stand in none of these figures."
        )


def _judging(report: Report) -> Iterator[str]:
    """What judging adds to measuring, apart from what it costs to answer."""
    judged = [found for found in report.measured if found.judging_nusd]
    if judged:
        told = ", ".join(f"{found.model} {format_usd(found.judging_nusd)}" for found in judged)
        yield (
            "Judging the answers is a part of measuring them and in none of these costs; a verdict that "
            f"models share counts for each: {told}. Later only drawn answers are judged: batcher plan prices "
            "that."
        )


def _fields(report: Report) -> list[tuple[str, ...]]:
    """Mean scores by field, the worst of the best model first; empty where there is but one field."""
    by_model = {one.model: one.measured.fields for one in report.verdict.placed}
    names = {name for fields in by_model.values() for name in fields}
    if len(names) < 2:
        return []
    leading = by_model[report.verdict.best.model] if report.verdict.best else {}
    in_order = sorted(names, key=lambda name: (leading.get(name, 0.0), name))[:_MOST_FIELDS]
    rows = [
        (name, *(f"{fields[name]:.3f}" if name in fields else _NONE for fields in by_model.values()))
        for name in in_order
    ]
    return [("FIELD", *by_model), *rows]


_AGAINST: Final = ("MODEL", "DIFFERENCE", "INTERVAL", "ONLY IT", "ONLY BEST", "P", "WITHIN 5 POINTS")


def _against(found: Comparison) -> tuple[str, ...]:
    gap = found.difference
    return (
        found.second,
        f"{100 * gap.difference:+.1f}",
        f"{100 * gap.low:+.1f} to {100 * gap.high:+.1f}",
        f"{found.counts.only_second:,}",
        f"{found.counts.only_first:,}",
        p_words(found.p_value).removeprefix("= "),
        found.within.value,
    )


def evaluation_json(report: Report) -> dict[str, Any]:
    """The same as JSON: shares from 0 to 1, money in dollars, times in seconds."""
    verdict = report.verdict
    placed = {one.model: one for one in verdict.placed}
    return {
        "verdict": verdict.sentence,
        "chosen": verdict.chosen.model if verdict.chosen else None,
        "best": verdict.best.model if verdict.best else None,
        "present": verdict.present.model if verdict.present else None,
        "task": report.task,
        "floor": verdict.floor,
        "confidence": verdict.confidence,
        "documents": report.documents,
        "left_out": report.left_out,
        "monthly": report.monthly,
        "spent_usd": usd(report.spent_nusd),
        "models": [_model_json(report, found, placed.get(found.model)) for found in report.measured],
        "against_best": [_comparison_json(found) for found in verdict.against_best],
        "switches": [_comparison_json(found) for found in verdict.switches],
    }


def _model_json(report: Report, found: Measurement, one: Placed | None) -> dict[str, Any]:
    fair = not found.unjudged  # what was judged first is no sample, and its figures would be read as one
    per_document = found.per_document_nusd if fair else None
    return {
        "model": found.model,
        "tier": found.tier,
        "job_id": found.job_id,
        "scored": found.scored,
        "correct": found.correct if fair else None,
        "failed": found.failed,
        "waiting": found.waiting,
        "rejected": found.rejected,
        "unjudged": found.unjudged,
        "judging": judging_json(report.judging.get(found.job_id)),
        "accuracy": asdict(found.accuracy) if found.accuracy else None,
        "mean_score": found.mean_score if fair else None,
        "fields": found.fields if fair else {},
        "valid_at_once": asdict(found.valid_at_once) if found.valid_at_once and fair else None,
        "cost_usd": usd(found.cost_nusd),
        "judging_usd": usd(found.judging_nusd),
        "cost_per_document_usd": _dollars(per_document),
        "cost_per_correct_usd": _dollars(found.per_correct_nusd) if fair else None,
        "monthly_usd": None if per_document is None else _dollars(per_document * report.monthly),
        "latency_p50_s": found.latency_s(0.5),
        "latency_p95_s": found.latency_s(0.95),
        "standing": one.standing.value if one else None,
        "samples_to_settle": one.more if one else None,
        "on_frontier": one.is_on_frontier if one else False,
    }


def _comparison_json(found: Comparison) -> dict[str, Any]:
    return {
        "from": found.first,
        "to": found.second,
        "documents": found.counts.items,
        "both": found.counts.both,
        "only_from": found.counts.only_first,
        "only_to": found.counts.only_second,
        "neither": found.counts.neither,
        **asdict(found.difference),
        "mcnemar_p": found.p_value,
        "within_5_points": found.within.value,
    }


def _dollars(nusd: float | None) -> float | None:
    return None if nusd is None else nusd / 1e9

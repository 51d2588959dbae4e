"""A job's accuracy for people and as JSON: by known answers, and by what was drawn and judged."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from batcher.quality.estimates import JUDGES, KNOWN, PEOPLE

if TYPE_CHECKING:
    from batcher.planning.ladder_record import Production
    from batcher.quality.estimates import Estimate, Sampled
    from batcher.quality.golden import Accuracy
    from batcher.quality.sampling import Sampling
    from batcher.statistics.agreement import Agreement
    from batcher.statistics.intervals import Interval

_WHO: Final = {JUDGES: "by a judge", KNOWN: "by known answers", PEOPLE: "by people"}
_MOST_STRATA: Final = 6


def share_text(interval: Interval) -> str:
    """A share with its interval: ``91.2 % (88.1 to 93.6 %``, to be closed with what it rests on."""
    return f"{100 * interval.share:.1f} % ({100 * interval.low:.1f} to {100 * interval.high:.1f} %"


def accuracy_json(found: Accuracy | None) -> dict[str, Any] | None:
    """An accuracy on known answers with its 95 % interval, as JSON values."""
    if found is None:
        return None
    return {
        "scored": found.scored,
        "correct": found.correct,
        "accuracy": found.interval.share,
        "low": found.interval.low,
        "high": found.interval.high,
        "mean_score": found.mean_score,
        "fields": found.fields,
    }


def sampled_lines(found: Sampled | None, sampling: Sampling | None, job_id: int) -> list[tuple[str, str]]:
    """What was drawn of a job, as facts of its report: names and texts; empty if nothing was drawn."""
    if found is None:
        return []
    lines = []
    if found.whole is not None:
        lines.append(("sampled", _estimate(found.whole)))
        if len(found.strata) > 1:
            lines += [
                ("", f"{tier}, {model}: {_estimate(one)}")
                for (tier, model), one in list(found.strata.items())[:_MOST_STRATA]
            ]
    lines += [("judge", _agreement(judge, one)) for judge, one in found.agreement.items()]
    if found.corrected is not None:
        audited = found.corrected.audited
        lines.append(
            (
                "corrected",
                f"{share_text(found.corrected.interval)}): the judge, corrected by {audited:,} audits",
            )
        )
    if found.whole is not None and found.whole.by.get(JUDGES) and not found.agreement:
        lines.append(("judge", f"nobody has checked it yet. Look over its samples: batcher review {job_id}"))
    return [*lines, ("samples", _waiting(found, sampling, job_id))]


def _estimate(found: Estimate) -> str:
    by = ", ".join(f"{found.by[who]:,} {words}" for who, words in _WHO.items() if found.by.get(who))
    return f"{share_text(found.interval)}, {found.scored:,} scored: {by}) of {found.answers:,} answers"


def _agreement(judge: str, found: Agreement) -> str:
    kappa = "" if found.kappa is None else f", kappa {found.kappa:.2f}"
    both = f"{found.items:,} answer{'' if found.items == 1 else 's'}"
    return f"{judge} agrees with people on {share_text(found.interval)}, {both}{kappa})"


def _waiting(found: Sampled, sampling: Sampling | None, job_id: int) -> str:
    parts = [f"{found.drawn:,} drawn"]
    judge = sampling.judge if sampling is not None else None
    # No judge comes to these by itself: its call failed, or none may. The line on judging says which.
    unjudged = min(found.hopeless, found.waiting) if judge else 0
    if waiting := found.waiting - unjudged:
        who = f"for the judge ({judge})" if judge else f"for somebody to look: batcher review {job_id}"
        parts.append(f"{waiting:,} wait {who}")
    if unjudged:
        parts.append(f"{unjudged:,} without a verdict")
    return ", ".join(parts)


def sampled_json(found: Sampled | None, sampling: Sampling | None) -> dict[str, Any] | None:
    """The same as JSON values; null if nothing was drawn."""
    if found is None:
        return None
    return {
        "share": None if sampling is None else sampling.share,
        "judge": None if sampling is None else sampling.judge,
        "drawn": found.drawn,
        "waiting": found.waiting,
        "not_judgeable": found.hopeless,
        "estimate": None if found.whole is None else _estimate_json(found.whole),
        "strata": [
            {"tier": tier, "model": model} | _estimate_json(one)
            for (tier, model), one in found.strata.items()
        ],
        "agreement": [
            {
                "judge": judge,
                "answers": one.items,
                "agreement": one.interval.share,
                "low": one.interval.low,
                "high": one.interval.high,
                "kappa": one.kappa,
            }
            for judge, one in found.agreement.items()
        ],
        "corrected": None
        if found.corrected is None
        else {
            "accuracy": found.corrected.interval.share,
            "low": found.corrected.interval.low,
            "high": found.corrected.interval.high,
            "judged": found.corrected.judged,
            "audited": found.corrected.audited,
        },
    }


def production_json(found: Production | None) -> dict[str, Any] | None:
    """How a learned ladder does in production, as JSON values; null without one."""
    if found is None:
        return None
    return {
        "ladder": found.ladder_id,
        "promised": found.promised,
        "jobs": found.jobs,
        "estimate": None if found.estimate is None else _estimate_json(found.estimate),
        "falls_short": found.falls_short,
        "learn_again": found.command,
    }


def _estimate_json(found: Estimate) -> dict[str, Any]:
    return {
        "accuracy": found.interval.share,
        "low": found.interval.low,
        "high": found.interval.high,
        "scored": found.scored,
        "correct": found.correct,
        "answers": found.answers,
        "by": {who: found.by.get(who, 0) for who in (JUDGES, KNOWN, PEOPLE)},
    }

"""A judge's estimate corrected by the answers that people looked at too: the difference estimator."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Final

from batcher.statistics.intervals import Interval

LEAST_AUDITED: Final = 10
"""Fewer answers that a judge and a person looked at correct nothing."""


@dataclass(frozen=True, slots=True)
class Judged:
    """Answers that a judge looked at, and that the same was said of.

    Attributes:
        weight: how many answers each of them stands for.
        judge: what the judge said.
        person: what a person said of it; None: no person looked.
        count: how many they are.
    """

    weight: float
    judge: bool
    person: bool | None = None
    count: int = 1


@dataclass(frozen=True, slots=True)
class Corrected:
    """A corrected estimate.

    Attributes:
        interval: the share with its interval.
        by_judge: the share by the judge's word alone.
        judged: answers that the judge looked at.
        audited: of them, those that a person looked at too.
    """

    interval: Interval
    by_judge: float
    judged: int
    audited: int


def corrected_share(judged: Sequence[Judged], confidence: float = 0.95) -> Corrected | None:
    """The share that people would find, from many judged answers and a few audited ones.

    The judge's share is moved by the mean difference between people and judge on the audited answers
    (Cochran 1977, Sampling Techniques, 12.6: double sampling for difference estimation). That is unbiased
    whatever the judge's faults, as long as the audited answers are a random part of the judged ones, which is
    the order in which ``batcher review`` shows them. Its variance is that of the share over all judged
    answers, and that of the differences over the audited ones. Two differences of one each way are added to
    them, so that a few audits without any do not count as proof.

    Returns:
        None if fewer than :data:`LEAST_AUDITED` answers were audited.
    """
    audited = [one for one in judged if one.person is not None]
    audits = sum(one.count for one in audited)
    if audits < LEAST_AUDITED:
        return None
    whole, checked = (sum(one.weight * one.count for one in some) for some in (judged, audited))
    by_judge = sum(one.weight * one.count * one.judge for one in judged) / whole
    gaps = [(one.weight * one.count / checked, float(bool(one.person)) - float(one.judge)) for one in audited]
    shift = sum(weight * gap for weight, gap in gaps)
    share = min(1.0, max(0.0, by_judge + shift))
    spread = (sum(weight * (gap - shift) ** 2 for weight, gap in gaps) * audits + 2) / (audits + 2)
    of_judged = _effective(judged, whole)
    of_audited = _effective(audited, checked)
    inner = max(share * (1 - share), 1 / (of_judged + 2)) / of_judged
    variance = inner + spread * max(0.0, 1 / of_audited - 1 / of_judged)
    half = NormalDist().inv_cdf(0.5 + confidence / 2) * math.sqrt(variance)
    interval = Interval(share, max(0.0, share - half), min(1.0, share + half))
    return Corrected(interval, by_judge, sum(one.count for one in judged), audits)


def _effective(some: Sequence[Judged], whole: float) -> float:
    """How many evenly drawn answers would say as much (Kish 1965)."""
    return whole**2 / sum(one.weight**2 * one.count for one in some)

"""How accurate a job's answers are, by what was drawn of them: judged by models, people and known answers.

A job's answers are divided by tier and model, and there into those whose right answer was known beforehand,
the first ones, drawn with certainty, and the others, drawn with the job's share. How many answers each part
holds is known, so a part counts for as much as it holds, not for as much as was drawn of it.

Where several have looked at an answer, a person's word counts before a known answer, that before a judge's;
of several people's or judges' the latest.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, Final, NamedTuple

from sqlalchemy import ColumnElement, Connection, and_, case, exists, func, or_, select

from batcher.quality.correction import Corrected, Judged, corrected_share
from batcher.quality.golden import GOLDEN
from batcher.quality.judge import JUDGE, PERSON, by_model
from batcher.quality.judgements import hopeless
from batcher.statistics.agreement import Agreement, agreement
from batcher.statistics.intervals import Interval
from batcher.statistics.weighted import Stratum, weighted_share
from batcher.store.tables import items, results, sampled_items, samples, tallies

LEAST_DRAWN: Final = 3
"""Fewer checked answers of the rest of a model's answers say nothing by themselves: then the first ones,
which were all drawn, stand for the rest too."""

PEOPLE: Final = "person"
KNOWN: Final = "golden"
JUDGES: Final = "judge"
"""Whose word counts."""

FIRST: Final = "first"
REST: Final = "rest"
"""Answers without a known one: those drawn with certainty, and the others."""


class Part(NamedTuple):
    """A part of a job's answers, within which all were as likely to be looked at.

    ``kind`` is ``golden``, ``first`` or ``rest``.
    """

    job_id: int
    tier: str
    model: str
    kind: str


@dataclass(frozen=True, slots=True)
class Looked:
    """Answers that somebody looked at, and that the same was said of.

    Attributes:
        part: the part that it is from.
        by: whose word counts: ``person``, ``golden`` or ``judge``.
        correct: what that is.
        judge: what a judge said, if one did.
        person: what a person said, if one did.
        judged_by: the judge's name.
        count: how many answers they are.
    """

    part: Part
    by: str
    correct: bool
    judge: bool | None = None
    person: bool | None = None
    judged_by: str = ""
    count: int = 1


@dataclass(frozen=True, slots=True)
class Estimate:
    """An estimated share of correct answers.

    Attributes:
        interval: the share with its 95 % interval.
        scored: how many answers it rests on.
        correct: how many of them were correct, each counted once: not the share's numerator.
        by: how many were decided by people, known answers and judges.
        answers: how many answers it speaks of.
        effective: how many evenly drawn answers would say as much.
    """

    interval: Interval
    scored: int
    correct: int
    by: dict[str, int]
    answers: int
    effective: float


@dataclass(frozen=True, slots=True)
class Sampled:
    """What is known of a job's answers by what was drawn of them.

    Attributes:
        drawn: answers that were drawn.
        waiting: of them, those that nobody has looked at yet.
        hopeless: of these, those that no judge will: its call failed, or no model may.
        whole: the job's estimate; None while nothing but known answers was looked at.
        strata: estimates by tier and model, in that order.
        agreement: how far judges and people agree, by judge.
        corrected: the estimate by judges alone, corrected by what people said of the same answers.
    """

    drawn: int
    waiting: int
    hopeless: int
    whole: Estimate | None
    strata: dict[tuple[str, str], Estimate] = field(default_factory=dict)
    agreement: dict[str, Agreement] = field(default_factory=dict)
    corrected: Corrected | None = None


def read_sampled(connection: Connection, job_id: int) -> Sampled | None:
    """What was drawn of a job and what came of it; None if nothing was drawn."""
    of_job = sampled_items.c.job_id == job_id
    drawn = connection.execute(select(func.count()).where(of_job)).scalar_one()
    if not drawn:
        return None
    scored = exists().where(samples.c.item_id == sampled_items.c.item_id, samples.c.score.is_not(None))
    waiting = connection.execute(select(func.count()).where(of_job, ~scored)).scalar_one()
    looked = looked_at(connection, [job_id])
    sizes = _sizes(connection, [job_id])
    whole, strata = None, {}
    if any(one.part.kind != KNOWN for one in looked):
        whole = _estimate(looked, sizes)
        strata = {key: _estimate(*only) for key, only in _by_stratum(looked, sizes).items()}
    return Sampled(
        drawn=int(drawn),
        waiting=int(waiting),
        hopeless=hopeless(connection, job_id) if waiting else 0,
        whole=whole,
        strata={key: found for key, found in strata.items() if found is not None},
        agreement=agreements(looked),
        corrected=corrected_share(_judged(looked, sizes)),
    )


def estimate_together(
    connection: Connection, job_ids: Sequence[int], *, but_not_by: str | None = None
) -> Estimate | None:
    """The share of correct answers of several jobs together; None if nobody looked at any.

    Args:
        connection: any transaction.
        job_ids: the jobs.
        but_not_by: a model whose word as a judge counts for nothing.
    """
    looked = looked_at(connection, job_ids, but_not_by=but_not_by)
    return _estimate(looked, _sizes(connection, job_ids)) if looked else None


def agreements(looked: Iterable[Looked]) -> dict[str, Agreement]:
    """How far each judge agrees with people, on the answers that both looked at."""
    pairs: dict[str, list[tuple[bool, bool]]] = defaultdict(list)
    for one in looked:
        if one.judge is not None and one.person is not None:
            pairs[one.judged_by] += [(one.judge, one.person)] * one.count
    compared = {judge: agreement(both) for judge, both in sorted(pairs.items())}
    return {judge: found for judge, found in compared.items() if found is not None}


def looked_at(
    connection: Connection, job_ids: Sequence[int], *, but_not_by: str | None = None
) -> list[Looked]:
    """The answers of these jobs that somebody looked at: counted where one judge alone did, else one by one.

    What one model said as a judge may be left out.
    """
    wanted = and_(samples.c.job_id.in_(job_ids), samples.c.score.is_not(None))
    if but_not_by is not None:
        wanted = and_(wanted, samples.c.judged_by != by_model(but_not_by))
    by_others = case((samples.c.judged_by.startswith(JUDGE), 0), else_=1)
    one_by_one = (
        select(samples.c.item_id)
        .where(wanted)
        .group_by(samples.c.item_id)
        .having(or_(func.count() > 1, func.sum(by_others) > 0))
    )
    return [
        *_by_one_judge(connection, and_(wanted, samples.c.item_id.not_in(one_by_one))),
        *_one_by_one(connection, and_(wanted, samples.c.item_id.in_(one_by_one))),
    ]


def _by_one_judge(connection: Connection, wanted: ColumnElement[bool]) -> list[Looked]:
    """Drawn answers that nobody but one judge looked at, counted."""
    what = (
        sampled_items.c.job_id,
        sampled_items.c.tier,
        sampled_items.c.model,
        sampled_items.c.probability >= 1,
        samples.c.judged_by,
        samples.c.correct,
    )
    query = (
        select(*what, func.count())
        .join(sampled_items, sampled_items.c.item_id == samples.c.item_id)
        .where(wanted)
        .group_by(*what)
        .order_by(*what)
    )
    found = []
    for job_id, tier, model, is_first, judged_by, correct, count in connection.execute(query):
        part, said = Part(job_id, tier, model, FIRST if is_first else REST), bool(correct)
        by = judged_by.removeprefix(JUDGE)
        found.append(Looked(part, JUDGES, said, judge=said, judged_by=by, count=count))
    return found


def _one_by_one(connection: Connection, wanted: ColumnElement[bool]) -> list[Looked]:
    """Answers that several looked at, people, or that were known, in order of submission."""
    query = (
        select(
            samples.c.item_id,
            samples.c.job_id,
            samples.c.judged_by,
            samples.c.correct,
            results.c.tier,
            results.c.model,
            sampled_items.c.tier.label("drawn_tier"),
            sampled_items.c.model.label("drawn_model"),
            sampled_items.c.probability,
        )
        .join(items, items.c.id == samples.c.item_id)
        .join(results, results.c.id == items.c.result_id)
        .outerjoin(sampled_items, sampled_items.c.item_id == samples.c.item_id)
        .where(wanted)
        .order_by(samples.c.item_id, func.coalesce(samples.c.judged_at, 0.0), samples.c.judged_by)
    )
    by_item = groupby(connection.execute(query), key=lambda row: row.item_id)
    return [found for _, rows in by_item if (found := _looked(list(rows))) is not None]


def _looked(rows: Sequence[Any]) -> Looked | None:
    """What those who looked at an answer say together; None: it was neither drawn nor known."""
    said = {_kind(row.judged_by): row for row in rows}
    first = rows[0]
    if KNOWN in said:
        part = Part(first.job_id, first.tier, first.model, KNOWN)
    elif first.probability is not None:
        kind = FIRST if first.probability >= 1 else REST
        part = Part(first.job_id, first.drawn_tier, first.drawn_model, kind)
    else:
        return None
    by = next(who for who in (PEOPLE, KNOWN, JUDGES) if who in said)
    judge, person = said.get(JUDGES), said.get(PEOPLE)
    return Looked(
        part,
        by,
        bool(said[by].correct),
        None if judge is None else bool(judge.correct),
        None if person is None else bool(person.correct),
        "" if judge is None else judge.judged_by.removeprefix(JUDGE),
    )


def _kind(judged_by: str) -> str:
    if judged_by.startswith(PERSON):
        return PEOPLE
    return JUDGES if judged_by.startswith(JUDGE) else KNOWN


def _sizes(connection: Connection, job_ids: Sequence[int]) -> dict[Part, int]:
    """How many answers each part of these jobs holds."""
    known = (
        select(samples.c.job_id, results.c.tier, results.c.model, items.c.reused, func.count().label("held"))
        .join(items, items.c.id == samples.c.item_id)
        .join(results, results.c.id == items.c.result_id)
        .where(samples.c.job_id.in_(job_ids), samples.c.judged_by == GOLDEN)
        # What an earlier step has answered is no answer of the job, though its right one is noted there.
        .where(items.c.job_id == samples.c.job_id)
        .group_by(samples.c.job_id, results.c.tier, results.c.model, items.c.reused)
    )
    has_known = exists().where(samples.c.item_id == sampled_items.c.item_id, samples.c.judged_by == GOLDEN)
    of_first = (sampled_items.c.job_id, sampled_items.c.tier, sampled_items.c.model)
    first = (
        select(*of_first, func.count().label("held"))
        .where(sampled_items.c.job_id.in_(job_ids), sampled_items.c.probability >= 1, ~has_known)
        .group_by(*of_first)
    )
    fresh = select(tallies.c.job_id, tallies.c.tier, tallies.c.model, tallies.c.answered)
    sizes: Counter[Part] = Counter()
    for row in connection.execute(fresh.where(tallies.c.job_id.in_(job_ids))):
        sizes[Part(row.job_id, row.tier, row.model, REST)] += int(row.answered)
    for row in connection.execute(known):
        sizes[Part(row.job_id, row.tier, row.model, KNOWN)] += row.held
        if not row.reused:
            sizes[Part(row.job_id, row.tier, row.model, REST)] -= row.held
    for row in connection.execute(first):
        sizes[Part(row.job_id, row.tier, row.model, FIRST)] += row.held
        sizes[Part(row.job_id, row.tier, row.model, REST)] -= row.held
    return {part: size for part, size in sizes.items() if size > 0}


Given = tuple[list[Looked], dict[Part, int]]


def _by_stratum(looked: Sequence[Looked], sizes: Mapping[Part, int]) -> dict[tuple[str, str], Given]:
    """The same, by tier and model."""
    found: dict[tuple[str, str], Given] = {}
    for part, size in sorted(sizes.items()):
        found.setdefault((part.tier, part.model), ([], {}))[1][part] = size
    for one in looked:
        if (one.part.tier, one.part.model) in found:
            found[one.part.tier, one.part.model][0].append(one)
    return found


def _estimate(looked: Sequence[Looked], sizes: Mapping[Part, int]) -> Estimate | None:
    given = [one for one in looked if one.part in sizes]
    strata = [
        Stratum(_count(one for one in found if one.correct), _count(found), size)
        for found, size in _cells(given, sizes)
    ]
    share = weighted_share(strata)
    if share is None:
        return None
    by: Counter[str] = Counter()
    for one in given:
        by[one.by] += one.count
    return Estimate(
        interval=share.interval,
        scored=share.drawn,
        correct=_count(one for one in given if one.correct),
        by=dict(by),
        answers=sum(sizes.values()),
        effective=share.effective,
    )


def _cells(looked: Iterable[Looked], sizes: Mapping[Part, int]) -> list[tuple[list[Looked], int]]:
    """What was looked at of every part, and how many answers that stands for."""
    by_part: dict[Part, list[Looked]] = {part: [] for part in sizes}
    for one in looked:
        by_part[one.part].append(one)
    cells: dict[Part, tuple[list[Looked], int]] = {}
    for part, found in by_part.items():
        first = part._replace(kind=FIRST)
        few = part.kind == REST and first in by_part and _count(found) < LEAST_DRAWN
        cell, size = cells.get(first if few else part, ([], 0))
        cells[first if few else part] = (cell + found, size + sizes[part])
    return list(cells.values())


def _count(looked: Iterable[Looked]) -> int:
    return sum(one.count for one in looked)


def _judged(looked: Iterable[Looked], sizes: Mapping[Part, int]) -> list[Judged]:
    """The answers that a judge looked at, each with how many it stands for."""
    given = [one for one in looked if one.part in sizes and one.judge is not None]
    return [
        Judged(size / _count(found), bool(one.judge), one.person, one.count)
        for found, size in _cells(given, sizes)
        for one in found
    ]

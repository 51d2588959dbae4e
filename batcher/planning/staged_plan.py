"""A plan for a task of several steps: one of each step, and what they come to together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace

from batcher.documents.records import Parsed, Rejected
from batcher.domain import Document
from batcher.planning.caps import CapCheck, check_together
from batcher.planning.order import Order
from batcher.planning.plan import Choice, Plan, Planner
from batcher.planning.pricing import Price
from batcher.planning.sizes import Size, Sizes
from batcher.planning.stages import blended, handed_document, handed_sizes
from batcher.planning.survey import Seen, Stored, Survey, Surveyor
from batcher.store.ingestion import NewItem
from batcher.store.results import find_results, read_outputs

_BATCH_ITEMS = 500


@dataclass(frozen=True, slots=True)
class StagedPlan:
    """Plans of all steps, in order. What later steps read is guessed where it is not answered yet.

    Attributes:
        steps: one of each step.
        price: of all steps as they would be submitted.
        checks: that against the caps which any of them stands under.
    """

    steps: tuple[Plan, ...]
    price: Price
    checks: tuple[CapCheck, ...]

    @property
    def ends_at(self) -> float | None:
        """When it would be done, Unix seconds: the steps work side by side; None if not known."""
        ends = [plan.chosen.ends_at for plan in self.steps]
        return None if None in ends else max(end for end in ends if end is not None)

    def everything_on(self) -> dict[str, Price]:
        """What all steps would cost on one model, for each that one of them would use."""
        found: dict[str, Price] = {}
        for name in dict.fromkeys(plan.chosen.model.name for plan in self.steps):
            rows = [_row_of(plan, name) for plan in self.steps]
            if all(row is not None and row.has_room for row in rows):
                found[name] = sum((row.price for row in rows if row is not None), start=Price())
        return found


def _row_of(plan: Plan, model: str) -> Choice | None:
    return next((choice for choice in plan.choices if choice.model.name == model), None)


def survey_steps(
    corpus: Iterable[Parsed | Rejected],
    steps: Sequence[tuple[Order, Stored | None]],
    on_progress: Callable[[int, int], None] = lambda *_: None,
) -> list[Survey]:
    """Read a corpus and count what each step has to do with it.

    A document whose answer in a step is stored goes on to the next one; others are counted where they wait.

    Args:
        corpus: parsed documents and rejections, in order.
        steps: each step's order, and what the store knows of it.
        on_progress: told of each batch: documents read, and rejected, so far.
    """
    originals: dict[str, Document] = {}
    with ExitStack() as stack:
        surveyors: list[Surveyor] = []
        on_answered: Callable[[Sequence[NewItem]], None] = _nobody
        for order, stored in reversed(steps):
            seen = stack.enter_context(closing(Seen()))
            surveyors.insert(
                0, Surveyor(order.spec, order.image_tier, stored, seen, on_answered, order.entry)
            )
            place = len(steps) - len(surveyors)
            if place:
                on_answered = _feed(*steps[place - 1], surveyors[0], originals)
        for batch in _batches(corpus):
            originals.clear()
            originals.update((one.source, one.document) for one in batch if isinstance(one, Parsed))
            surveyors[0].take(batch)
            on_progress(surveyors[0].survey.read, surveyors[0].survey.rejected.total())
        return [surveyor.survey for surveyor in surveyors]


def _nobody(_: Sequence[NewItem]) -> None:
    """What the last step has answered goes nowhere."""


def _batches(corpus: Iterable[Parsed | Rejected]) -> Iterable[list[Parsed | Rejected]]:
    batch: list[Parsed | Rejected] = []
    for entry in corpus:
        batch.append(entry)
        if len(batch) >= _BATCH_ITEMS:
            yield batch
            batch = []
    if batch:
        yield batch


def _feed(
    order: Order, stored: Stored | None, following: Surveyor, originals: dict[str, Document]
) -> Callable[[Sequence[NewItem]], None]:
    """What takes a step's stored answers to the surveyor of the next one."""

    def feed(answered: Sequence[NewItem]) -> None:
        if stored is None or stored.refresh_key is None:
            return
        keys = list({new.result_key for new in answered if new.result_key is not None})
        ids = find_results(stored.connection, keys, stored.accepts, stored.refresh_key)
        outputs = read_outputs(stored.connection, list(ids.values()))
        batch = []
        for new in answered:
            if new.result_key in ids:
                original = originals[new.source]
                output = outputs[ids[new.result_key]]
                document = handed_document(order.spec, output, original.text, original.images)
                batch.append(Parsed(new.source, document))
        following.take(batch)

    return feed


def plan_steps(
    make: Callable[[Order, Survey], Planner],
    orders: Sequence[Order],
    surveys: Sequence[Survey],
    finish_by: float | None,
    taken_up: int | None,
) -> StagedPlan:
    """Plan all steps.

    Args:
        make: a planner for a step and what it reads.
        orders: the steps, in order.
        surveys: what ``survey_steps`` counted for each.
        finish_by: when it is to be done, Unix seconds, or None.
        taken_up: the unfinished job that would be taken up, or None.
    """
    plans: list[Plan] = []
    coming: list[Size] = []
    for order, survey in zip(orders, surveys, strict=True):
        if plans:
            before = plans[-1].order.spec
            submitted = [*coming, *survey.sizes()]
            usual, longest = (
                replace(
                    make(order, _with(survey, handed_sizes(before, coming, tokens))), submitted=submitted
                ).plan(finish_by, taken_up)
                for tokens in (plans[-1].chosen.evidence.output.typical, float(before.max_output_tokens))
            )
            plans.append(_blended(usual, longest))
        else:
            plans.append(make(order, survey).plan(finish_by, taken_up))
        coming += survey.sizes()
    price = sum((plan.chosen.price for plan in plans), start=Price())
    return StagedPlan(tuple(plans), replace(price, items=surveys[0].new), tuple(_checks(plans)))


def _with(survey: Survey, coming: Iterable[Size]) -> Survey:
    """A survey, and documents that are still to come."""
    texts, pictures = Sizes(), Sizes()
    for size in [*survey.texts, *survey.pictures, *coming]:
        (pictures if size.images else texts).add(size.text_bytes, size.images, size.tokens, size.items)
    return replace(survey, texts=texts, pictures=pictures)


def _blended(usual: Plan, longest: Plan) -> Plan:
    """A plan with the likely figures of one and the bounds of another."""
    choices = tuple(
        replace(
            choice,
            price=blended(choice.price, most.price),
            checks=tuple(
                found
                for check, bound in zip(choice.checks, most.checks, strict=True)
                for found in check_together([replace(check, worst_nusd=bound.worst_nusd)])
            ),
        )
        for choice, most in zip(usual.choices, longest.choices, strict=True)
    )
    return replace(usual, choices=choices)


def _checks(plans: Sequence[Plan]) -> list[CapCheck]:
    """Every cap that a step stands under, against what all steps cost that do."""
    found: dict[str, list[CapCheck]] = {}
    for plan in plans:
        for check in plan.chosen.checks:
            found.setdefault(check.balance.account.scope, []).append(check)
    return [checked for checks in found.values() for checked in check_together(checks)]

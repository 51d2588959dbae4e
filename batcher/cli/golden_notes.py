"""Tells of known answers that can measure nothing: before the run that they were meant for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from batcher.cli.output import note

if TYPE_CHECKING:
    from batcher.planning.known import KnownDocuments
    from batcher.planning.order import Order
    from batcher.tasks.golden import Golden, GoldenRow

_SHOWN: Final = 3


def note_unfit(order: Order) -> None:
    """Name the golden rows whose answer does not fit the task's schema."""
    from batcher.tasks.golden import unfit_answers

    if order.golden is None:
        return
    faults = unfit_answers(order.golden, order.spec.schema)
    if faults:
        subject = _share(len(faults), order.golden, "can never be met by an answer")
        note(f"Warning: {subject}: {_listed(faults, '; ')}")


def note_scoring(order: Order) -> None:
    """Try the task's scorer on the golden rows; name those whose right answer does not count as correct.

    Raises:
        TaskError: if the scorer fails on one.
    """
    from batcher.tasks.checking import try_scorer

    if order.golden is None:
        return
    wrong = try_scorer(order.task, order.golden)
    if wrong:
        subject = _share(len(wrong), order.golden, "would not count as correct if it were the answer itself")
        note(f"Warning: {subject} (it takes {order.spec.correct_at:g}): {_listed(wrong, '; ')}")


def note_unmatched(golden: Golden | None) -> None:
    """Name the golden rows that no document of the corpus answers to, after it was read."""
    if golden is None:
        return
    rows = golden.unmatched()
    if rows:
        subject = _share(len(rows), golden, "matched no document that could be read")
        note(
            f"Warning: {subject}: {_listed(list(map(_name, rows)), ', ')}. "
            "A row names its document by path, by the end of its path, or a table's row by id"
        )


def note_left_out(golden: Golden, known: KnownDocuments) -> None:
    """Name the golden rows that are not measured on, for want of a document."""
    if known.left_out:
        subject = _share(len(known.left_out), golden, "left out")
        told = [f"{_name(left.row)}: {left.reason.rstrip('.')}" for left in known.left_out]
        note(f"Warning: {subject}: {_listed(told, '; ')}")


def note_doubles(golden: Golden, known: KnownDocuments) -> None:
    """Name the golden rows on a document that another row is about already."""
    if known.doubles:
        subject = _share(len(known.doubles), golden, "on a document of another row, counted once")
        told = [f"{_name(row)} as in line {other.line}" for row, other in known.doubles]
        note(f"{subject}: {_listed(told, ', ')}")


def _share(count: int, golden: Golden, what: str) -> str:
    return f"{count:,} of {len(golden):,} golden row{'' if len(golden) == 1 else 's'} {what}"


def _listed(texts: list[str], between: str) -> str:
    more = len(texts) - _SHOWN
    return between.join(texts[:_SHOWN]) + (f" and {more:,} more" if more > 0 else "")


def _name(row: GoldenRow) -> str:
    return f"{row.location or row.id or 'a row with its own text'} (line {row.line})"

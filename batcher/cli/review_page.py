"""A drawn answer on a terminal: the document beside it, or above it where the terminal is narrow."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from batcher.cli.output import visible_line
from batcher.quality.review import Opinion, ReviewItem

WIDE_FROM: Final = 100
"""Columns of a terminal on which two columns of text can be read."""

_GAP: Final = " │ "
_AROUND: Final = 5
"""Lines of a page that hold no document: two above, and three below."""

_LEAST_LINES: Final = 4
_TAB: Final = 4

KEYS: Final = "r right  w wrong  f fix  s skip  u undo  space more  b back  ? help  q quit"

HELP: Final = """\
r      the answer is right: it can be used as it stands
w      it is wrong
f      it is wrong, and you write the right one: your editor opens it as JSON
s      skip it for now; it comes again another time
u      take back the last label, and look at that answer again
space  the next page of a long document; b the one before
q      quit; what you have labelled is kept, and the next review goes on from there

What a judge or somebody else said is shown after you have answered, if it is something else."""


@dataclass(frozen=True, slots=True)
class Page:
    """One screen.

    Attributes:
        lines: what to print.
        number: which page this is, from 0.
        count: how many there are.
    """

    lines: tuple[str, ...]
    number: int
    count: int


def render(item: ReviewItem, place: str, number: int, columns: int, rows: int) -> Page:
    """A page of an answer beside its document.

    Args:
        item: the answer.
        place: how far the reviewer is, in words.
        number: which page; the last one if there are fewer.
        columns: the terminal's width.
        rows: its height.
    """
    height = max(_LEAST_LINES, rows - _AROUND)
    body = _beside(item, columns) if columns >= WIDE_FROM else _above(item, columns)
    count = max(1, -(-len(body) // height))
    number = min(max(0, number), count - 1)
    shown = body[number * height : (number + 1) * height]
    title = f"{item.source}  ({item.tier}, {item.model})"
    more = f"  page {number + 1} of {count}" if count > 1 else ""
    head = [_fit(title, columns), _fit(place + more, columns)]
    return Page((*head, *shown, "", _fit(KEYS, columns)), number, count)


def disagreement_lines(own: Opinion, others: Sequence[Opinion]) -> list[str]:
    """What others said of an answer, if it is not what its reviewer said; empty if all agree."""
    return [
        f"{visible_line(other.judged_by)} says it is {'right' if other.correct else 'wrong'}"
        + (f": {visible_line(other.note)}" if other.note else "")
        for other in others
        if other.correct != own.correct
    ]


def answer_lines(output: Any) -> list[str]:
    """An answer as indented JSON with the letters of all scripts, safe to print."""
    return [
        visible_line(line) for line in orjson.dumps(output, option=orjson.OPT_INDENT_2).decode().split("\n")
    ]


def wrap(text: str, width: int) -> list[str]:
    """A text's lines, none wider than so many cells of a terminal, none able to steer it."""
    lines: list[str] = []
    for line in text.splitlines():
        lines += _wrap_line(visible_line(line.expandtabs(_TAB).rstrip()), width)
    return lines


def _beside(item: ReviewItem, columns: int) -> list[str]:
    right_width = min(60, max(36, columns * 2 // 5))
    left_width = columns - right_width - len(_GAP)
    left = _document_lines(item, left_width)
    right = _answer(item, right_width)
    height = max(len(left), len(right))
    left += [""] * (height - len(left))
    right += [""] * (height - len(right))
    return [(_pad(one, left_width) + _GAP + other).rstrip() for one, other in zip(left, right, strict=True)]


def _above(item: ReviewItem, columns: int) -> list[str]:
    return ["ANSWER", *_answer(item, columns), "", "DOCUMENT", *_document_lines(item, columns)]


def _answer(item: ReviewItem, width: int) -> list[str]:
    return [part for line in answer_lines(item.output) for part in _wrap_line(line, width)]


def _document_lines(item: ReviewItem, width: int) -> list[str]:
    pictures = f"[{item.image_count} picture{'' if item.image_count == 1 else 's'}, not shown on a terminal]"
    lines = wrap(pictures, width) if item.image_count else []
    return lines + wrap(item.text, width)


def _wrap_line(line: str, width: int) -> list[str]:
    from rich.cells import cell_len, chop_cells

    if cell_len(line) <= width:
        return [line]
    indent = " " * min(len(line) - len(line.lstrip()), width // 2)
    parts = textwrap.wrap(line, width, subsequent_indent=indent, drop_whitespace=True) or [""]
    return [piece for part in parts for piece in chop_cells(part, width)]


def _pad(line: str, width: int) -> str:
    from rich.cells import set_cell_size

    return set_cell_size(line, width)


def _fit(line: str, width: int) -> str:
    from rich.cells import cell_len, set_cell_size

    safe = visible_line(line)
    return safe if cell_len(safe) <= width else set_cell_size(safe, width - 1) + "…"

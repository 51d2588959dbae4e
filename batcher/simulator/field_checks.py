"""Whether what somebody wrote into a script or sent to a control endpoint can be what its field holds."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Final

from batcher.errors import UsageError

Check = tuple[Callable[[Any], bool], str]
"""A test of a value, and in words what passes it."""


def number(least: float, most: float = math.inf) -> Check:
    """A finite number between two bounds."""
    bounds = f"between {least:g} and {most:g}" if math.isfinite(most) else f"of {least:g} or more"

    def is_one(value: Any) -> bool:
        return _is_number(value) and math.isfinite(value) and least <= value <= most

    return is_one, f"a number {bounds}"


def whole(least: int, most: int | None = None) -> Check:
    """A whole number between two bounds."""
    bounds = f"of {least} or more" if most is None else f"between {least} and {most}"

    def is_one(value: Any) -> bool:
        is_whole = isinstance(value, int) and not isinstance(value, bool)
        return is_whole and least <= value and (most is None or value <= most)

    return is_one, f"a whole number {bounds}"


def optional(check: Check) -> Check:
    """The same, or nothing."""
    is_one, words = check
    return lambda value: value is None or is_one(value), f"{words}, or null"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_list_of(kind: type) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and all(isinstance(one, kind) for one in value)


def _is_header_table(value: Any) -> bool:
    return isinstance(value, dict) and all(
        isinstance(text, str) and text.isprintable() for pair in value.items() for text in pair
    )


TEXT: Final[Check] = (lambda value: isinstance(value, str), "a text")
FLAG: Final[Check] = (lambda value: isinstance(value, bool), "true or false")
TABLE: Final[Check] = (lambda value: isinstance(value, dict), "a table")
TEXTS: Final[Check] = (_is_list_of(str), "a list of texts")
HEADERS: Final[Check] = (_is_header_table, "a table of texts, each on one line")
PAIRS: Final[Check] = (
    lambda value: isinstance(value, list | tuple) and all(map(_is_pair, value)),
    "a list of pairs of texts",
)


def _is_pair(value: Any) -> bool:
    return (
        isinstance(value, list | tuple) and len(value) == 2 and all(isinstance(text, str) for text in value)
    )


def check_fields(given: Mapping[str, Any], checks: Mapping[str, Check], owner: str) -> None:
    """Refuse a value that its field cannot hold.

    Args:
        given: values by field; fields without a check hold anything.
        checks: by field.
        owner: whose fields, in a word or two.

    Raises:
        UsageError: naming the field, the value and what it must be.
    """
    for name, value in given.items():
        is_one, words = checks.get(name, (lambda _: True, ""))
        if not is_one(value):
            raise UsageError(f"{name} = {value!r} of {owner} must be {words}")

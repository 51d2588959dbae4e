"""How right an answer is: functions of (expected, output) that return a :class:`Score` between 0 and 1.

A task's ``scorer`` is one of these, a mapping of field to scorer (their mean), or a function of your own that
returns a number, a bool or a Score. Only fields that the golden row holds are scored.
"""

from __future__ import annotations

import difflib
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from batcher.errors import TaskError


@dataclass(frozen=True, slots=True)
class Score:
    """How right one answer is.

    Attributes:
        value: 0 (wrong) to 1 (right).
        fields: the same by field ("entities.people"), where the scorer looks at fields.
    """

    value: float
    fields: dict[str, float] = field(default_factory=dict)


Scorer = Callable[[Any, Any], Score]


@dataclass(frozen=True, slots=True)
class ByField:
    """A scorer of objects: the mean over those of its fields that the known answer holds.

    Attributes:
        scorers: by field.
    """

    scorers: Mapping[str, Scorer]

    def __call__(self, expected: Any, output: Any) -> Score:
        """The mean, and the score of each field."""
        if not isinstance(expected, dict):
            return exact(expected, output)
        scored = {name: scorer for name, scorer in self.scorers.items() if name in expected}
        return _mean(scored, expected, output)


@dataclass(frozen=True, slots=True)
class Judged:
    """A scorer that is no function: a model holds the answer against the known one, in a job of its own.

    Attributes:
        by: the tier or model that judges.
    """

    by: str

    def __call__(self, _expected: Any, _output: Any) -> Score:
        """There is no score without a call.

        Raises:
            TaskError: always.
        """
        raise TaskError("This task's answers are scored by a judge: run them as a job with --judge.")


def judged(by: str = "premium") -> Judged:
    """A scorer for answers in prose: whether they say what the known answer says, as a model judges it.

    It scores whole answers, so it cannot stand for one field among others. Its calls cost, stand under the
    caps, and are made only where a job has known answers or samples to judge.

    Args:
        by: the tier or model that judges where neither ``--judge`` nor the task's ``judge`` names one.
    """
    return Judged(by)


def as_scorer(scorer: Scorer | Mapping[str, Any] | Callable[[Any, Any], Any]) -> Scorer:
    """A scorer out of whatever a task author wrote: a scorer, a mapping of field to scorer, or a function.

    Raises:
        TaskError: if it is none of these; and, when called, if a function returns no number from 0 to 1.
    """
    if isinstance(scorer, (Judged, ByField)):
        return scorer
    if isinstance(scorer, Mapping):
        return fields(scorer)
    if not callable(scorer):
        raise TaskError(f"A scorer is a function or a mapping of field to scorer, not {scorer!r}.")
    function: Callable[[Any, Any], Any] = scorer

    def checked(expected: Any, output: Any) -> Score:
        returned = function(expected, output)
        result = Score(float(returned)) if isinstance(returned, (bool, int, float)) else returned
        if not isinstance(result, Score) or not 0 <= result.value <= 1:
            name = getattr(function, "__name__", repr(function))
            raise TaskError(f"The scorer {name} returned {returned!r}; it must return a number from 0 to 1.")
        return result

    return checked


def exact(expected: Any, output: Any) -> Score:
    """1 if both are the same JSON value, true and 1 being different, 1 and 1.0 the same. Symmetric."""
    return Score(float(_canonical(expected) == _canonical(output)))


def normalised(expected: Any, output: Any) -> Score:
    """1 if both say the same apart from case, white space, punctuation and Unicode form. Symmetric.

    Marks within numbers count (3.5 is not 35, -2 is not 2), thousands commas do not. A list of one value
    counts as that value, null as the empty text.
    """
    return Score(float(_plain(_only_value(expected)) == _plain(_only_value(output))))


def numeric(tolerance: float = 0.0, *, relative: float = 0.0) -> Scorer:
    """A scorer that is 1 if two numbers differ by no more than a tolerance. Symmetric.

    Texts are read as numbers without currency signs, thousands commas and percent signs ("$1,200.50").

    Args:
        tolerance: largest difference that counts as equal.
        relative: the same as a share of the larger magnitude; the wider of the two holds.
    """

    def close(expected: Any, output: Any) -> Score:
        left, right = _number(_only_value(expected)), _number(_only_value(output))
        if left is None or right is None:
            return normalised(expected, output) if left is right else Score(0.0)
        allowed = max(tolerance, relative * max(abs(left), abs(right)))
        return Score(float(abs(left - right) <= allowed))

    return close


def set_f1(expected: Any, output: Any) -> Score:
    """F1 of two lists as sets of normalised values; two empty lists agree. Symmetric."""
    return Score(
        _f1(Counter(set(map(_plain, _values(expected)))), Counter(set(map(_plain, _values(output)))))
    )


def list_f1(expected: Any, output: Any) -> Score:
    """F1 of two lists in which repeats count and order does not. Symmetric."""
    return Score(_f1(Counter(map(_plain, _values(expected))), Counter(map(_plain, _values(output)))))


def word_f1(expected: Any, output: Any) -> Score:
    """F1 of the words of two texts (or lists of texts): how much they share, in any order. Symmetric."""
    return Score(_f1(Counter(_words(expected)), Counter(_words(output))))


def fields(by_field: Mapping[str, Any]) -> Scorer:
    """A scorer of objects: the mean over the named fields that ``expected`` holds.

    Args:
        by_field: for each field its scorer, or a mapping again for an object within.
    """
    scorers = {name: as_scorer(scorer) for name, scorer in by_field.items()}
    if any(isinstance(scorer, Judged) for scorer in scorers.values()):
        raise TaskError("judged() scores whole answers: it cannot stand for one field among others.")

    return ByField(scorers)


def unknown_fields(scorer: Any, schema: Mapping[str, Any], within: str = "") -> list[str]:
    """The fields that a scorer names and no answer to a schema has, each with the one that may be meant.

    A name that is misspelled would leave its field unscored, without a word.
    """
    known = schema.get("properties")
    if not isinstance(scorer, ByField) or not known or schema.get("additionalProperties") is not False:
        return []
    found = []
    for name, inner in scorer.scorers.items():
        if name in known:
            found += unknown_fields(inner, known[name], f"{within}{name}.")
        else:
            close = difflib.get_close_matches(name, known, n=1)
            found.append(f"{within}{name!s}" + (f" (did you mean {within}{close[0]}?)" if close else ""))
    return found


def by_type(expected: Any, output: Any) -> Score:
    """Scores fields not known beforehand: objects by field, lists as sets, numbers and texts by value.

    Every field of ``expected`` counts alike. Use it where the schema is a parameter.
    """
    if isinstance(expected, dict):
        return _mean(dict.fromkeys(expected, by_type), expected, output)
    if isinstance(expected, list) and isinstance(output, list):
        return set_f1(expected, output)
    if isinstance(expected, (int, float)) and not isinstance(expected, bool):
        return numeric()(expected, output)
    return normalised(expected, output)


def _mean(scorers: Mapping[str, Scorer], expected: dict[str, Any], output: Any) -> Score:
    if not scorers:
        return exact(expected, output)
    answers = output if isinstance(output, dict) else {}
    told: dict[str, float] = {}
    total = 0.0
    for name, scorer in scorers.items():
        score = scorer(expected[name], answers[name]) if name in answers else Score(0.0)
        total += score.value
        told[name] = score.value
        told.update({f"{name}.{inner}": value for inner, value in score.fields.items()})
    return Score(min(1.0, total / len(scorers)), told)


def _f1(left: Counter[str], right: Counter[str]) -> float:
    size = left.total() + right.total()
    return 2 * (left & right).total() / size if size else 1.0


def _values(value: Any) -> list[Any]:
    if isinstance(value, list):
        return value
    return [] if value is None else [value]


def _only_value(value: Any) -> Any:
    return value[0] if isinstance(value, list) and len(value) == 1 else value


def _words(value: Any) -> list[str]:
    return [word for part in _values(value) for word in _plain(part).split()]


def _canonical(value: Any) -> str:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, dict):
        inner = sorted((repr(key), _canonical(part)) for key, part in value.items())
        return "{" + ",".join(f"{key}:{part}" for key, part in inner) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(map(_canonical, value)) + "]"
    return repr(value)


_THOUSANDS: Final = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
_KEPT_IN_NUMBERS: Final = re.compile(r"(?<=\d)[.,:/-](?=\d)|(?<![^\s(])-(?=[\d.])")


def _plain(value: Any) -> str:
    """A value as text without case, surplus white space and punctuation."""
    if value is None:
        return ""
    if isinstance(value, (dict, list)):
        return _canonical(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    text = value if isinstance(value, str) else _scalar_text(value)
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    text = _THOUSANDS.sub("", text)
    kept = {match.start() for match in _KEPT_IN_NUMBERS.finditer(text)}
    marked = [
        char if index in kept or not unicodedata.category(char).startswith("P") else _in_place_of(char)
        for index, char in enumerate(text)
    ]
    return " ".join("".join(marked).split()) or " ".join(text.split())


def _scalar_text(value: Any) -> str:
    """A scalar as JSON writes it (``true``, ``3.5``), or as Python does where JSON cannot."""
    try:
        return orjson.dumps(value).decode()
    except TypeError:
        return str(value)


def _in_place_of(mark: str) -> str:
    return "" if mark in ".'\u2019" else " "


_NUMBER: Final = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?", re.IGNORECASE)


def _number(value: Any) -> float | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, str):
        bare = "".join(char for char in value if unicodedata.category(char) != "Sc")
        bare = _THOUSANDS.sub("", bare.replace("%", "")).strip()
        if not _NUMBER.fullmatch(bare):
            return None
        value = bare
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None

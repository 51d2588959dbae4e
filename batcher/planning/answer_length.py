"""How long answers are before any was given: by known right answers, or by what the schema has room for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from batcher.tasks.golden import Golden, unfit_answers

ANSWER_BYTES_PER_TOKEN: Final = 4
"""Of compact JSON in English: in o200k 3.8 to 4.2 on the golden answers of enrichment and summarization, on
the fields of loan agreements and on labels; on receipts' fields, which are mostly figures, 2.4 (measured on
2026-11-20)."""

_MOST_ROWS: Final = 200
_FIELD_CHARS: Final = 16
"""Of a name, a date or an amount: 12 to 20 in the golden answers of the example corpora."""

_PROSE_CHARS: Final = 250
"""Of a text without a limit: three sentences."""

_PROSE_FROM_CHARS: Final = 200
"""A field that may be this long is taken to hold sentences, half as many as it has room for."""

_SCALAR_CHARS: Final = {
    "integer": (1.0, 3.0),
    "number": (1.0, 5.0),
    "boolean": (4.0, 5.0),
    "null": (4.0, 4.0),
}
_LIST_ITEMS: Final = 3
_DEEPEST: Final = 12


@dataclass(frozen=True, slots=True)
class Length:
    """How long answers are, tokens.

    Attributes:
        typical: of a usual one.
        least: of a short one.
        answers: how many known answers this rests on; 0 for a guess.
    """

    typical: float
    least: float
    answers: int = 0


def length_of_known(golden: Golden, schema: Mapping[str, Any]) -> Length | None:
    """The length of those known right answers that are whole; None if none is.

    A whole one has every required field, and none that the schema does not have. At most 200 rows are looked
    at, spread over the file.
    """
    required = set(schema.get("required", ()))
    whole = [
        _as_written(row.expected, schema)
        for row in golden.rows[:: 1 + len(golden) // _MOST_ROWS]
        if isinstance(row.expected, dict)
        and required <= row.expected.keys()
        and not unfit_answers(Golden(golden.path, [row]), schema)
    ]
    if not whole:
        return None
    tokens = sorted(max(1.0, len(orjson.dumps(answer)) / ANSWER_BYTES_PER_TOKEN) for answer in whole)
    return Length(sum(tokens) / len(tokens), tokens[len(tokens) // 20], len(tokens))


def length_of_schema(schema: Mapping[str, Any]) -> Length | None:
    """What an answer that fits a schema is likely to be long: a guess from its fields, lists and limits.

    None if the schema does not tell: it holds no fields, or contains itself.
    """
    try:
        least, typical = _chars(schema, 0)
    except _NotToldError:
        return None
    return Length(max(1.0, typical / ANSWER_BYTES_PER_TOKEN), max(1.0, least / ANSWER_BYTES_PER_TOKEN))


def _as_written(expected: Mapping[str, Any], schema: Mapping[str, Any]) -> dict[str, Any]:
    """A known answer as a model writes it: golden files may list spellings where the schema has one text."""
    fields = schema.get("properties", {})
    written = {}
    for name, value in expected.items():
        is_list = _type_of(fields.get(name)) == "array"
        written[name] = value[0] if isinstance(value, list) and value and not is_list else value
    return written


class _NotToldError(Exception):
    """The schema does not say how long an answer is."""


def _type_of(schema: Any) -> str:
    if not isinstance(schema, dict):
        return ""
    kind = schema.get("type", "")
    if isinstance(kind, list):
        kind = next((name for name in kind if name != "null"), "null")
    return str(kind or ("object" if "properties" in schema else "array" if "items" in schema else ""))


def _chars(schema: Any, depth: int) -> tuple[float, float]:
    """The characters of a short and of a usual value, as compact JSON."""
    least, typical = _chars_of_solid(schema, depth)
    may_be_null = isinstance(schema.get("type"), list) and "null" in schema["type"]
    return (min(least, _SCALAR_CHARS["null"][0]) if may_be_null else least), typical


def _chars_of_solid(schema: Any, depth: int) -> tuple[float, float]:
    """The same of a value that is not null where it may be something else."""
    if not isinstance(schema, dict) or not schema or depth > _DEEPEST or "$ref" in schema:
        raise _NotToldError
    if "const" in schema or "enum" in schema:
        return _of_choices(schema.get("enum", [schema.get("const")]))
    branches = schema.get("anyOf") or schema.get("oneOf")
    if branches:
        return _of_branches(branches, depth)
    return _of_type(_type_of(schema), schema, depth)


def _of_type(kind: str, schema: Mapping[str, Any], depth: int) -> tuple[float, float]:
    if kind == "object":
        return _of_object(schema, depth)
    if kind == "array":
        return _of_list(schema, depth)
    if kind == "string":
        return _of_text(schema)
    if kind not in _SCALAR_CHARS:
        raise _NotToldError
    return _SCALAR_CHARS[kind]


def _of_choices(choices: Iterable[Any]) -> tuple[float, float]:
    lengths = [len(orjson.dumps(choice)) for choice in choices]
    if not lengths:
        raise _NotToldError
    return float(min(lengths)), sum(lengths) / len(lengths)


def _of_branches(branches: Iterable[Any], depth: int) -> tuple[float, float]:
    """Any of them; null only for the shortest, because a field is there to be filled."""
    solid = [branch for branch in branches if _type_of(branch) != "null"]
    if not solid:
        return 4.0, 4.0
    found = [_chars(branch, depth + 1) for branch in solid]
    least = min(least for least, _ in found)
    if len(solid) < len(list(branches)):
        least = min(least, 4.0)
    return least, sum(typical for _, typical in found) / len(found)


def _of_object(schema: Mapping[str, Any], depth: int) -> tuple[float, float]:
    fields = schema.get("properties")
    if not fields:
        raise _NotToldError
    required = schema.get("required", ())
    least, typical = [], []
    for name, part in fields.items():
        shortest, usual = _chars(part, depth + 1)
        around = len(name) + len('"":')
        typical.append(around + usual)
        if name in required:
            least.append(around + shortest)
    return _between_brackets(least), _between_brackets(typical)


def _of_list(schema: Mapping[str, Any], depth: int) -> tuple[float, float]:
    shortest, usual = _chars(schema.get("items"), depth + 1)
    least = int(schema.get("minItems", 0))
    most = schema.get("maxItems")
    count = max(least, _LIST_ITEMS if most is None else min(_LIST_ITEMS, most))
    return _between_brackets([shortest] * least), _between_brackets([usual] * count)


def _between_brackets(parts: Sequence[float]) -> float:
    """Values with commas between them, in brackets."""
    return 2 + sum(parts) + max(0, len(parts) - 1)


def _of_text(schema: Mapping[str, Any]) -> tuple[float, float]:
    least, most = int(schema.get("minLength", 0)), schema.get("maxLength")
    if most is None:
        usual = float(_FIELD_CHARS if "format" in schema or "pattern" in schema else _PROSE_CHARS / 4)
    elif most >= _PROSE_FROM_CHARS:
        usual = min(most / 2, 2.0 * _PROSE_CHARS)
    else:
        usual = float(min(_FIELD_CHARS, most))
    return 2.0 + least, 2.0 + max(least, usual)

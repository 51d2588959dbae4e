"""Answers: JSON that fits a schema, or plain words, made of the document's own words from a seed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import orjson

_FACTOR: Final = 6364136223846793005
_STEP: Final = 1442695040888963407
_MASK: Final = (1 << 64) - 1
"""Knuth's linear congruential generator: fast, and good enough to choose words."""

_DEEPEST: Final = 8
"""Where a schema that contains itself stops to be followed."""

_PROSE: Final = frozenset(
    {
        *("summary", "abstract", "description", "explanation", "rationale", "reasoning", "reason"),
        *("analysis", "body", "text", "answer", "notes", "comment", "overview", "content"),
    }
)
"""Fields that hold sentences; all others hold a few words."""

_FORMATS: Final = ("date", "date-time", "time", "email", "uri", "uuid")


class _Choices:
    """A tiny deterministic source of choices, and of words out of the document."""

    def __init__(self, seed: int, text: str, nulls: bool = False) -> None:
        self._nulls = nulls
        self._state = seed & _MASK
        self._words = [word for word in text[:600].split() if word.isalpha()] or ["alpha", "beta", "gamma"]

    def below(self, count: int) -> int:
        self._state = (self._state * _FACTOR + _STEP) & _MASK
        return (self._state >> 33) % count if count > 0 else 0

    def null(self) -> bool:
        """Whether to take null where it is allowed."""
        return self._nulls and self.below(8) == 0

    def words(self, count: int) -> str:
        words, state = self._words, self._state
        many = len(words)
        chosen = []
        for _ in range(count):
            state = (state * _FACTOR + _STEP) & _MASK
            chosen.append(words[(state >> 33) % many])
        self._state = state
        return " ".join(chosen)


def fitting_json(schema: Mapping[str, Any], seed: int, text: str, *, nulls: bool = False) -> str:
    """A JSON text that fits ``schema``; the same arguments give the same text.

    Args:
        schema: JSON Schema. ``pattern``, ``not``, ``if`` and conditions across fields are not followed.
        seed: chooses among what fits.
        text: the document, for words.
        nulls: whether what may be null is so one time in eight.
    """
    return orjson.dumps(_instance(schema, _Choices(seed, text, nulls), schema, 0, "")).decode()


def plain_answer(seed: int, text: str) -> str:
    """Between 20 and 119 words for a request without a schema; the same arguments give the same text."""
    choices = _Choices(seed, text)
    return f"An answer to {seed % 9973}: {choices.words(20 + choices.below(100))}."


def _instance(schema: Any, choices: _Choices, root: Mapping[str, Any], depth: int, name: str) -> Any:
    if not isinstance(schema, dict) or not schema:
        return choices.words(1)
    if "$ref" in schema:
        return _instance(_resolve(schema["$ref"], root), choices, root, depth + 1, name)
    if "const" in schema:
        return schema["const"]
    if schema.get("enum"):
        return schema["enum"][choices.below(len(schema["enum"]))]
    if "allOf" in schema:
        return _instance(_merged(schema), choices, root, depth, name)
    return _of_branch_or_type(schema, choices, root, depth, name)


def _of_branch_or_type(
    schema: Mapping[str, Any], choices: _Choices, root: Mapping[str, Any], depth: int, name: str
) -> Any:
    branches = schema.get("anyOf") or schema.get("oneOf")
    if branches:
        return _instance(_branch(branches, choices, depth), choices, root, depth + 1, name)
    return _of_type(_type_of(schema, choices), schema, choices, root, depth, name)


def _merged(schema: Mapping[str, Any]) -> dict[str, Any]:
    merged = {key: value for part in schema["allOf"] for key, value in part.items()}
    beside = {key: value for key, value in schema.items() if key != "allOf"}
    return {**merged, **beside}


def _branch(branches: list[Any], choices: _Choices, depth: int) -> Any:
    """One of the solid branches, or null."""
    solid = [branch for branch in branches if not (isinstance(branch, dict) and branch.get("type") == "null")]
    empty = [branch for branch in branches if branch not in solid]
    if not solid or (empty and (depth >= _DEEPEST or choices.null())):
        return empty[0]
    return solid[0] if depth >= _DEEPEST else solid[choices.below(len(solid))]


def _type_of(schema: Mapping[str, Any], choices: _Choices) -> str:
    kind = schema.get("type")
    if isinstance(kind, list):
        solid = [name for name in kind if name != "null"]
        if not solid or (len(solid) < len(kind) and choices.null()):
            return "null"
        kind = solid[choices.below(len(solid))]
    return kind or ("object" if "properties" in schema else "array" if "items" in schema else "string")


def _of_type(
    kind: str, schema: Mapping[str, Any], choices: _Choices, root: Mapping[str, Any], depth: int, name: str
) -> Any:
    if kind == "object":
        required = schema.get("required", ())
        return {
            key: _instance(part, choices, root, depth + 1, key)
            for key, part in schema.get("properties", {}).items()
            if key in required or depth < 3
        }
    if kind == "array":
        return _list(schema, choices, root, depth, name)
    if kind == "string":
        return _string(schema, choices, name)
    if kind in {"integer", "number"}:
        return _number(kind, schema, choices)
    return bool(choices.below(2)) if kind == "boolean" else None


def _list(
    schema: Mapping[str, Any], choices: _Choices, root: Mapping[str, Any], depth: int, name: str
) -> list[Any]:
    if "prefixItems" in schema:
        return [_instance(part, choices, root, depth + 1, name) for part in schema["prefixItems"]]
    least = schema.get("minItems", 0)
    most = schema.get("maxItems", max(least, 5))
    count = min(most, max(least, 1 + choices.below(5))) if depth < _DEEPEST else least
    inner = schema.get("items", {})
    made = [_instance(inner, choices, root, depth + 1, name) for _ in range(count)]
    if not schema.get("uniqueItems"):
        return made
    different = list({orjson.dumps(value): value for value in made}.values())
    for _ in range(20 * (least - len(different))):
        value = _instance(inner, choices, root, depth + 1, name)
        if value not in different:
            different.append(value)
        if len(different) >= least:
            break
    return different


def _string(schema: Mapping[str, Any], choices: _Choices, name: str) -> str:
    if schema.get("format") in _FORMATS:
        return _of_format(schema["format"], choices)
    count = 15 + choices.below(30) if name.lower() in _PROSE else 1 + choices.below(4)
    value = choices.words(count)
    missing = schema.get("minLength", 0) - len(value)
    if missing > 0:
        value += "x" * missing
    return value[: schema["maxLength"]] if "maxLength" in schema else value


def _of_format(name: str, choices: _Choices) -> str:
    day = f"2026-{1 + choices.below(12):02d}-{1 + choices.below(28):02d}"
    clock = f"{choices.below(24):02d}:{choices.below(60):02d}:00Z"
    number = choices.below(10_000)
    return {
        "date": day,
        "date-time": f"{day}T{clock}",
        "time": clock,
        "email": f"someone.{number}@example.org",
        "uri": f"https://example.org/{number}",
        "uuid": f"00000000-0000-4000-8000-{number:012d}",
    }[name]


def _number(kind: str, schema: Mapping[str, Any], choices: _Choices) -> int | float:
    low = schema.get("minimum", schema.get("exclusiveMinimum"))
    high = schema.get("maximum", schema.get("exclusiveMaximum"))
    if low is None:
        low = 0 if high is None or high > 0 else high - 100
    if high is None:
        high = low + 100
    step = schema.get("multipleOf")
    if kind == "integer" or step:
        step = step or 1
        first = -(-low // step) + ("exclusiveMinimum" in schema and low % step == 0)
        last = high // step - ("exclusiveMaximum" in schema and high % step == 0)
        value = (first + choices.below(int(last - first) + 1)) * step
        return int(value) if kind == "integer" else value
    return float(low + (high - low) * (1 + choices.below(99)) / 100)


def _resolve(ref: str, root: Mapping[str, Any]) -> Any:
    found: Any = root
    for part in ref.removeprefix("#").strip("/").split("/"):
        found = found[part.replace("~1", "/").replace("~0", "~")] if part else found
    return found

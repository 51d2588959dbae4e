"""A task's answers as columns: one per field, nested ones by dotted names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import orjson

PREFIX: Final = "output"
"""What the names of answer columns begin with, so that none hides a column of batcher's own."""


class Kind(StrEnum):
    """What a column holds. ``JSON`` is text: whatever has no simple type."""

    TEXT = "text"
    INTEGER = "integer"
    NUMBER = "number"
    BOOLEAN = "boolean"
    JSON = "json"


@dataclass(frozen=True, slots=True)
class Column:
    """One column of the answers.

    Attributes:
        name: ``output.entities.people``.
        path: the keys that lead there, ``("entities", "people")``; empty for an answer that is no object.
        kind: what it holds.
        is_list: whether it holds a list of that kind.
    """

    name: str
    path: tuple[str, ...]
    kind: Kind
    is_list: bool = False

    def value(self, answer: Any) -> Any:
        """The column's value in an answer, or None where it has none."""
        for key in self.path:
            if not isinstance(answer, dict):
                return None
            answer = answer.get(key)
        return answer


_KINDS: Final = {
    "string": Kind.TEXT,
    "integer": Kind.INTEGER,
    "number": Kind.NUMBER,
    "boolean": Kind.BOOLEAN,
}


def answer_columns(schema: Mapping[str, Any]) -> list[Column]:
    """The columns of every answer that fits a schema without references, in the schema's order."""
    return _columns(schema, ())


def as_json(value: Any) -> str:
    """A value of a JSON column as text."""
    return orjson.dumps(value).decode()


def _columns(schema: Any, path: tuple[str, ...]) -> list[Column]:
    solid = _without_null(schema)
    properties = solid.get("properties")
    if isinstance(properties, Mapping) and properties and not _is_open(solid):
        return [column for key, part in properties.items() for column in _columns(part, (*path, key))]
    kind, is_list = _kind(solid)
    return [Column(".".join((PREFIX, *path)), path, kind, is_list)]


def _is_open(schema: Mapping[str, Any]) -> bool:
    """Whether an object may have keys that its schema does not name by declaring what they hold."""
    return isinstance(schema.get("additionalProperties"), Mapping) or "patternProperties" in schema


def _kind(schema: Mapping[str, Any]) -> tuple[Kind, bool]:
    if _type(schema) == "array":
        items = _without_null(schema.get("items"))
        kind = _KINDS.get(_type(items), Kind.JSON)
        return (kind, True) if kind is not Kind.JSON and items == schema.get("items") else (Kind.JSON, False)
    return _KINDS.get(_type(schema), Kind.JSON), False


def _type(schema: Mapping[str, Any]) -> str:
    """The one JSON type that a schema allows, or ""."""
    kind = schema.get("type")
    if isinstance(kind, list):
        solid = [name for name in kind if name != "null"]
        kind = solid[0] if len(solid) == 1 else ""
    if kind is None:
        values = [schema["const"]] if "const" in schema else schema.get("enum") or [None]
        kind = "string" if all(isinstance(value, str) for value in values if value is not None) else ""
        kind = kind if any(value is not None for value in values) else ""
    return str(kind)


def _without_null(schema: Any) -> Mapping[str, Any]:
    """The schema behind "this or null"; {} where there are several, or no schema at all."""
    if not isinstance(schema, Mapping):
        return {}
    for word in ("anyOf", "oneOf"):
        if word in schema:
            solid = [branch for branch in schema[word] if branch.get("type") != "null"]
            return _without_null(solid[0]) if len(solid) == 1 else {}
    return schema

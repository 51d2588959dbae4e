"""A JSON Schema in words: a third of the tokens, and small models follow it better."""

from __future__ import annotations

from typing import Any, Final

import orjson

_READ: Final = frozenset(
    {
        *("type", "properties", "required", "additionalProperties", "items", "enum", "const", "anyOf"),
        *("minLength", "maxLength", "pattern", "format", "minItems", "maxItems"),
        *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "description"),
    }
)
_PASSED_OVER: Final = frozenset({"title", "default", "examples", "$schema", "$id", "$comment", "deprecated"})
_PLURALS: Final = {
    "string": "strings",
    "integer": "whole numbers",
    "number": "numbers",
    "boolean": "true/false values",
}
_SINGULARS: Final = {
    "string": "string",
    "integer": "whole number",
    "number": "number",
    "boolean": "true or false",
}
_NUMBER_BOUNDS: Final = (
    ("minimum", "at least"),
    ("maximum", "at most"),
    ("exclusiveMinimum", "more than"),
    ("exclusiveMaximum", "less than"),
)


class _BeyondWordsError(Exception):
    """The schema uses something that the outline has no words for."""


def answer_format(schema: dict[str, Any]) -> str:
    """Tells a model how to answer: the schema in words, or as JSON where words would lose something."""
    try:
        lines = _fields(schema, "")
    except _BeyondWordsError:
        text = orjson.dumps(schema).decode()
        return f"Answer with one JSON object and nothing else. It must fit this JSON Schema:\n{text}"
    fields = "\n".join(lines)
    return f"Answer with one JSON object and nothing else. Its fields, in this order:\n{fields}"


def _fields(schema: dict[str, Any], indent: str) -> list[str]:
    properties = schema.get("properties")
    if schema.get("type") != "object" or not properties or schema.keys() - _READ - _PASSED_OVER:
        raise _BeyondWordsError
    if schema.get("additionalProperties", False) is not False:
        raise _BeyondWordsError
    required = set(schema.get("required", ()))
    lines: list[str] = []
    for name, part in properties.items():
        words, inner = _value(part, indent)
        optional = "" if name in required else " (may be left out)"
        about = f". {_one_line(part['description'])}" if part.get("description") else ""
        lines += [f"{indent}- {_json(name)}{optional}: {words}{about}", *inner]
    return lines


def _value(schema: Any, indent: str) -> tuple[str, list[str]]:
    """Words for one value, and the lines of the fields under it."""
    if not isinstance(schema, dict) or schema.keys() - _READ - _PASSED_OVER:
        raise _BeyondWordsError
    if "enum" in schema or "const" in schema:
        return _choice(schema), []
    if "anyOf" in schema:
        if schema.keys() - _PASSED_OVER - {"anyOf", "description"}:
            raise _BeyondWordsError
        return _alternatives(schema["anyOf"], indent)
    if isinstance(schema.get("type"), list):
        return _alternatives([{**schema, "type": kind} for kind in schema["type"]], indent)
    if schema.get("type") == "array":
        return _list(schema, indent)
    if schema.get("type") == "object":
        return "object", _fields(schema, indent + "  ")
    return _scalar(schema), []


def _choice(schema: dict[str, Any]) -> str:
    if "const" in schema:
        return f"always {_json(schema['const'])}"
    return "one of " + ", ".join(_json(choice) for choice in schema["enum"])


def _scalar(schema: dict[str, Any]) -> str:
    if schema.get("type") == "null":
        return "null"
    if schema.get("type") not in _SINGULARS:
        raise _BeyondWordsError
    return f"{_SINGULARS[schema['type']]}{_bounds(schema)}"


def _alternatives(parts: list[Any], indent: str) -> tuple[str, list[str]]:
    told = [_value(part, indent) for part in parts]
    if sum(bool(inner) for _, inner in told) > 0:
        raise _BeyondWordsError
    return ", or ".join(words for words, _ in told), []


def _list(schema: dict[str, Any], indent: str) -> tuple[str, list[str]]:
    items = schema.get("items")
    size = _span(schema.get("minItems", 0), schema.get("maxItems"))
    if not isinstance(items, dict) or items.keys() - _READ - _PASSED_OVER:
        raise _BeyondWordsError
    if items.get("type") == "object" and "enum" not in items and "const" not in items:
        return f"list of {size}objects", _fields(items, indent + "  ")
    if items.get("type") in _PLURALS and "enum" not in items and "const" not in items:
        return f"list of {size}{_PLURALS[items['type']]}{_bounds(items)}", []
    words, inner = _value(items, indent)
    if inner:
        raise _BeyondWordsError
    return f"list of {size}values, each {words}", []


def _bounds(schema: dict[str, Any]) -> str:
    """What limits a value, to follow its name: " of 1 to 40 characters, matching ^[a-z]+$"."""
    told: list[str] = []
    if schema.get("format"):
        told.append(f"in JSON Schema's format {schema['format']}")
    if schema.get("pattern"):
        told.append(f"matching {schema['pattern']}")
    told += [f"{words} {schema[key]}" for key, words in _NUMBER_BOUNDS if key in schema]
    length = _span(schema.get("minLength", 0), schema.get("maxLength"))
    return (f" of {length}characters" if length else "") + "".join(f", {bound}" for bound in told)


def _span(least: int, most: int | None) -> str:
    if most is None:
        return f"at least {least} " if least else ""
    if least == most:
        return f"exactly {most} "
    return f"{least} to {most} " if least else f"at most {most} "


def _json(value: Any) -> str:
    return orjson.dumps(value).decode()


def _one_line(text: str) -> str:
    return " ".join(text.split())

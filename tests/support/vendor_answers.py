"""Answers of the loopback vendor: JSON that fits a schema, made from the document and the request's hash."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

_MASK = (1 << 64) - 1
_NOT_FOR_CLAUDE = (
    *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
    *("minLength", "maxLength"),
)


class _Choices:
    """A tiny deterministic source of choices, and of words out of the document."""

    def __init__(self, seed: int, text: str) -> None:
        self._state = seed & _MASK
        self._words = [word for word in text[:600].split() if word.isalpha()] or ["alpha", "beta", "gamma"]

    def below(self, count: int) -> int:
        self._state = (self._state * 6364136223846793005 + 1442695040888963407) & _MASK
        return (self._state >> 33) % count if count > 0 else 0

    def words(self, count: int) -> str:
        return " ".join(self._words[self.below(len(self._words))] for _ in range(count))


def fitting_json(schema: Mapping[str, Any], seed: int, text: str) -> str:
    """A JSON text that fits ``schema``; the same arguments give the same text."""
    return orjson.dumps(_instance(schema, _Choices(seed, text), schema, 0)).decode()


def _instance(schema: Any, choices: _Choices, root: Mapping[str, Any], depth: int) -> Any:
    if not isinstance(schema, Mapping) or not schema:
        return choices.words(1)
    if "$ref" in schema:
        return _instance(_resolve(schema["$ref"], root), choices, root, depth + 1)
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return schema["enum"][choices.below(len(schema["enum"]))]
    if "allOf" in schema:
        merged = {key: value for part in schema["allOf"] for key, value in part.items()}
        beside = {key: value for key, value in schema.items() if key != "allOf"}
        return _instance({**merged, **beside}, choices, root, depth)
    branches = schema.get("anyOf") or schema.get("oneOf")
    if branches:
        solid = [branch for branch in branches if branch.get("type") != "null"]
        return _instance(solid[0] if solid and depth < 8 else branches[-1], choices, root, depth + 1)
    return _of_type(_type_of(schema), schema, choices, root, depth)


def _type_of(schema: Mapping[str, Any]) -> str:
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = next((name for name in kind if name != "null"), "null")
    return kind or ("object" if "properties" in schema else "array" if "items" in schema else "string")


def _of_type(
    kind: str, schema: Mapping[str, Any], choices: _Choices, root: Mapping[str, Any], depth: int
) -> Any:
    if kind == "object":
        required = schema.get("required", ())
        return {
            name: _instance(part, choices, root, depth + 1)
            for name, part in schema.get("properties", {}).items()
            if name in required or depth < 3
        }
    if kind == "array":
        least = schema.get("minItems", 0)
        most = schema.get("maxItems", max(least, 3))
        count = min(most, max(least, 1 + choices.below(3))) if depth < 8 else least
        if "prefixItems" in schema:
            return [_instance(part, choices, root, depth + 1) for part in schema["prefixItems"]]
        return [_instance(schema.get("items", {}), choices, root, depth + 1) for _ in range(count)]
    if kind == "string":
        return _string(schema, choices)
    if kind in {"integer", "number"}:
        return _number(kind, schema, choices)
    return bool(choices.below(2)) if kind == "boolean" else None


def _string(schema: Mapping[str, Any], choices: _Choices) -> str:
    by_format = {
        "date": f"2026-{1 + choices.below(12):02d}-{1 + choices.below(28):02d}",
        "date-time": "2026-11-20T12:00:00Z",
        "email": "someone@example.org",
        "uri": "https://example.org/",
    }
    if schema.get("format") in by_format:
        return by_format[schema["format"]]
    value = choices.words(2 + choices.below(3)).ljust(schema.get("minLength", 0), "x")
    return value[: schema["maxLength"]] if "maxLength" in schema else value


def _number(kind: str, schema: Mapping[str, Any], choices: _Choices) -> int | float:
    low = schema.get("minimum", schema.get("exclusiveMinimum", 0))
    high = schema.get("maximum", schema.get("exclusiveMaximum", low + 100))
    if kind == "integer":
        first = int(low) + ("exclusiveMinimum" in schema)
        return first + choices.below(int(high) - first + ("exclusiveMaximum" not in schema))
    return low + (high - low) * (1 + choices.below(99)) / 100


def _resolve(ref: str, root: Mapping[str, Any]) -> Any:
    found: Any = root
    for part in ref.removeprefix("#").strip("/").split("/"):
        found = found[part] if part else found
    return found


def strict_schema_fault(schema: Any, path: str = "#") -> str:
    """What OpenAI's strict mode would say against a schema, or "" (its documented rules)."""
    if isinstance(schema, list):
        return next(filter(None, (strict_schema_fault(part, path) for part in schema)), "")
    if not isinstance(schema, Mapping):
        return ""
    properties = schema.get("properties")
    if schema.get("type") == "object" or properties is not None:
        if schema.get("additionalProperties") is not False:
            return f"In context={path}, 'additionalProperties' is required to be supplied and to be false."
        if set(schema.get("required", ())) != set(properties or {}):
            return f"In context={path}, 'required' must include every key in properties."
    for word in ("default", "allOf", "oneOf", "not", "minLength", "maxLength", "patternProperties"):
        if word in schema:
            return f"In context={path}, '{word}' is not permitted."
    return _first_fault_below(schema, path, strict_schema_fault)


def claude_schema_fault(schema: Any, path: str = "#") -> str:
    """What Anthropic's structured output would say against a schema, or "" (no numeric or length limits)."""
    if isinstance(schema, list):
        return next(filter(None, (claude_schema_fault(part, path) for part in schema)), "")
    if not isinstance(schema, Mapping):
        return ""
    if (schema.get("type") == "object" or "properties" in schema) and (
        schema.get("additionalProperties") is not False
    ):
        return f"For 'object' type at {path}, 'additionalProperties' must be explicitly set to false"
    for word in _NOT_FOR_CLAUDE:
        if word in schema:
            return f"For type at {path}, property '{word}' is not supported"
    if "maxItems" in schema or schema.get("minItems", 0) > 1:
        return f"For 'array' type at {path}, 'maxItems' and 'minItems' above 1 are not supported"
    return _first_fault_below(schema, path, claude_schema_fault)


def _first_fault_below(schema: Mapping[str, Any], path: str, check: Any) -> str:
    for word in ("properties", "$defs", "definitions"):
        for name, part in schema.get(word, {}).items():
            fault: str = check(part, f"{path}/{word}/{name}")
            if fault:
                return fault
    for word in ("items", "anyOf", "prefixItems"):
        fault = check(schema.get(word), f"{path}/{word}")
        if fault:
            return fault
    return ""

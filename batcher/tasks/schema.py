"""JSON Schemas: from pydantic models, made small and self-contained, checked, and measured."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from pydantic import BaseModel
from pydantic.errors import PydanticUserError

from batcher.errors import TaskError

Schema = dict[str, Any]

_MAPS: Final = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")
_LISTS: Final = ("anyOf", "allOf", "oneOf", "prefixItems")
_SINGLES: Final = (
    *("items", "additionalProperties", "contains", "propertyNames", "not", "if", "then", "else"),
    *("unevaluatedItems", "unevaluatedProperties", "additionalItems"),
)
_DEFINITIONS: Final = ("$defs", "definitions")
_ANNOTATIONS: Final = frozenset({"title", "description", "default", "examples", "deprecated"})
_MOST_NODES: Final = 5_000
"""No vendor takes more properties (OpenAI's guide: 5,000); past it, references stay as they are."""


def model_schema(model: type[BaseModel]) -> Schema:
    """A pydantic model's JSON Schema: closed objects, no titles, references inlined unless they recurse.

    Raises:
        TaskError: if the model has a field that JSON Schema cannot express.
    """
    try:
        schema = model.model_json_schema()
    except PydanticUserError as error:
        first = str(error).splitlines()[0]
        raise TaskError(f"The output model {model.__name__} has no JSON Schema: {first}") from error
    schema.pop("description", None)  # the class's docstring: written for readers of the code
    return inline(_rewritten(schema, _tidied))


def _tidied(schema: Schema) -> Schema:
    tidy = {key: value for key, value in schema.items() if key != "title"}
    if "properties" in tidy:
        tidy.setdefault("additionalProperties", False)
    return tidy


def _rewritten(schema: Any, change: Callable[[Schema], Schema]) -> Any:
    """Applies ``change`` to a schema and every schema within it, innermost first."""
    if not isinstance(schema, dict):
        return schema
    return change(_with_parts(schema, lambda part: _rewritten(part, change)))


def _with_parts(schema: Schema, change: Callable[[Any], Any], *, passing: tuple[str, ...] = ()) -> Schema:
    """A schema with ``change`` applied to the schemas directly in it, except under ``passing``."""
    result = dict(schema)
    for key, value in schema.items():
        if key in passing:
            continue
        if key in _MAPS and isinstance(value, dict):
            result[key] = {name: change(part) for name, part in value.items()}
        elif key in _LISTS and isinstance(value, list):
            result[key] = [change(part) for part in value]
        elif key in _SINGLES:
            result[key] = change(value)
    return result


class _NotInlinableError(Exception):
    """A reference has to stay."""


def inline(schema: Schema) -> Schema:
    """Replaces local references by what they name, unless that recurses or grows past any vendor's limit.

    Small models and strict modes fare better without ``$ref``. A schema that cannot do without keeps its
    ``$defs`` and is returned as it was.
    """
    try:
        flat = _resolved(schema, schema, (), [_MOST_NODES])
    except (_NotInlinableError, RecursionError):
        return schema
    assert isinstance(flat, dict)
    return {key: value for key, value in flat.items() if key not in _DEFINITIONS}


def _resolved(part: Any, root: Schema, open_refs: tuple[str, ...], nodes_left: list[int]) -> Any:
    """``part`` without references.

    Raises:
        _NotInlinableError: at a reference to something still open, a reference that cannot be taken out, or
            when ``nodes_left`` runs out.
    """
    if not isinstance(part, dict):
        return part
    nodes_left[0] -= 1
    ref = part.get("$ref")
    beside = {key: value for key, value in part.items() if key != "$ref"}
    if nodes_left[0] < 0 or "$dynamicRef" in part:
        raise _NotInlinableError
    if isinstance(ref, str):
        if ref in open_refs or not beside.keys() <= _ANNOTATIONS | {*_DEFINITIONS}:
            raise _NotInlinableError
        target = _resolved(_pointed(ref, root), root, (*open_refs, ref), nodes_left)
        return {**target, **beside} if isinstance(target, dict) else target

    return _with_parts(
        part, lambda inner: _resolved(inner, root, open_refs, nodes_left), passing=_DEFINITIONS
    )


def _pointed(ref: str, root: Schema) -> Any:
    if not ref.startswith("#/"):
        raise _NotInlinableError
    here: Any = root
    for step in ref[2:].split("/"):
        name = step.replace("~1", "/").replace("~0", "~")
        if not isinstance(here, dict) or name not in here:
            raise _NotInlinableError
        here = here[name]
    return here


def check_schema(schema: Schema) -> None:
    """Holds a schema against the rules of JSON Schema and of the vendors.

    Raises:
        TaskError: if it is not a valid JSON Schema, leads outside itself, or its root is not an object.
    """
    import jsonschema_rs

    try:
        jsonschema_rs.meta.validate(schema)
        jsonschema_rs.validator_for(schema, offline=True)
    except (ValueError, jsonschema_rs.ReferencingError) as error:
        reason = getattr(error, "message", "") or str(error).splitlines()[0]
        raise TaskError(f"The output schema is not a valid JSON Schema: {reason}") from error
    if schema.get("type") != "object":
        raise TaskError(
            'The output schema must have "type": "object" at its root; vendors enforce nothing else.'
        )


def longest_answer(schema: Any) -> tuple[int, list[str]]:
    """The characters of the longest compact answer that fits a schema, and the places without a bound.

    Returns:
        The length, counting unbounded places as empty, and their paths ("entities.people[]").
    """
    unbounded: list[str] = []
    return _longest(schema, "", unbounded), unbounded


def _longest(schema: Any, path: str, unbounded: list[str]) -> int:
    if not isinstance(schema, dict):
        unbounded.append(path or "the root")
        return 0
    if "const" in schema or "enum" in schema:
        return _longest_choice(schema)
    for key in ("anyOf", "oneOf"):
        if key in schema:
            return max((_longest(part, path, unbounded) for part in schema[key]), default=0)
    kinds = schema.get("type", "any")
    return max(
        (
            _longest_of_type(kind, schema, path, unbounded)
            for kind in (kinds if isinstance(kinds, list) else [kinds])
        ),
        default=0,
    )


def _longest_choice(schema: Schema) -> int:
    import orjson

    choices = schema["enum"] if "enum" in schema else [schema["const"]]
    return max((len(orjson.dumps(choice)) for choice in choices), default=0)


_FIXED_LENGTHS: Final = {"integer": 20, "number": 24, "boolean": 5, "null": 4}
_FORMAT_LENGTHS: Final = {"date": 12, "time": 22, "date-time": 37, "uuid": 38, "ipv4": 17, "duration": 32}


def _longest_of_type(kind: str, schema: Schema, path: str, unbounded: list[str]) -> int:
    if kind in _FIXED_LENGTHS:
        return _FIXED_LENGTHS[kind]
    if kind == "string" and isinstance(schema.get("maxLength"), int):
        return int(schema["maxLength"]) + 2
    if kind == "string" and schema.get("format") in _FORMAT_LENGTHS:
        return _FORMAT_LENGTHS[schema["format"]]
    if kind == "array" and isinstance(schema.get("maxItems"), int):
        return 2 + int(schema["maxItems"]) * (1 + _longest(schema.get("items", {}), f"{path}[]", unbounded))
    if kind == "object" and schema.get("additionalProperties") is False:
        return 2 + sum(
            len(name) + 4 + _longest(part, f"{path}.{name}".lstrip("."), unbounded)
            for name, part in schema.get("properties", {}).items()
        )
    unbounded.append(path or "the root")
    return 0

"""Rewrites a JSON Schema into the part of the language that a vendor enforces, once per schema.

What a vendor cannot enforce moves into the description, where the model may still heed it; the answer is
always validated against the original schema. Sources: OpenAI's structured outputs guide and
``openai/lib/_pydantic.py`` (3.51); Anthropic's guide and ``anthropic/lib/_parse/_transform.py`` (2.10).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson

Schema = Mapping[str, Any]

_STRING_FORMATS: Final = frozenset(
    {"date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid"}
)
_NUMBER_LIMITS: Final = frozenset(
    {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"}
)
_STRUCTURE: Final = frozenset(
    {
        *(
            "type",
            "properties",
            "required",
            "additionalProperties",
            "items",
            "enum",
            "const",
            "anyOf",
            "oneOf",
        ),
        *("allOf", "$ref", "$defs", "definitions", "description", "format"),
    }
)
_SAYS_NOTHING: Final = frozenset({"title", "default", "examples", "$schema", "$id", "$comment", "deprecated"})
_CANNOT: Final = frozenset({"prefixItems", "patternProperties", "dependentSchemas", "propertyNames"})
_CACHED_SCHEMAS: Final = 256


class NotEnforceableError(ValueError):
    """The schema needs something that the vendor's enforced subset cannot say."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """What one vendor enforces.

    Attributes:
        limits: constraint keywords sent as they are.
        all_required: whether every property must be required: an optional one becomes a union with null.
        most_min_items: the largest ``minItems`` it takes, None for any.
        recursion: whether a definition may refer to itself.
    """

    limits: frozenset[str]
    all_required: bool
    most_min_items: int | None
    recursion: bool


OPENAI: Final = Dialect(_NUMBER_LIMITS | {"minItems", "maxItems"}, True, None, True)
ANTHROPIC: Final = Dialect(frozenset({"minItems"}), False, 1, False)


@dataclass(frozen=True, slots=True)
class EnforcedSchema:
    """A schema as one vendor takes it.

    Attributes:
        encoded: the rewritten schema as JSON.
        nulls_added: whether optional properties were made unions with null: see ``without_added_nulls``.
    """

    encoded: bytes
    nulls_added: bool

    @property
    def json(self) -> orjson.Fragment:
        """``encoded``, for inclusion in a request body as it is."""
        return orjson.Fragment(self.encoded)


class SchemaCache:
    """Remembers what was computed from a schema object, for the last schemas seen."""

    def __init__(self, compute: Callable[[Schema], EnforcedSchema | None]) -> None:
        self._compute = compute
        self._known: OrderedDict[int, tuple[Schema, EnforcedSchema | None]] = OrderedDict()

    def get(self, schema: Schema) -> EnforcedSchema | None:
        """What ``compute`` gave for this very object (held, so that its identity stays its own)."""
        known = self._known.get(id(schema))
        if known is not None:
            return known[1]
        computed = self._compute(schema)
        self._known[id(schema)] = (schema, computed)
        if len(self._known) > _CACHED_SCHEMAS:
            self._known.popitem(last=False)
        return computed


def as_it_is(schema: Schema) -> EnforcedSchema:
    """The whole schema, for vendors whose grammars take all of it (llama.cpp, vLLM, Ollama, Together)."""
    return EnforcedSchema(orjson.dumps(schema), nulls_added=False)


def rewritten(schema: Schema, dialect: Dialect) -> EnforcedSchema | None:
    """The schema in a vendor's dialect, or None where the dialect cannot say it."""
    rewriter = _Rewriter(schema, dialect)
    try:
        root = rewriter.root()
    except NotEnforceableError:
        return None
    return EnforcedSchema(orjson.dumps(root), rewriter.nulls_added)


def without_added_nulls(text: str, schema: Schema) -> str:
    """Remove from an answer the nulls that stand for absent optional properties.

    Args:
        text: the answer; returned as it is if it is no JSON.
        schema: the original schema.
    """
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return text
    return orjson.dumps(_drop_nulls(value, schema, schema)).decode()


def _drop_nulls(value: Any, schema: Any, root: Schema) -> Any:
    schema = _resolved(schema, root)
    if isinstance(value, list):
        return [_drop_nulls(part, schema.get("items", {}), root) for part in value]
    if not isinstance(value, dict):
        return value
    for branch in [*schema.get("anyOf", ()), *schema.get("oneOf", ()), *schema.get("allOf", ())]:
        if "properties" in _resolved(branch, root):
            value = _drop_nulls(value, branch, root)
    properties, required = schema.get("properties", {}), schema.get("required", ())
    return {
        name: _drop_nulls(part, properties.get(name, {}), root)
        for name, part in value.items()
        if part is not None
        or name not in properties
        or name in required
        or _allows_null(_resolved(properties[name], root), root)
    }


def _allows_null(schema: Schema, root: Schema) -> bool:
    kind = schema.get("type")
    if kind == "null" or (isinstance(kind, list) and "null" in kind) or None in schema.get("enum", ()):
        return True
    branches = [*schema.get("anyOf", ()), *schema.get("oneOf", ())]
    if branches:
        return any(_allows_null(_resolved(branch, root), root) for branch in branches)
    return kind is None and not ({"enum", "const", "allOf", "properties", "items"} & schema.keys())


def _resolved(schema: Any, root: Schema) -> Schema:
    for _ in range(32):
        if not isinstance(schema, Mapping):
            return {}
        if "$ref" not in schema:
            return schema
        schema = _target(schema["$ref"], root)
    return {}


def _target(ref: str, root: Schema) -> Any:
    found: Any = root
    if not ref.startswith("#"):
        raise NotEnforceableError(f"{ref} refers to another document")
    for part in ref[1:].split("/"):
        if part:
            name = part.replace("~1", "/").replace("~0", "~")
            if not isinstance(found, Mapping) or name not in found:
                raise NotEnforceableError(f"{ref} refers to nothing")
            found = found[name]
    return found


class _Rewriter:
    """One pass over one schema."""

    def __init__(self, schema: Schema, dialect: Dialect) -> None:
        self._source = schema
        self._dialect = dialect
        self._refs: dict[str, str] = {}
        self._defs: dict[str, dict[str, Any]] = {}
        self._open: list[str] = []
        self.nulls_added = False

    def root(self) -> dict[str, Any]:
        source = _resolved(self._source, self._source)
        written = self._write(
            {name: part for name, part in source.items() if name not in {"$defs", "definitions"}}
        )
        if written.get("type") != "object":
            raise NotEnforceableError("the root is no object")
        if self._defs:
            written["$defs"] = self._defs
        return written

    def _write(self, schema: Any) -> dict[str, Any]:
        if not isinstance(schema, Mapping) or _CANNOT & schema.keys():
            raise NotEnforceableError("a part that no subset can say")
        said = [schema["description"]] if schema.get("description") else []
        moved = self._moved(schema)
        if moved:
            said.append("(" + ", ".join(moved) + ")")
        written = self._structure(schema)
        if said and "$ref" in written:
            written = {"anyOf": [written]}
        if said:
            written["description"] = " ".join([*said, *filter(None, [written.get("description")])])
        return written

    def _moved(self, schema: Schema) -> list[str]:
        """Constraints for the description: ``maxLength: 200``."""
        kept = _STRUCTURE | _SAYS_NOTHING | self._dialect.limits
        moved = [name for name in schema if name not in kept]
        most = self._dialect.most_min_items
        if most is not None and schema.get("minItems", 0) > most:
            moved.append("minItems")
        if "format" in schema and schema["format"] not in _STRING_FORMATS:
            moved.append("format")
        return [f"{name}: {orjson.dumps(schema[name]).decode()}" for name in moved]

    def _structure(self, schema: Schema) -> dict[str, Any]:
        if "$ref" in schema:
            return {"$ref": self._definition(schema["$ref"])}
        if "const" in schema or "enum" in schema:
            values = [schema["const"]] if "const" in schema else list(schema["enum"])
            return {"enum": values} | self._typed(schema)
        if "allOf" in schema:
            if len(schema["allOf"]) != 1:
                raise NotEnforceableError("an intersection")
            return self._write(schema["allOf"][0])
        branches = schema.get("anyOf") or schema.get("oneOf")
        if branches:
            return {"anyOf": [self._write(branch) for branch in branches]}
        kind = schema.get("type")
        if isinstance(kind, list):
            return {"anyOf": [self._of_type(part, schema) for part in kind]}
        return self._of_type(kind or ("object" if "properties" in schema else ""), schema)

    def _typed(self, schema: Schema) -> dict[str, Any]:
        return {"type": schema["type"]} if isinstance(schema.get("type"), str) else {}

    def _of_type(self, kind: str, schema: Schema) -> dict[str, Any]:
        if kind == "object":
            return self._object(schema)
        written: dict[str, Any] = {"type": kind}
        if kind == "array":
            if "items" not in schema:
                raise NotEnforceableError("an array of anything")
            written["items"] = self._write(schema["items"])
            for name in ("minItems", "maxItems"):
                most = self._dialect.most_min_items
                if name in schema and name in self._dialect.limits and (most is None or schema[name] <= most):
                    written[name] = schema[name]
        elif kind in {"number", "integer"}:
            written |= {
                name: schema[name] for name in schema if name in _NUMBER_LIMITS & self._dialect.limits
            }
        elif kind == "string" and schema.get("format") in _STRING_FORMATS:
            written["format"] = schema["format"]
        elif kind not in {"string", "boolean", "null"}:
            raise NotEnforceableError("a value of any type")
        return written

    def _object(self, schema: Schema) -> dict[str, Any]:
        properties = schema.get("properties")
        if not properties or isinstance(schema.get("additionalProperties"), Mapping):
            raise NotEnforceableError("an object with free keys")
        required = set(schema.get("required", ()))
        written = {}
        for name, part in properties.items():
            written[name] = self._write(part)
            if self._dialect.all_required and name not in required:
                written[name] = self._or_null(written[name], part)
        kept = (
            list(properties)
            if self._dialect.all_required
            else [name for name in properties if name in required]
        )
        return {"type": "object", "properties": written, "required": kept, "additionalProperties": False}

    def _or_null(self, written: dict[str, Any], part: Any) -> dict[str, Any]:
        if _allows_null(_resolved(part, self._source), self._source):
            return written
        self.nulls_added = True
        description = written.pop("description", None)
        union: dict[str, Any] = {"anyOf": [*written.get("anyOf", [written]), {"type": "null"}]}
        return union | ({"description": description} if description else {})

    def _definition(self, ref: str) -> str:
        """Write the definition that ``ref`` names, once, and return where it stands now."""
        if ref in self._open and not self._dialect.recursion:
            raise NotEnforceableError("a definition that contains itself")
        if ref not in self._refs:
            name = ref.rsplit("/", 1)[-1] or "root"
            while name in self._defs:
                name += "_"
            self._refs[ref] = f"#/$defs/{name}"
            self._defs[name] = {}
            self._open.append(ref)
            target = _target(ref, self._source)
            self._defs[name].update(
                self._write(
                    {key: part for key, part in target.items() if key not in {"$defs", "definitions"}}
                )
            )
            self._open.pop()
        return self._refs[ref]

"""What vendors say against a schema that they are asked to enforce, by their documented rules."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

_NOT_FOR_OPENAI: Final = (
    *("default", "allOf", "oneOf", "not"),
    *("minLength", "maxLength", "patternProperties"),
)
_NOT_FOR_CLAUDE: Final = (
    *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
    *("minLength", "maxLength"),
)


def schema_fault(schema: Any) -> str:
    """What any vendor would say against a schema that is none, or that points nowhere; "" if it is one."""
    import jsonschema_rs

    try:
        jsonschema_rs.meta.validate(schema)
        jsonschema_rs.validator_for(schema, offline=True)
    except (ValueError, jsonschema_rs.ReferencingError) as error:
        return f"Invalid schema: {str(error).splitlines()[0]}"
    return ""


def strict_schema_fault(schema: Any, path: str = "#") -> str:
    """What OpenAI's strict mode would say against a schema, or ""."""
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
    for word in _NOT_FOR_OPENAI:
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


def _first_fault_below(schema: Mapping[str, Any], path: str, check: Callable[[Any, str], str]) -> str:
    for word in ("properties", "$defs", "definitions"):
        for name, part in schema.get(word, {}).items():
            fault = check(part, f"{path}/{word}/{name}")
            if fault:
                return fault
    for word in ("items", "anyOf", "prefixItems"):
        fault = check(schema.get(word), f"{path}/{word}")
        if fault:
            return fault
    return ""

"""Limits that a schema tells in its descriptions because vendors cannot enforce them; good models heed them.

OpenAI's and Anthropic's subsets leave out lengths and ranges; SDKs and callers move them into the description
as ``maxLength: 40``. Here they are moved back, for the simulated model only.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

_NUMBERS: Final = (
    *("minLength", "maxLength", "minItems", "maxItems"),
    *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
)
_TOLD: Final = re.compile(rf"\b({'|'.join(_NUMBERS)})\"?: ?(-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?)")
_TOLD_FORMAT: Final = re.compile(r"\bformat\"?: ?\"?([a-z-]+)")
_UNIQUE: Final = re.compile(r"\buniqueItems\"?: ?true")


def with_told_limits(schema: Any) -> Any:
    """The schema with the limits that its descriptions tell as limits proper; limits that are there stay."""
    return _heeding(schema, {})


def _heeding(schema: Any, from_above: Mapping[str, Any]) -> Any:
    if not isinstance(schema, dict):
        return schema
    told = {**from_above, **_told(schema.get("description"))}
    heeding = {**told, **schema} if "anyOf" not in schema else dict(schema)
    for name in ("properties", "$defs", "definitions"):
        if isinstance(schema.get(name), dict):
            heeding[name] = {key: _heeding(part, {}) for key, part in schema[name].items()}
    if "items" in schema:
        heeding["items"] = _heeding(schema["items"], {})
    if isinstance(schema.get("anyOf"), list):
        heeding["anyOf"] = [_heeding(branch, told) for branch in schema["anyOf"]]
    return heeding


def _told(description: Any) -> dict[str, Any]:
    if not isinstance(description, str) or ":" not in description:
        return {}
    told: dict[str, Any] = {name: _number(value) for name, value in _TOLD.findall(description)}
    if found := _TOLD_FORMAT.search(description):
        told["format"] = found[1]
    if _UNIQUE.search(description):
        told["uniqueItems"] = True
    return told


def _number(text: str) -> int | float:
    return int(text) if text.lstrip("-").isdigit() else float(text)

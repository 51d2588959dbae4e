"""Reading a schema told in words, as batcher tells it to models that cannot be told one otherwise.

A good model answers such an outline with JSON that fits, so the simulated one must understand it too::

    Answer with one JSON object and nothing else. Its fields, in this order:
    - "language": string of 2 to 3 characters. ISO 639-1 code
    - "topics": list of 1 to 4 strings of 1 to 40 characters
    - "entities" (may be left out): object
      - "places": list of at most 4 strings

Written from the words alone: nothing of the code that writes them is used.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

import orjson

_OPENING: Final = "Its fields, in this order:\n"
_FIELD: Final = re.compile(r'( *)- ("(?:[^"\\]|\\.)*")( \(may be left out\))?: (.*)')
_LIST: Final = re.compile(r"list of (?:(at least|at most|exactly) (\d+) |(\d+) to (\d+) )?(.*)", re.DOTALL)
_LENGTH: Final = re.compile(r" of (?:(at least|at most|exactly) (\d+)|(\d+) to (\d+)) characters")
_BOUND: Final = re.compile(r", (at least|at most|more than|less than) (-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?)")
_FORMAT: Final = re.compile(r", in JSON Schema's format ([\w-]+)")
_JSON_VALUE: Final = re.compile(r'"(?:[^"\\]|\\.)*"|-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?|true|false|null')
_KINDS: Final = (
    ("string", "string"),
    ("whole number", "integer"),
    ("number", "number"),
    ("true or false", "boolean"),
    ("true/false value", "boolean"),
    ("null", "null"),
)
_BOUNDS: Final = {
    "at least": "minimum",
    "at most": "maximum",
    "more than": "exclusiveMinimum",
    "less than": "exclusiveMaximum",
}


def schema_of_outline(text: str) -> dict[str, Any] | None:
    """The schema that an outline in ``text`` tells, or None if there is none that can be understood."""
    start = text.find(_OPENING)
    if start < 0:
        return None
    lines = text[start + len(_OPENING) :].split("\n")
    root: dict[str, Any] = _object()
    open_objects = [root]
    for line in lines:
        told = _FIELD.fullmatch(line)
        if told is None:
            break
        depth = len(told[1]) // 2
        if depth >= len(open_objects):
            return None
        del open_objects[depth + 1 :]
        name, value = orjson.loads(told[2]), _value(told[4])
        open_objects[depth]["properties"][name] = value
        if not told[3]:
            open_objects[depth]["required"].append(name)
        inner = value.get("items", value)
        if inner.get("type") == "object":
            open_objects.append(inner)
    return root if root["properties"] else None


def _object() -> dict[str, Any]:
    return {"type": "object", "properties": {}, "required": []}


def _value(words: str) -> dict[str, Any]:
    """What one value must be; a description may follow its words."""
    if words.startswith("always "):
        return {"const": next(_json_values(words.removeprefix("always ")), None)}
    if words.startswith("one of "):
        return {"enum": list(_json_values(words.removeprefix("one of ")))}
    told = _LIST.match(words)
    if told is not None:
        return _list(told)
    if re.match(r"object(\.|$)", words):
        return _object()
    return _scalar(words)


def _list(told: re.Match[str]) -> dict[str, Any]:
    found: dict[str, Any] = {"type": "array", **_span(told.groups()[:4], "minItems", "maxItems")}
    inner = told[5]
    if inner.startswith("values, each "):
        found["items"] = _value(inner.removeprefix("values, each "))
    else:
        found["items"] = _object() if inner.startswith("objects") else _scalar(inner)
    return found


def _scalar(words: str) -> dict[str, Any]:
    kind = next((kind for start, kind in _KINDS if words.startswith(start)), "string")
    found: dict[str, Any] = {"type": kind}
    if kind == "string":
        length = _LENGTH.search(words)
        found |= _span(length.groups(), "minLength", "maxLength") if length else {}
        told_format = _FORMAT.search(words)
        found |= {"format": told_format[1]} if told_format else {}
    elif kind in {"integer", "number"}:
        found |= {_BOUNDS[bound]: orjson.loads(amount) for bound, amount in _BOUND.findall(words)}
    return found


def _span(told: tuple[str | None, ...], least: str, most: str) -> dict[str, int]:
    """Of ``at least 2``, ``at most 4``, ``exactly 3`` or ``1 to 4``, as a pattern found it."""
    word, count, first, last = told
    if first is not None and last is not None:
        return {least: int(first), most: int(last)}
    if word is None or count is None:
        return {}
    return {name: int(count) for name, unless in ((least, "at most"), (most, "at least")) if word != unless}


def _json_values(text: str) -> Iterator[Any]:
    """The JSON values at the beginning of a text, with commas between them."""
    at = 0
    while True:
        end = _end_of_value(text, at)
        if end is None:
            return
        yield orjson.loads(text[at:end])
        if text[end : end + 2] != ", ":
            return
        at = end + 2


def _end_of_value(text: str, start: int) -> int | None:
    told = re.compile(r'"(?:[^"\\]|\\.)*"|-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?|true|false|null').match(
        text, start
    )
    return None if told is None else told.end()

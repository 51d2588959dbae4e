"""Task parameters: K=V words from the command line, read through the task's params model."""

from __future__ import annotations

import difflib
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from batcher.errors import ParameterError, TaskError, UsageError
from batcher.tasks.loading import read_text, user_code

_LISTS: Final = (list, tuple, set, frozenset)


@dataclass(frozen=True, slots=True)
class ParamInfo:
    """One parameter, for people.

    Attributes:
        name: what stands before the ``=``.
        required: whether the task cannot do without.
        default: what holds if it is not given, as JSON values; None if required.
        description: the author's words.
        is_list: takes ``a,b,c`` or ``@file``.
    """

    name: str
    required: bool
    default: Any
    description: str
    is_list: bool


def parse_assignments(words: Iterable[str]) -> dict[str, str]:
    """``["labels=a,b", "n=3"]`` as a mapping.

    Raises:
        UsageError: for a word without ``=`` or a name given twice.
    """
    values: dict[str, str] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not name:
            raise UsageError(f"--param {word!r} is not of the form NAME=VALUE.")
        if name in values:
            raise UsageError(f"--param {name} is given twice. For a list write {name}=a,b,c or {name}=@FILE")
        values[name] = value
    return values


def describe_params(model: type[BaseModel] | None) -> list[ParamInfo]:
    """What a params model takes, in its own order."""
    fields = model.model_fields.items() if model else ()
    return [
        ParamInfo(
            name=info.alias or name,
            required=info.is_required(),
            default=None if info.is_required() else info.get_default(call_default_factory=True),
            description=info.description or "",
            is_list=_is_one_of(info.annotation, _LISTS),
        )
        for name, info in fields
    ]


def read_params(task: str, model: type[BaseModel] | None, given: Mapping[str, str]) -> BaseModel | None:
    """The parameters, validated.

    Raises:
        ParameterError: naming every parameter that is wrong, missing or unknown.
    """
    fields = {info.alias or name: info for name, info in model.model_fields.items()} if model else {}
    unknown = [_unknown(name, list(fields)) for name in given if name not in fields]
    if unknown:
        raise ParameterError(f"Task {task!r} " + "; ".join(unknown) + ".")
    if model is None:
        return None
    values = {name: _read(name, value, fields[name]) for name, value in given.items()}
    try:
        with user_code(f"Reading the parameters of task {task!r}"):
            return _validated(model, values)
    except _WrongParamsError as error:
        wrong = "; ".join(_wrong(detail, fields) for detail in error.error.errors())
        raise ParameterError(f"Task {task!r}: {wrong}.") from error.error


class _WrongParamsError(TaskError):
    def __init__(self, error: ValidationError) -> None:
        super().__init__(str(error))
        self.error = error


def _validated(model: type[BaseModel], values: dict[str, Any]) -> BaseModel:
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise _WrongParamsError(error) from error


def _unknown(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    if close:
        return f"has no parameter {name!r}; did you mean {close[0]!r}?"
    return f"has no parameter {name!r} (it takes {', '.join(known) if known else 'none'})"


def _wrong(detail: Any, fields: Mapping[str, FieldInfo]) -> str:
    place = [str(step) for step in detail["loc"]]
    if not place:
        return str(detail["msg"]).removeprefix("Value error, ")
    info = fields.get(place[0])
    about = f" ({info.description})" if info and info.description else ""
    if detail["type"] == "missing":
        return f"--param {place[0]}=... is missing{about}"
    return f"--param {place[0]} is wrong: {str(detail['msg']).removeprefix('Value error, ')}{about}"


def _read(name: str, value: str, info: FieldInfo) -> Any:
    if _is_one_of(info.annotation, _LISTS):
        return _read_list(name, value)
    if _is_one_of(info.annotation, (dict, BaseModel)):
        return _json(name, _read_file(name, value[1:]) if value.startswith("@") else value)
    return value


def _read_list(name: str, value: str) -> Any:
    """A list from JSON, from a file of JSON or of one value per line, or from a comma-separated word."""
    from_file = value.startswith("@")
    text = _read_file(name, value[1:]) if from_file else value
    if text.lstrip().startswith("["):
        return _json(name, text)
    parts = text.splitlines() if from_file else text.split(",")
    return [part.strip() for part in parts if part.strip()]


def _read_file(name: str, path: str) -> str:
    try:
        return read_text(path)
    except TaskError as error:
        raise ParameterError(f"--param {name}: {error}") from error


def _json(name: str, text: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise ParameterError(f"--param {name} is not JSON: {error}") from error


def _is_one_of(annotation: Any, kinds: tuple[type, ...]) -> bool:
    """Whether an annotation is one of the kinds, also behind Optional, a union, an alias or Annotated."""
    origin = typing.get_origin(annotation)
    if origin in (typing.Union, types.UnionType):
        return any(_is_one_of(part, kinds) for part in typing.get_args(annotation))
    if origin is typing.Annotated:
        return _is_one_of(typing.get_args(annotation)[0], kinds)
    kind = origin or annotation
    return isinstance(kind, type) and issubclass(kind, kinds)

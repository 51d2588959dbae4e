"""From a model's words to a checked answer, with the repairs that cost nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Final

import jsonschema_rs
import orjson
from pydantic import BaseModel, ValidationError

from batcher.errors import TaskError
from batcher.tasks.definition import Task
from batcher.tasks.spec import TaskSpec

_MOST_REASON: Final = 400
_MOST_FAULTS: Final = 3
_MOST_CANDIDATES: Final = 50
_SURROUNDINGS: Final = "\ufeff \t\r\n\x00"
_THOUGHTS_END: Final = "</think>"
_OPENING: Final = re.compile(r"[{\[]")
_TOKENS: Final = re.compile(r'"(?:[^"\\]|\\[\s\S])*+"?|[{}\[\]]')


class InvalidAnswerError(Exception):
    """An answer is not JSON, not one answer, or does not fit the schema.

    Attributes:
        reason: one line, at most 400 characters; shown to the model in a repair, and stored.
    """

    def __init__(self, reason: str) -> None:
        line = " ".join(reason.encode("utf-8", "replace").decode().split())
        self.reason = line if len(line) <= _MOST_REASON else line[: _MOST_REASON - 1] + "\u2026"
        super().__init__(self.reason)


class AnswerParser:
    """Checks the answers of one job. Safe to share between coroutines."""

    def __init__(self, spec: TaskSpec, task: Task | None = None) -> None:
        """Compiles the schema once.

        Args:
            spec: the job's task; its stored schema decides.
            task: the author's code, if at hand: the validators of its pydantic model run too, and what they
                return is the answer, as long as the model still has the stored schema.

        Raises:
            TaskError: if the stored schema cannot be compiled.
        """
        try:
            self._validator = jsonschema_rs.validator_for(spec.schema, validate_formats=True, offline=True)
        except (ValueError, jsonschema_rs.ReferencingError) as error:
            raise TaskError(f"The output schema of task {spec.name!r} is not usable: {error}") from error
        self._model = task.output_model(spec) if task else None

    def parse(self, text: str) -> Any:
        """The answer in a model's text, as JSON values.

        White space, a byte order mark, code fences and prose around the JSON are passed over; nothing else is
        guessed. Two different answers in one text are no answer.

        Raises:
            InvalidAnswerError: with the reason; nothing else, whatever the text.
        """
        try:
            value = orjson.loads(text)
        except orjson.JSONDecodeError as error:
            return self._salvaged(text, error)
        return self._checked(value)

    def _salvaged(self, text: str, error: orjson.JSONDecodeError) -> Any:
        body = text.rpartition(_THOUGHTS_END)[2].strip(_SURROUNDINGS)
        if not body:
            raise InvalidAnswerError("the answer is empty") from error
        try:
            return self._checked(orjson.loads(body))
        except orjson.JSONDecodeError:
            found = list(_json_values(body))
        fitting = [value for value in found if self._validator.is_valid(value)]
        if fitting and all(value == fitting[0] for value in fitting):
            return self._checked(fitting[0])
        if fitting:
            raise InvalidAnswerError(f"the text holds {len(fitting)} different answers; give one") from error
        if found:
            return self._checked(next((value for value in found if isinstance(value, dict)), found[0]))
        raise InvalidAnswerError(f"not JSON: {error}") from error

    def _checked(self, value: Any) -> Any:
        if not self._validator.is_valid(value):
            raise InvalidAnswerError(self._faults(value))
        if self._model is not None:
            value = _validated(self._model, value)
        try:
            orjson.dumps(value)
        except TypeError as error:
            raise InvalidAnswerError(f"the answer cannot be stored as JSON: {error}") from error
        return value

    def _faults(self, value: Any) -> str:
        told = []
        for fault in self._validator.iter_errors(value):
            place = _place(fault.instance_path)
            told.append(f"{place}{fault.message}" if len(fault.message) < 200 else f"{place}{_short(fault)}")
            if len(told) == _MOST_FAULTS:
                break
        return "; ".join(told) or "the answer does not fit the schema"


def _validated(model: type[BaseModel], value: Any) -> Any:
    try:
        return model.model_validate(value).model_dump(mode="json", by_alias=True)
    except ValidationError as error:
        told = [
            f"{_place(detail['loc'])}{str(detail['msg']).removeprefix('Value error, ')}"
            for detail in error.errors(include_url=False, include_context=False, include_input=False)
        ]
        raise InvalidAnswerError("; ".join(told[:_MOST_FAULTS])) from error
    except Exception as error:  # an author's validator may raise anything; one answer must not stop a job
        raise InvalidAnswerError(f"a validator failed: {type(error).__name__}: {error}") from error


def _place(path: Any) -> str:
    place = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path).lstrip(".")
    return f"{place}: " if place else ""


def _short(fault: jsonschema_rs.ValidationError) -> str:
    """A fault without the value, which is long: "maxLength 40 is broken"."""
    rule = str(fault.kind.value)
    return f"{fault.kind.name} {rule if len(rule) < 100 else ''} is broken".replace("  ", " ")


def _json_values(text: str) -> Iterator[Any]:
    """The outermost JSON objects and lists in a text, in order; none from within a broken one."""
    end = 0
    for _ in range(_MOST_CANDIDATES):
        opening = _OPENING.search(text, end)
        closed = _closing(text, opening.start()) if opening else None
        if opening is None or closed is None:
            return
        end = closed
        with suppress(orjson.JSONDecodeError):
            yield orjson.loads(text[opening.start() : end])


def _closing(text: str, start: int) -> int | None:
    """Where the bracket opened at ``start`` is closed (one past it), or None; linear in the text."""
    depth = 0
    for token in _TOKENS.finditer(text, start):
        mark = token.group()
        if mark in "{[":
            depth += 1
        elif mark in "}]":
            depth -= 1
            if depth == 0:
                return token.end()
    return None

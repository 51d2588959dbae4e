"""Bringing a user's Python and schema files in, and telling him plainly what is wrong with them."""

from __future__ import annotations

import hashlib
import importlib
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

import orjson
from pydantic import BaseModel

from batcher.errors import BatcherError, TaskError


class _FreshLoader(SourceFileLoader):
    """Compiles the file as it is now: bytecode caches go by whole seconds, users save faster than that."""

    def get_code(self, fullname: str) -> CodeType:  # noqa: ARG002 (importlib's signature)
        return self.source_to_code(self.get_data(self.path), self.path)


@contextmanager
def user_code(what: str, folder: Path | None = None) -> Iterator[None]:
    """Runs code that a user wrote, turning whatever it raises into one line.

    Args:
        what: what was being done, for the message ("Task 'invoices'").
        folder: where the user's files lie; the innermost frame in it is the line that the message names.

    Raises:
        TaskError: in place of any exception but batcher's own and KeyboardInterrupt.
    """
    try:
        yield
    except BatcherError:
        raise
    except (Exception, SystemExit) as error:
        raise TaskError(f"{what} failed: {_where(error, folder)}{_summary(error)}") from error


def _summary(error: BaseException) -> str:
    lines = str(error.msg if isinstance(error, SyntaxError) else error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def _where(error: BaseException, folder: Path | None) -> str:
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}, line {error.lineno}: "
    if folder is None:
        return ""
    inside = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if Path(frame.filename).is_relative_to(folder)
    ]
    return f"{inside[-1].filename}, line {inside[-1].lineno}: " if inside else ""


def load_module(file: Path) -> ModuleType:
    """Executes a Python file under a module name of its own; ``from .other import x`` finds its neighbours.

    Raises:
        TaskError: if there is no such file, or its code raises; with file and line.
    """
    file = file.resolve()
    if not file.is_file():
        raise TaskError(f"There is no file {file}.")
    package = "batcher_task_" + hashlib.blake2b(str(file).encode(), digest_size=6).hexdigest()
    for stale in [name for name in sys.modules if name.startswith(f"{package}.")]:
        del sys.modules[stale]
    parent = sys.modules.setdefault(package, ModuleType(package))
    parent.__path__ = [str(file.parent)]
    name = f"{package}.{file.stem}"
    loader = _FreshLoader(name, str(file))
    module_spec = spec_from_file_location(name, file, loader=loader)
    if module_spec is None:
        raise TaskError(f"{file} cannot be imported as Python.")
    module = module_from_spec(module_spec)
    sys.modules[name] = module
    try:
        with user_code(f"Importing {file}", file.parent):
            loader.exec_module(module)
    except TaskError:
        sys.modules.pop(name, None)
        raise
    return module


def load_model(ref: str) -> type[BaseModel]:
    """The pydantic model that ``path/to/file.py:Model`` or ``package.module:Model`` names.

    Raises:
        TaskError: if there is none.
    """
    place, colon, attribute = ref.rpartition(":")
    if not colon or not place or not attribute:
        raise TaskError(f"{ref!r} names no model. Write file.py:Model or package.module:Model")
    if place.endswith(".py"):
        module = load_module(Path(place))
    else:
        try:
            module = importlib.import_module(place)
        except ModuleNotFoundError as error:
            raise TaskError(
                f"There is no module {error.name!r}. For a file write its path: models.py:{attribute}"
            ) from error
        except (Exception, SystemExit) as error:
            raise TaskError(f"Importing {place} failed: {_summary(error)}") from error
    model = getattr(module, attribute, None)
    if not (isinstance(model, type) and issubclass(model, BaseModel)):
        raise TaskError(f"{place} has no pydantic model {attribute!r}.")
    return model


def load_schema(path: str | Path) -> dict[str, Any]:
    """The JSON Schema in a file.

    Raises:
        TaskError: if the file is missing or holds no JSON object.
    """
    return _json_object(path, read_text(path))


def _json_object(path: str | Path, text: str) -> dict[str, Any]:
    try:
        schema = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise TaskError(f"{path} is not JSON: {error}") from error
    if not isinstance(schema, dict):
        raise TaskError(f"{path} holds {type(schema).__name__}, not a JSON Schema object.")
    return schema


def read_text(path: str | Path) -> str:
    """A file's text, UTF-8 with or without a byte order mark.

    Raises:
        TaskError: if it cannot be read.
    """
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except OSError as error:
        raise TaskError(f"{path} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise TaskError(f"{path} is not UTF-8 text: {error.reason} at byte {error.start}.") from error

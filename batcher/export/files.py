"""Where results go: a file that appears whole or not at all, or a stream."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

from batcher.errors import UsageError

_BY_SUFFIX: Final = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".csv": "csv",
    ".parquet": "parquet",
    ".pq": "parquet",
}


def choose_format(named: str | None, path: Path | None) -> str:
    """The format: the one named, else by the file's extension, else JSON Lines.

    Raises:
        UsageError: if the extension says nothing.
    """
    if named is not None:
        return named
    if path is None or not path.suffix:
        return "jsonl"
    known = _BY_SUFFIX.get(path.suffix.lower())
    if known is None:
        raise UsageError(
            f"{path} does not say which format it wants. Name one: --format jsonl, csv or parquet"
        )
    return known


@contextmanager
def open_whole(path: Path) -> Iterator[BinaryIO]:
    """A file that replaces ``path`` when the block ends well, and vanishes otherwise.

    A device or a pipe is written to as it is.

    Raises:
        UsageError: if ``path`` is a folder or cannot be written.
    """
    target = Path(os.path.realpath(path))
    if target.is_dir():
        raise UsageError(f"{path} is a folder. Name a file in it: -o {path / 'results.jsonl'}")
    partial = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        if target.exists() and not stat.S_ISREG(target.stat().st_mode):
            with target.open("wb") as stream:
                yield stream
            return
        stream = partial.open("wb")
    except BrokenPipeError:
        raise
    except FileNotFoundError as error:
        raise UsageError(f"There is no folder {path.parent}. Make it first, or name another file") from error
    except OSError as error:
        raise UsageError(f"Cannot write {path}: {error.strerror}. Name another file with -o") from error
    try:
        with stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(target)
    except OSError as error:
        raise UsageError(f"Cannot write {path}: {error.strerror}. Name another file with -o") from error
    finally:
        partial.unlink(missing_ok=True)

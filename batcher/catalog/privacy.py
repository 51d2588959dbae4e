"""Where a model's machine stands, and which places a task's privacy allows."""

from __future__ import annotations

from enum import StrEnum
from ipaddress import ip_address
from typing import Final

from batcher.catalog.models import Model, ProviderInfo
from batcher.catalog.surcharges import host_of

OWN_DATA: Final = frozenset({"this machine", "your own machines"})
"""What the catalogue, or a model's own ``data`` in batcher.toml, says of text that goes to nobody else."""

VENDORS: Final = frozenset(
    {"openai", "anthropic", "together", "groq", "fireworks", "gemini", "mistral", "openrouter"}
)
"""The providers of the catalogue that are somebody else's machines."""

_OWN_BUILT_IN: Final = frozenset({"ollama", "vllm"})
"""Their models say ``your own machines`` before anybody declared it."""

_INNER_ENDINGS: Final = (".localhost", ".local", ".lan", ".internal", ".intranet", ".home.arpa")
"""Endings of names that the public DNS does not hold (RFC 6761, 6762 and 8375, ICANN's .internal)."""


class Privacy(StrEnum):
    """Where documents may go.

    ``standard``: to any vendor. ``strict``: to machines of one's own and no others. ``air-gapped``: of those,
    to this machine and to addresses inside one's own network.
    """

    STANDARD = "standard"
    STRICT = "strict"
    AIR_GAPPED = "air-gapped"

    def allows(self, place: Place) -> bool:
        """Whether documents may go there."""
        if self is Privacy.STANDARD:
            return True
        if self is Privacy.STRICT:
            return place is not Place.VENDOR
        return place in {Place.MACHINE, Place.NETWORK}


class Place(StrEnum):
    """Where a model answers."""

    MACHINE = "this machine"
    NETWORK = "your own network"
    DECLARED = "your own machines, as batcher.toml says"
    VENDOR = "a vendor"


def place_of(model: Model, provider: ProviderInfo, base_url: str | None = None) -> Place:
    """Where a model answers.

    A vendor that batcher knows is one whatever its address was moved to: a gateway on loopback may pass
    documents on. Any other endpoint counts as one's own if its address is private; at a public one only if
    the model's ``data`` in batcher.toml says ``your own machines``.

    Args:
        model: the model.
        provider: its provider.
        base_url: where the provider answers, if a variable moves it; None: ``provider.base_url``.
    """
    if provider.kind == "local":
        return Place.MACHINE
    if provider.name in VENDORS:
        return Place.VENDOR
    host = host_of(base_url or provider.base_url)
    if _is_loopback(host):
        return Place.MACHINE
    if _is_private(host):
        return Place.NETWORK
    if model.data in OWN_DATA and provider.name not in _OWN_BUILT_IN:
        return Place.DECLARED
    return Place.VENDOR


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _is_private(host: str) -> bool:
    try:
        return ip_address(host).is_private
    except ValueError:
        return bool(host) and ("." not in host or host.endswith(_INNER_ENDINGS))

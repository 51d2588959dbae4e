"""The vendors' own adapters over the simulator in place of a network: for rehearsals, without a socket.

Bodies, headers, answers and errors go through the adapters' very code; time is the running loop's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import formatdate
from typing import Any, Final

import aiohttp

from batcher.catalog.models import ProviderInfo
from batcher.errors import ConfigurationError
from batcher.providers.base import Provider
from batcher.providers.factory import build_provider
from batcher.providers.fence import leave
from batcher.providers.sdk_call import SdkProvider
from batcher.simulator.core import Reply, Simulator

_KEY: Final = "sk-simulated"
"""What stands in for a key: none is needed, and none is read."""

_OPENAI_PATH: Final = "/v1/chat/completions"
_ANTHROPIC_PATH: Final = "/v1/messages"


@dataclass(frozen=True, slots=True)
class _Request:
    path: str
    content: bytes
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class _Response:
    status_code: int
    headers: Mapping[str, str]
    content: bytes


class SimulatedHttp:
    """An ``HttpClient`` whose other end is a simulator.

    Args:
        simulator: what answers.
        vendor: in whose words.
        epoch: Unix seconds at the loop's time 0.
    """

    def __init__(self, simulator: Simulator, vendor: str, epoch: float) -> None:
        self._simulator = simulator
        self._vendor = vendor
        self._epoch = epoch

    def build_request(
        self,
        method: str,  # noqa: ARG002 - the protocol's signature
        url: str,
        *,
        content: bytes | None = None,
        headers: Any = None,
    ) -> _Request:
        """A call, as the simulator takes it in."""
        path = _ANTHROPIC_PATH if url.endswith("/messages") else _OPENAI_PATH
        return _Request(path, content or b"", {name.lower(): value for name, value in headers.items()})

    async def send(self, request: _Request) -> _Response:
        """Wait as long as the vendor takes, and return its answer.

        Raises:
            NotSentError: if the call may not leave any more.
            aiohttp.ClientError: if a fault breaks the connection.
        """
        leave()
        simulator = self._simulator
        reply = simulator.handle(
            request.path, request.content, request.headers, self._now(), vendor=self._vendor
        )
        sent = False
        try:
            await asyncio.sleep(reply.delay_s)
            simulator.answered(reply, self._now())
            await _break(reply)
            sent = True
        except asyncio.CancelledError:
            if not reply.line.answered_at:
                # The client does not wait any longer; a vendor goes on and charges.
                simulator.answered(reply, self._now())
            raise
        finally:
            simulator.close(reply, sent=sent)
        # Without a date, waits that are told as points in time would be counted from this machine's clock.
        date = formatdate(self._now(), usegmt=True)
        return _Response(reply.status, {**reply.headers, "date": date}, reply.body)

    def _now(self) -> float:
        return self._epoch + asyncio.get_running_loop().time()


async def _break(reply: Reply) -> None:
    """Do to the connection what a fault says."""
    if reply.connection == "hang":
        await asyncio.get_running_loop().create_future()
    elif reply.connection == "reset_before":
        raise aiohttp.ServerDisconnectedError
    elif reply.connection == "reset_after":
        raise aiohttp.ClientPayloadError("Response payload is not completed")


def simulated_vendor(info: ProviderInfo) -> str:
    """The name by which the simulator knows a provider: what its format, headers and limits go by."""
    return info.name if info.kind == "openai" else info.kind


def simulated_provider(
    info: ProviderInfo, simulator: Simulator, epoch: float, *, max_connections: int
) -> Provider:
    """A provider's own adapter, whose calls go to a simulator.

    Args:
        info: the catalogue's entry.
        simulator: what answers.
        epoch: Unix seconds at the loop's time 0.
        max_connections: calls in flight at most.

    Raises:
        ConfigurationError: for the local tier, which has no API to simulate.
    """
    provider = None
    if info.kind != "local":
        provider = build_provider(info, _KEY, None, max_connections=max_connections)
    if not isinstance(provider, SdkProvider):
        raise ConfigurationError(f"The provider {info.name} runs on this machine and cannot be simulated")
    provider.send_through(SimulatedHttp(simulator, simulated_vendor(info), epoch))
    return provider

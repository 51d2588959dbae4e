"""A simulator that is stopped closes every connection, whatever state it is in."""

from __future__ import annotations

import asyncio
import gc
import socket
import warnings

import pytest

from batcher.simulator.core import Simulator, SimulatorConfig
from batcher.simulator.server import SimulatorServer


@pytest.mark.parametrize("turns", range(6))
def test_a_connection_that_is_just_being_accepted_is_closed(turns: int) -> None:
    async def connect_and_stop() -> bytes:
        server = SimulatorServer(Simulator(SimulatorConfig(models=["small"])))
        with socket.create_connection(("127.0.0.1", await server.start(0)), timeout=10) as client:
            for _ in range(turns):
                await asyncio.sleep(0)
            await server.stop()
            try:
                return client.recv(1)
            except ConnectionResetError:
                return b""

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ResourceWarning)
        assert asyncio.run(connect_and_stop()) == b""
        gc.collect()
    assert [str(one.message) for one in caught] == []

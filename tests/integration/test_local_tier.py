"""The local tier with its real small model: it answers by schema, keeps its key, ends with its parent."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import httpx
import jsonschema_rs
import orjson
import psutil
import pytest

from batcher.catalog.models import ProviderInfo
from batcher.domain import FailureClass, Finish, Message
from batcher.providers.base import ChatRequest, ProviderError
from batcher.providers.factory import build_provider
from batcher.providers.local.options import LocalOptions, slots_for
from batcher.providers.local.process import start_server
from batcher.providers.local.provider import LocalProvider
from batcher.providers.local.server import ServerOrder
from batcher.providers.local.weights import weights_file

MODEL = "smollm2-135m"
LOCAL = ProviderInfo("local", "local", None, None, None, "max_tokens")
SCHEMA = {
    "type": "object",
    "properties": {
        "label": {"type": "string", "enum": ["loan", "recipe"]},
        "keywords": {"type": "array", "items": {"type": "string", "maxLength": 12}, "maxItems": 2},
    },
    "required": ["label", "keywords"],
    "additionalProperties": False,
}


def request(**fields: Any) -> ChatRequest:
    given: dict[str, Any] = {
        "model_id": MODEL,
        "messages": (Message("user", "The lender gives the borrower a loan of five hundred dollars."),),
        "schema": SCHEMA,
        "schema_name": "labels",
        "enforce_schema": True,
        "max_output_tokens": 80,
        "temperature": 0.0,
        "timeout_s": 120.0,
    }
    return ChatRequest(**(given | fields))


@pytest.fixture
def options(local_models_dir: Path, tmp_path: Path) -> LocalOptions:
    return LocalOptions(local_models_dir, tmp_path / "logs", contexts={MODEL: 512}, slots=2)


@pytest.fixture
async def provider(options: LocalOptions) -> AsyncIterator[LocalProvider]:
    made = build_provider(LOCAL, None, None, max_connections=8, local=options)
    assert isinstance(made, LocalProvider)
    yield made
    await made.aclose()


def gone(pid: int, timeout_s: float = 10.0) -> bool:
    """Whether the process ends in time."""
    try:
        process = psutil.Process(pid)
    except psutil.NoSuchProcess:
        return True
    return not psutil.wait_procs([process], timeout=timeout_s)[1]


async def test_a_real_model_answers_by_the_schema(provider: LocalProvider) -> None:
    assert provider.process_ids() == {}
    completion = await provider.complete(request())
    jsonschema_rs.validator_for(SCHEMA).validate(orjson.loads(completion.text))
    assert "\n" not in completion.text
    assert completion.finish is Finish.STOP
    assert completion.usage is not None
    assert completion.usage.input_tokens > 10
    assert 0 < completion.usage.output_tokens <= 80
    assert completion.served_model == MODEL
    assert MODEL in await provider.check()
    pid = provider.process_ids()[MODEL]
    await provider.aclose()
    assert gone(pid, 0)


async def test_the_key_is_secret_and_needed(options: LocalOptions) -> None:
    server = await start_server(MODEL, weights_file(MODEL, options), options)
    try:
        body = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 1}
        async with httpx.AsyncClient(trust_env=False) as client:
            answer = await client.post(f"{server.base_url}/chat/completions", json=body)
            assert answer.status_code == 401
            bearer = {"authorization": f"Bearer {server.api_key}"}
            answer = await client.post(f"{server.base_url}/chat/completions", json=body, headers=bearer)
            assert answer.status_code == 200
        child = psutil.Process(server.pid)
        assert server.api_key not in " ".join(child.cmdline())
        listening = [c.laddr for c in child.net_connections("tcp") if c.status == psutil.CONN_LISTEN]
        assert [address.ip for address in listening] == ["127.0.0.1"]
    finally:
        await server.stop()


async def test_too_long_and_truncated(provider: LocalProvider) -> None:
    with pytest.raises(ProviderError) as caught:
        await provider.complete(request(messages=(Message("user", "word " * 3000),)))
    assert caught.value.failure is FailureClass.TOO_LONG
    cut = await provider.complete(request(max_output_tokens=3))
    assert cut.finish is Finish.LENGTH


async def test_a_server_that_dies_is_started_once_more(provider: LocalProvider) -> None:
    await provider.complete(request(max_output_tokens=8))
    first = provider.process_ids()[MODEL]
    os.kill(first, signal.SIGKILL)
    with pytest.raises(ProviderError) as caught:  # the call that finds out; the engine makes it again
        await provider.complete(request(max_output_tokens=8))
    assert caught.value.failure in {FailureClass.UNKNOWN_OUTCOME, FailureClass.TRANSIENT}
    await provider.complete(request(max_output_tokens=8))
    second = provider.process_ids()[MODEL]
    assert second != first
    assert psutil.pid_exists(second)


async def test_a_file_that_only_looks_like_weights(tmp_path: Path) -> None:
    fake = tmp_path / "fake.gguf"
    fake.write_bytes(b"GGUF" + bytes(200))
    made = LocalProvider(
        LocalOptions(tmp_path, tmp_path / "logs", files={"fake": fake}),
        limit_field="max_tokens",
        max_connections=1,
    )
    with pytest.raises(ProviderError) as caught:
        await made.complete(request(model_id="fake"))
    await made.aclose()
    assert (caught.value.failure, caught.value.billed) == (FailureClass.ACCOUNT, False)
    log = tmp_path / "logs" / "local-fake.log"
    assert str(log) in caught.value.message
    assert log.stat().st_size > 0


async def test_missing_weights(tmp_path: Path) -> None:
    made = LocalProvider(LocalOptions(tmp_path, tmp_path), limit_field="max_tokens", max_connections=1)
    with pytest.raises(ProviderError, match=f"batcher models pull {MODEL}"):
        await made.complete(request())
    with pytest.raises(ProviderError, match="batcher models pull"):
        await made.check()


_PARENT = """
import asyncio, sys
from pathlib import Path
from batcher.providers.local.options import LocalOptions
from batcher.providers.local.process import start_server

async def main():
    options = LocalOptions(Path(sys.argv[1]).parent, Path(sys.argv[2]), contexts={"m": 512}, slots=1)
    server = await start_server("m", Path(sys.argv[1]), options)
    print(server.pid, flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


def test_kill_9_of_the_parent_leaves_no_orphan(options: LocalOptions, tmp_path: Path) -> None:
    command = [sys.executable, "-c", _PARENT, str(weights_file(MODEL, options)), str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert psutil.pid_exists(child)
        parent.kill()
    assert gone(child)


def order(options: LocalOptions, parent_pid: int) -> bytes:
    asked = ServerOrder(MODEL, str(weights_file(MODEL, options)), "key", 1, 512, 1, 1, parent_pid)
    return json.dumps(asdict(asked)).encode() + b"\n"


def start_child() -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "batcher.providers.local.server"]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)


def test_the_child_ends_with_its_standard_input(options: LocalOptions) -> None:
    with start_child() as child:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write(order(options, os.getpid()))
        child.stdin.flush()
        assert json.loads(child.stdout.readline())["port"] > 0
        child.stdin.close()
        assert child.wait(10) == 0


def test_a_child_whose_parent_is_gone_already_does_not_start(options: LocalOptions) -> None:
    with start_child() as child:
        said, _ = child.communicate(order(options, 1 if os.getppid() != 1 else 2), timeout=20)
    assert said == b""
    assert child.returncode == -signal.SIGKILL


@pytest.mark.parametrize(("context", "expected"), [(2048, 4), (12_288, 4), (32_768, 1), (10**6, 1)])
def test_slots_shrink_for_long_contexts(context: int, expected: int) -> None:
    assert slots_for(context, 4) == expected

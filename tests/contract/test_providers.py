"""What every provider owes the engine, over real HTTP, on every kind."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import jsonschema_rs
import orjson
import pytest

from batcher.catalog.models import ProviderInfo
from batcher.domain import FailureClass, Finish, Image, Message
from batcher.errors import ConfigurationError
from batcher.providers.base import ChatRequest, Provider, ProviderError
from batcher.providers.factory import build_provider, schema_bytes_as_sent
from tests.support.vendor_server import VendorServer

KEY = "sk-contract-0123456789abcdef"
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "label": {"type": "string", "enum": ["a", "b"]},
        "topics": {
            "type": "array",
            "items": {"type": "string", "maxLength": 40},
            "minItems": 2,
            "maxItems": 4,
        },
        "score": {"type": "number", "minimum": 0, "maximum": 1},
    },
    "required": ["label", "topics"],
}
KINDS = {
    "openai": ProviderInfo("openai", "openai", None, None, "K", "max_completion_tokens"),
    "compatible": ProviderInfo("vllm", "openai", None, None, None, "max_tokens"),
    "together": ProviderInfo("together", "together", None, None, "K", "max_tokens"),
    "anthropic": ProviderInfo("anthropic", "anthropic", None, None, "K", "max_tokens"),
}


def url_of(kind: str, vendor: VendorServer) -> str:
    return {"together": vendor.together_url, "anthropic": vendor.anthropic_url}.get(kind, vendor.openai_url)


def request(**fields: Any) -> ChatRequest:
    given: dict[str, Any] = {
        "model_id": "loopback-small",
        "messages": (Message("system", "Describe."), Message("user", "The quick brown fox jumps")),
        "schema": SCHEMA,
        "schema_name": "labels",
        "enforce_schema": True,
        "max_output_tokens": 300,
        "temperature": 0.0,
        "timeout_s": 20.0,
    }
    return ChatRequest(**(given | fields))


@pytest.fixture(params=list(KINDS))
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def provider(kind: str, vendor_server: VendorServer) -> AsyncIterator[Provider]:
    made = build_provider(KINDS[kind], KEY, url_of(kind, vendor_server), max_connections=50)
    yield made
    await made.aclose()


async def failure_of(provider: Provider, **fields: Any) -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        await provider.complete(request(**fields))
    assert KEY not in repr(caught.value) + caught.value.message
    return caught.value


class TestProvider:
    async def test_an_answer_with_its_usage(self, provider: Provider, vendor_server: VendorServer) -> None:
        completion = await provider.complete(request())
        line = vendor_server.bill[0]
        assert completion.finish is Finish.STOP
        assert completion.usage is not None
        assert (completion.usage.input_tokens, completion.usage.output_tokens) == (
            line.input_tokens,
            line.output_tokens,
        )
        assert completion.request_id == line.request_id
        assert completion.served_model == "loopback-small"
        assert line.model == "loopback-small"

    async def test_the_answer_fits_the_original_schema(self, provider: Provider) -> None:
        # The vendor cannot heed what its dialect leaves out, so only what it enforces is asked here.
        enforceable = {
            **SCHEMA,
            "properties": {"label": SCHEMA["properties"]["label"], "x": {"type": "integer"}},
        }
        enforceable["required"] = ["label"]
        completion = await provider.complete(request(schema=enforceable))
        jsonschema_rs.validator_for(enforceable).validate(orjson.loads(completion.text))

    async def test_the_body_says_all_that_was_asked(
        self, provider: Provider, kind: str, vendor_server: VendorServer
    ) -> None:
        bodies = []
        vendor_server.on_call(lambda call: bodies.append(call.body))  # type: ignore[func-returns-value]
        await provider.complete(request(extra={"top_k": 5}))
        await provider.complete(request(enforce_schema=False, temperature=None, extra={"temperature": None}))
        await provider.complete(request(logprobs=True))
        first, second, third = bodies
        assert "logprobs" not in first
        assert third.get("logprobs", False) is (kind != "anthropic")
        assert first[KINDS[kind].output_limit_field] == 300
        assert (first["temperature"], first["top_k"]) == (0.0, 5)
        assert not {"temperature", "response_format", "output_config"} & second.keys()
        if kind == "anthropic":
            assert first["system"] == "Describe."
            assert first["output_config"]["format"]["type"] == "json_schema"
        else:
            form = first["response_format"]["json_schema"]
            assert form["name"] == "labels"
            assert form.get("strict", False) is (kind == "openai")
            assert ("maxLength" in str(form["schema"]["properties"]["topics"]["items"].keys())) is (
                kind != "openai"
            )

    async def test_the_schema_is_as_long_as_the_factory_says(
        self, provider: Provider, kind: str, vendor_server: VendorServer
    ) -> None:
        bodies = []
        vendor_server.on_call(lambda call: bodies.append(call.schema))  # type: ignore[func-returns-value]
        await provider.complete(request())
        assert len(orjson.dumps(bodies[0])) == schema_bytes_as_sent(KINDS[kind], SCHEMA)

    async def test_images_travel(self, provider: Provider, kind: str, vendor_server: VendorServer) -> None:
        bodies = []
        vendor_server.on_call(lambda call: bodies.append(call.body))  # type: ignore[func-returns-value]
        picture = Image("image/png", b"\x89PNG not really", 2, 2)
        await provider.complete(request(messages=(Message("user", "What is this?", (picture,)),)))
        parts = {part["type"]: part for part in bodies[0]["messages"][0]["content"]}
        assert parts["text"]["text"] == "What is this?"
        if kind == "anthropic":
            assert parts["image"]["source"]["data"] == "iVBORyBub3QgcmVhbGx5"
        else:
            assert parts["image_url"]["image_url"]["url"] == "data:image/png;base64,iVBORyBub3QgcmVhbGx5"

    async def test_truncation(self, provider: Provider) -> None:
        completion = await provider.complete(request(max_output_tokens=2))
        assert completion.finish is Finish.LENGTH
        assert completion.usage is not None
        assert completion.usage.output_tokens == 2

    @pytest.mark.parametrize("finish", ["refused", "filtered"])
    async def test_refusal(self, provider: Provider, vendor_server: VendorServer, finish: str) -> None:
        vendor_server.add_fault(finish=finish, text="I will not.")
        completion = await provider.complete(request())
        assert (completion.finish, completion.text) == (Finish.REFUSED, "I will not.")

    @pytest.mark.parametrize(
        ("headers", "wait_s"),
        [
            ({"retry-after-ms": "1500"}, 1.5),
            ({"Retry-After": "7"}, 7),
            ({"retry-after": "0.5"}, 0.5),
            ({"x-ratelimit-reset-tokens": "6m0s", "x-ratelimit-remaining-tokens": "0"}, 360),
            ({"x-ratelimit-reset": "2", "x-ratelimit-remaining": "0"}, 2),
            ({}, None),
        ],
    )
    async def test_rate_limit(
        self, provider: Provider, vendor_server: VendorServer, headers: dict[str, str], wait_s: float | None
    ) -> None:
        vendor_server.add_fault(status=429, headers=headers)
        error = await failure_of(provider)
        assert (error.failure, error.status, error.billed) == (FailureClass.RATE_LIMITED, 429, False)
        assert error.retry_after_s == wait_s
        assert {name.lower() for name in headers} <= error.headers.keys()
        assert vendor_server.totals()["calls"] == 1

    async def test_rate_limit_until_a_date(self, provider: Provider, vendor_server: VendorServer) -> None:
        until = datetime.now(UTC) + timedelta(seconds=60)
        vendor_server.add_fault(status=429, headers={"retry-after": format_datetime(until, usegmt=True)})
        wait_s = (await failure_of(provider)).retry_after_s
        assert wait_s is not None
        assert 50 < wait_s <= 61
        reset = (datetime.now(UTC) + timedelta(seconds=60)).isoformat(timespec="seconds")
        vendor_server.add_fault(status=429, headers={"anthropic-ratelimit-requests-reset": reset})
        wait_s = (await failure_of(provider)).retry_after_s
        assert wait_s is not None
        assert 50 < wait_s <= 61

    @pytest.mark.parametrize(
        ("status", "failure", "billed"),
        [
            (400, FailureClass.BAD_REQUEST, False),
            (401, FailureClass.ACCOUNT, False),
            (402, FailureClass.ACCOUNT, False),
            (404, FailureClass.BAD_REQUEST, False),
            (413, FailureClass.TOO_LONG, False),
            (500, FailureClass.TRANSIENT, False),
            (502, FailureClass.TRANSIENT, None),
            (503, FailureClass.OVERLOADED, False),
            (504, FailureClass.TRANSIENT, None),
            (529, FailureClass.OVERLOADED, False),
        ],
    )
    async def test_error_status(
        self,
        provider: Provider,
        vendor_server: VendorServer,
        status: int,
        failure: FailureClass,
        billed: bool | None,
    ) -> None:
        vendor_server.add_fault(status=status)
        error = await failure_of(provider)
        assert (error.failure, error.status, error.billed) == (failure, status, billed)
        assert error.request_id == vendor_server.bill[0].request_id
        assert vendor_server.totals()["calls"] == 1

    async def test_a_key_that_is_wrong(self, provider: Provider, vendor_server: VendorServer) -> None:
        vendor_server.configure(key="another")
        error = await failure_of(provider)
        assert (error.failure, error.status) == (FailureClass.ACCOUNT, 401)
        with pytest.raises(ProviderError) as caught:
            await provider.check()
        assert caught.value.failure is FailureClass.ACCOUNT

    async def test_a_vendor_that_echoes_the_key(
        self, provider: Provider, vendor_server: VendorServer
    ) -> None:
        for body in (f"Bad header: Authorization: Bearer {KEY}", {"error": {"message": f"key {KEY} is bad"}}):
            vendor_server.add_fault(status=401, body=body)
            error = await failure_of(provider)
            assert "[key]" in error.message

    async def test_context_exceeded(self, provider: Provider, vendor_server: VendorServer) -> None:
        vendor_server.configure(context=5)
        error = await failure_of(provider)
        assert (error.failure, error.billed) == (FailureClass.TOO_LONG, False)

    async def test_no_answer_in_time(self, provider: Provider, vendor_server: VendorServer) -> None:
        vendor_server.add_fault(connection="hang")
        error = await failure_of(provider, timeout_s=0.4)
        assert (error.failure, error.billed, error.status) == (FailureClass.UNKNOWN_OUTCOME, None, None)
        assert (await provider.complete(request())).finish is Finish.STOP

    @pytest.mark.parametrize("connection", ["reset_before", "reset_after"])
    async def test_reset(self, provider: Provider, vendor_server: VendorServer, connection: str) -> None:
        vendor_server.add_fault(connection=connection)
        error = await failure_of(provider)
        assert (error.failure, error.billed) == (FailureClass.UNKNOWN_OUTCOME, None)
        assert vendor_server.totals()["calls"] == 1

    async def test_nobody_there(self, kind: str) -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            url = f"http://127.0.0.1:{taken.getsockname()[1]}"
            made = build_provider(KINDS[kind], KEY, url, max_connections=5)
            error = await failure_of(made)
            await made.aclose()
        assert (error.failure, error.billed) == (FailureClass.TRANSIENT, False)

    async def test_no_such_host(self, kind: str) -> None:
        made = build_provider(KINDS[kind], KEY, "http://no-such-host.invalid/v1", max_connections=5)
        error = await failure_of(made)
        await made.aclose()
        assert (error.failure, error.billed) == (FailureClass.TRANSIENT, False)

    async def test_a_base_url_that_is_none(self, kind: str) -> None:
        made = build_provider(KINDS[kind], KEY, "localhost:1234/v1", max_connections=5)
        error = await failure_of(made)
        await made.aclose()
        assert (error.failure, error.billed) == (FailureClass.BAD_REQUEST, False)

    @pytest.mark.parametrize("body", ["<html>welcome</html>", "[1]", "null", "{}", '{"choices": []}', "{"])
    async def test_a_200_that_is_no_answer(
        self, provider: Provider, vendor_server: VendorServer, body: str
    ) -> None:
        vendor_server.add_fault(body=body)
        error = await failure_of(provider)
        assert (error.failure, error.billed, error.status) == (FailureClass.UNKNOWN_OUTCOME, None, 200)

    async def test_rate_limit_headers_of_good_answers(
        self, provider: Provider, vendor_server: VendorServer
    ) -> None:
        vendor_server.add_fault(headers={"X-RateLimit-Remaining-Requests": "59", "x-other": "1"})
        assert (await provider.complete(request())).headers == {"x-ratelimit-remaining-requests": "59"}

    async def test_check(self, provider: Provider) -> None:
        assert await provider.check() == "2 models"

    async def test_many_at_once(self, provider: Provider, vendor_server: VendorServer) -> None:
        vendor_server.configure(latency_s=0.2)
        await asyncio.gather(*(provider.complete(request()) for _ in range(50)))
        assert vendor_server.totals()["peak_in_flight"] == 50

    async def test_a_cancelled_call_leaves_the_provider_usable(
        self, provider: Provider, vendor_server: VendorServer
    ) -> None:
        vendor_server.add_fault(connection="hang")
        call = asyncio.create_task(provider.complete(request()))
        await asyncio.to_thread(vendor_server.wait_for_calls, 1)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert (await provider.complete(request())).finish is Finish.STOP


@pytest.mark.parametrize("kind", ["openai", "together", "anthropic"])
def test_a_missing_key_is_named(kind: str) -> None:
    with pytest.raises(ConfigurationError, match="Set K"):
        build_provider(KINDS[kind], None, None, max_connections=1)


async def test_an_optional_field_left_null_by_strict_mode_is_left_out(vendor_server: VendorServer) -> None:
    made = build_provider(KINDS["openai"], KEY, vendor_server.openai_url, max_connections=1)
    vendor_server.add_fault(text='{"label": "a", "topics": ["x", "y"], "score": null}')
    completion = await made.complete(request())
    await made.aclose()
    jsonschema_rs.validator_for(SCHEMA).validate(orjson.loads(completion.text))


async def test_only_openai_is_told_the_organisation(
    vendor_server: VendorServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_ORG_ID", "org-of-mine")
    told = []
    vendor_server.on_call(lambda call: told.append(call.headers.get("openai-organization")))  # type: ignore[func-returns-value]
    for kind in ("openai", "compatible"):
        made = build_provider(KINDS[kind], KEY, vendor_server.openai_url, max_connections=1)
        await made.complete(request())
        await made.aclose()
    assert told == ["org-of-mine", None]


@pytest.mark.parametrize("bad", ["sk-abcdefgh-0123\r", "sk-abcdefgh\n-0123", "sk-\xfcmlaut-abcdefgh"])
async def test_what_cannot_be_written_never_left(kind: str, bad: str, vendor_server: VendorServer) -> None:
    if KINDS[kind].api_key_env is None:
        bad = "x" + bad  # an endpoint that asks for no key may be given one all the same
    made = build_provider(KINDS[kind], bad, url_of(kind, vendor_server), max_connections=1)
    failures = [await failure_of(made) for _ in range(2)]
    with pytest.raises(ProviderError) as checked:
        await made.check()
    await made.aclose()
    for error in [*failures, checked.value]:
        assert (error.failure, error.billed) == (FailureClass.ACCOUNT, False)
        assert "abcdefgh" not in error.message
        assert "connection broke" not in error.message
    assert vendor_server.bill == []


async def test_a_header_of_the_sdks_own_that_cannot_be_written_never_left(
    vendor_server: VendorServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_ORG_ID", "org-of-mine\r")
    made = build_provider(KINDS["openai"], KEY, vendor_server.openai_url, max_connections=1)
    error = await failure_of(made)
    await made.aclose()
    assert (error.failure, error.billed) == (FailureClass.ACCOUNT, False)


@pytest.mark.parametrize("kind", ["openai", "anthropic", "together"])
def test_one_vendors_user_imports_no_other_vendors_sdk(kind: str) -> None:
    program = (
        "import sys\nfrom batcher.catalog.models import ProviderInfo\n"
        "from batcher.providers.factory import build_provider\n"
        f"info = ProviderInfo({kind!r}, {kind!r}, None, None, 'K', 'max_tokens')\n"
        "build_provider(info, 'key', None, max_connections=1)\n"
        "print([name for name in ('openai', 'anthropic', 'together') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str([kind])

"""The simulator without sockets: requests and times go in, answers and delays come out; nobody waits."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

import orjson
import pytest

from batcher.errors import UsageError
from batcher.simulator.core import Reply, Simulator, SimulatorConfig
from batcher.simulator.faults import Fault, FaultScript, read_faults
from batcher.simulator.latency import LatencyTable
from batcher.simulator.rate_limits import Limits

NOW = 1_795_000_000.0
HEADERS = {"authorization": "Bearer k"}
LONG = "word " * 3_000


def chat(text: str = "hello there", model: str = "gpt-4o-mini", **fields: Any) -> dict[str, Any]:
    messages = [{"role": "system", "content": "Describe."}, {"role": "user", "content": text}]
    return {"model": model, "messages": messages, "max_tokens": 500} | fields


def serve(simulator: Simulator, body: Any, now: float = NOW, path: str = "/v1/chat/completions") -> Reply:
    reply = simulator.handle(path, body, HEADERS, now)
    simulator.answered(reply, now + reply.delay_s)
    simulator.close(reply, sent=reply.connection == "")
    return reply


def answer(reply: Reply) -> Any:
    return orjson.loads(reply.body)


def test_a_night_on_a_virtual_clock_takes_no_time() -> None:
    simulator = Simulator(SimulatorConfig(latency_scale=1.0), Limits(rpm=60))
    now, waits = NOW, 0
    for number in range(2_000):
        reply = serve(simulator, chat(f"document {number}"), now)
        while reply.status == 429:
            now += int(reply.headers["retry-after-ms"]) / 1000
            waits += 1
            reply = serve(simulator, chat(f"document {number}"), now)
    hours = (now - NOW) / 3600
    assert 2_000 / 60 / 60 - 0.02 < hours < 2_000 / 60 / 60 + 0.02
    assert simulator.bill.totals()["statuses"] == {"200": 2_000, "429": waits}
    assert waits > 1_900


def test_the_vendor_is_told_by_the_path_the_format_and_the_model() -> None:
    simulator = Simulator()
    llama = "meta-llama/Llama-3.3-70B-Instruct-Turbo"
    for path, body, vendor in (
        ("/v1/chat/completions", chat(), "openai"),
        ("/v1/chat/completions", chat(model="no-such-model"), "openai"),
        ("/v1/chat/completions", chat(model=llama), "together"),
        ("/together/v1/chat/completions", chat(), "together"),
        ("/openai/v1/chat/completions", chat(), "groq"),
        ("/mistral/v1/chat/completions", chat(), "mistral"),
        ("/v1/messages", chat(), "anthropic"),
        ("/gemini/v1beta/openai/chat/completions", chat(), "gemini"),
    ):
        assert serve(simulator, body, path=path).line.vendor == vendor
    assert simulator.handle("", chat(), HEADERS, NOW, vendor="fireworks").line.vendor == "fireworks"


def test_usage_is_written_as_each_vendor_writes_it() -> None:
    simulator = Simulator()
    openai = answer(serve(simulator, chat()))["usage"]
    together = answer(serve(simulator, chat(), path="/together/v1/chat/completions"))["usage"]
    groq = answer(serve(simulator, chat(), path="/openai/v1/chat/completions"))["usage"]
    claude = answer(serve(simulator, chat(), path="/v1/messages"))["usage"]
    assert openai["prompt_tokens_details"]["cached_tokens"] == 0
    assert together.keys() == {"prompt_tokens", "completion_tokens", "total_tokens"}
    assert "queue_time" in groq
    assert claude["cache_read_input_tokens"] == 0
    assert openai["prompt_tokens"] == together["prompt_tokens"] == groq["prompt_tokens"]


def test_tokens_are_bytes_of_the_texts_and_images_count_apart() -> None:
    simulator = Simulator(SimulatorConfig(token_bytes=1, image_tokens=700))
    plain = serve(simulator, chat("\n\n\u00e9")).line
    assert plain.input_tokens == len("Describe.") + 4 + 2 * 4
    assert plain.output_tokens == len(answer_text(simulator, chat("\n\n\u00e9")).encode())
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 9_000}}
    seen = chat("")
    seen["messages"][1]["content"] = [{"type": "text", "text": "look"}, picture, picture]
    assert serve(simulator, seen).line.input_tokens == len("Describe.look") + 2 * 4 + 2 * 700


def answer_text(simulator: Simulator, body: dict[str, Any]) -> str:
    return str(answer(serve(simulator, body))["choices"][0]["message"]["content"])


def test_errors_are_not_billed_and_cut_connections_are() -> None:
    simulator = Simulator(SimulatorConfig(key="k", context=2_000))
    assert simulator.handle("/v1/chat/completions", chat(), {"x-api-key": "j"}, NOW).status == 401
    for body, status in ((b"{", 400), (chat(model=""), 400), (chat(messages=[]), 400), (chat(LONG), 400)):
        reply = serve(simulator, body)
        assert (reply.status, reply.line.billed, reply.line.cost_nusd) == (status, False, 0)
    simulator.faults.add([{"connection": "reset_after"}, {"kind": "reset_before"}, {"kind": "server_500"}])
    lines = [serve(simulator, chat()).line for _ in range(4)]
    assert [(line.billed, line.sent) for line in lines] == [
        (True, False),
        (False, False),
        (False, True),
        (True, True),
    ]
    price = lines[0].input_tokens * 150 + lines[0].output_tokens * 600
    assert lines[0].cost_nusd == price > 0


def test_models_that_are_not_listed_are_served_without_a_price_or_refused() -> None:
    simulator = Simulator()
    assert serve(simulator, chat(model="own")).line.cost_nusd is None
    simulator.config.change({"refuse_unlisted": True})
    assert serve(simulator, chat(model="own")).status == 404
    assert serve(simulator, chat()).status == 200
    assert b"gpt-4o-mini" in simulator.models("/v1/models", HEADERS)[1]
    assert answer_models(simulator, "/v1/models", {"x-api-key": "k"})["has_more"] is False
    assert isinstance(answer_models(simulator, "/together/v1/models", HEADERS), list)
    assert simulator.models("/v1/models", {})[0] == 401
    with pytest.raises(UsageError, match="colour"):
        simulator.config.change({"colour": 1})


def answer_models(simulator: Simulator, path: str, headers: dict[str, str]) -> Any:
    return orjson.loads(simulator.models(path, headers)[1])


def test_prompts_that_begin_alike_are_cached_once_the_first_answer_is_there() -> None:
    simulator = Simulator(SimulatorConfig(cache=True, latency_s=2.0))
    bodies = [chat(f"question {number}") for number in range(3)]
    for body in bodies:
        body["messages"][0]["content"] = LONG
    first = simulator.handle("/v1/chat/completions", bodies[0], HEADERS, NOW)
    second = simulator.handle("/v1/chat/completions", bodies[1], HEADERS, NOW + 1)
    simulator.answered(first, NOW + 2)
    third = serve(simulator, bodies[2], NOW + 3)
    assert second.used is not None
    assert second.used.cached == 0
    assert third.line.cached_tokens % 128 == 0
    assert third.line.cached_tokens > 3_000
    details = answer(third)["usage"]["prompt_tokens_details"]
    assert details["cached_tokens"] == third.line.cached_tokens
    assert third.line.cost_nusd == (
        third.line.cached_tokens * 75
        + (third.line.input_tokens - third.line.cached_tokens) * 150
        + third.line.output_tokens * 600
    )
    assert serve(simulator, bodies[1], NOW + 4_000).line.cached_tokens == 0


@pytest.mark.parametrize(("ttl", "price"), [("5m", 1_250), ("1h", 2_000)])
def test_anthropic_caches_what_is_marked_and_charges_for_writing(ttl: str, price: int) -> None:
    simulator = Simulator(SimulatorConfig(cache=True))
    marked = {"type": "text", "text": LONG, "cache_control": {"type": "ephemeral", "ttl": ttl}}
    body = {
        "model": "claude-haiku-4-5",
        "max_tokens": 10,
        "system": [marked],
        "messages": [{"role": "user", "content": "Hello"}],
    }
    written, read = (serve(simulator, body, NOW + second, "/v1/messages") for second in (0, 1))
    usage = answer(written)["usage"]
    tokens = usage["cache_creation_input_tokens"]
    assert tokens == written.line.cache_write_tokens > 3_000
    assert usage["input_tokens"] + tokens == written.line.input_tokens
    assert answer(read)["usage"]["cache_read_input_tokens"] == read.line.cached_tokens == tokens
    plain = usage["input_tokens"]
    assert written.line.cost_nusd == tokens * price + plain * 1_000 + 10 * 5_000
    assert read.line.cost_nusd == tokens * 100 + plain * 1_000 + 10 * 5_000


def test_a_schema_in_the_prompt_is_heeded() -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    body = chat()
    body["messages"][0]["content"] = f"It must fit this JSON Schema:\n{orjson.dumps(schema).decode()}\nThanks"
    assert isinstance(orjson.loads(answer_text(Simulator(), body))["n"], int)


def test_times_are_drawn_around_the_tables_medians_and_repeat() -> None:
    drawn = [LatencyTable(7).draw_s("gpt-4o-mini-2024-07-18", 0) for _ in range(2)]
    assert drawn[0] == drawn[1] != LatencyTable(8).draw_s("gpt-4o-mini-2024-07-18", 0)
    table = LatencyTable(1)
    starts = [table.draw_s("gpt-4o-mini-2024-07-18", 0) for _ in range(4_000)]
    assert statistics.median(starts) == pytest.approx(0.2, rel=0.05)
    assert statistics.quantiles(starts, n=20)[-1] == pytest.approx(0.2 * 1.78, rel=0.1)
    whole = [table.draw_s("claude-sonnet-4-6", 700) for _ in range(4_000)]
    assert statistics.median(whole) == pytest.approx(0.4 + 10, rel=0.06)
    assert table.speed("meta-llama/Llama-3.3-70B-Instruct-Turbo").tokens_per_s == 50
    assert table.speed("never-heard-of") == LatencyTable().speed("another")


def test_the_same_seed_spoils_the_same_calls() -> None:
    def spoiled(seed: int) -> list[str]:
        simulator = Simulator(SimulatorConfig(seed=seed))
        simulator.faults.add([{"kind": "transient", "rate": 0.1}, {"kind": "refused", "rate": 0.1}])
        return [serve(simulator, chat(str(number))).line.fault for number in range(2_000)]

    first = spoiled(3)
    assert first == spoiled(3) != spoiled(4)
    hit = sum(bool(fault) for fault in first)
    assert 0.15 * 2_000 < hit < 0.24 * 2_000
    assert {"timeout_408", "gateway_504", "refusal", "blocked"} <= set(first)


def test_by_count_by_every_kth_after_some_and_by_what_the_request_says() -> None:
    script = FaultScript()
    simulator = Simulator()
    simulator.faults = script
    script.add([{"status": 500, "skip": 2, "times": 2}])
    assert [serve(simulator, chat()).status for _ in range(6)] == [200, 200, 500, 500, 200, 200]
    script.clear()
    script.add([{"kind": "rate_limited", "every": 3, "retry_after_s": 9}])
    replies = [serve(simulator, chat()) for _ in range(6)]
    assert [reply.status for reply in replies] == [200, 200, 429] * 2
    assert replies[2].headers["retry-after"] == "9"
    script.clear()
    script.add([{"text": "?", "model": "gpt-4o", "contains": "needle", "vendor": "openai", "times": None}])
    assert answer_text(simulator, chat("a needle", "gpt-4o")) == "?"
    assert answer_text(simulator, chat("a needle")) != "?"
    assert answer_text(simulator, chat("hay", "gpt-4o")) != "?"


def test_somebody_may_decide_about_every_call() -> None:
    simulator = Simulator()
    simulator.on_call = lambda call: Fault(status=503, body="busy") if "x" in call.text else None
    assert [serve(simulator, chat(text)).status for text in "xy"] == [503, 200]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("f.toml", '[[faults]]\nkind = "hang"\nrate = 0.5\n[[faults]]\nstatus = 500\n'),
        ("f.json", '[{"kind": "hang", "rate": 0.5}, {"status": 500}]'),
        ("g.json", '{"faults": [{"kind": "hang", "rate": 0.5}, {"status": 500}]}'),
    ],
)
def test_scripts_are_read_from_files(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    script = FaultScript()
    script.add(read_faults(tmp_path / name))
    assert [(fault.kind, fault.times) for fault in script.faults] == [("hang", None), ("", 1)]


WRONG_LINES = (
    *("rate = 'x'", "rate = nan", "rate = true", "every = 1.5", "skip = 'a'", "skip = -1", "times = -1"),
    *("status = 'abc'", "status = 9999", "status = 100", "headers = 3", 'headers = { a = "b\\nc: d" }'),
    *("delay_s = 'long'", "delay_s = inf", "delay_s = -1", "retry_after_s = -5", "contains = 5"),
    *("text = 7", "billed = 'maybe'", "vendor = 1", "model = []"),
)


@pytest.mark.parametrize(
    "text",
    [
        *(
            "[[faults]]\nkind = 'x'",
            "[[faults]]\ncolour = 1",
            "[[faults]]\nrate = 2",
            "[[faults]]\nevery = 0",
        ),
        *("faults = 1", "[["),
        *(f"[[faults]]\nkind = 'hang'\n{line}" for line in WRONG_LINES),
        "[[faults]]\nkind = ['hang']",
        "[[faults]]\nrate = 0.5",
    ],
)
def test_a_script_that_is_wrong_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "f.toml").write_text(text)
    with pytest.raises(UsageError):
        FaultScript().add(read_faults(tmp_path / "f.toml"))
    with pytest.raises(UsageError, match="Cannot read"):
        read_faults(tmp_path / "none.toml")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("token_bytes", 0), ("latency_scale", float("inf")), ("latency_s", -1), ("seed", "x")),
        *(("models", "gpt"), ("answers", [["a"]]), ("cache", 1), ("schema", [])),
        *(("context", -1), ("key", 5), ("image_tokens", 1.5)),
    ],
)
def test_a_setting_that_cannot_be_changes_nothing(name: str, value: Any) -> None:
    config = SimulatorConfig()
    with pytest.raises(UsageError, match=f"{name} = .* of the simulator must be"):
        config.change({"latency_s": 3.0, name: value})
    assert config == SimulatorConfig()


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "properties": 5},
        {"type": "object", "properties": {"a": {"$ref": "#/nowhere"}}},
        {"type": "array", "minItems": "x"},
        {"type": "nothing"},
    ],
)
def test_a_schema_that_is_none_is_refused_as_vendors_do(schema: dict[str, Any]) -> None:
    simulator = Simulator()
    told = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    reply = serve(simulator, {**chat("hello"), "response_format": told})
    assert reply.status == 400
    assert b"Invalid schema" in reply.body
    assert simulator.bill.totals()["billed"] == 0

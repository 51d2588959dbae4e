"""The loopback vendor itself: what other tests lean on must hold."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import httpx
import jsonschema_rs
import pytest

from tests.support.vendor_server import VendorProcess, VendorServer

SCHEMA = {
    "type": "object",
    "properties": {
        "label": {"type": "string", "enum": ["a", "b", "c"]},
        "topics": {
            "type": "array",
            "items": {"type": "string", "maxLength": 9},
            "minItems": 2,
            "maxItems": 5,
        },
        "score": {"type": "number", "minimum": 0, "maximum": 1},
        "count": {"type": "integer", "minimum": 3, "maximum": 4},
        "note": {"anyOf": [{"type": "string"}, {"type": "null"}]},
        "place": {"$ref": "#/$defs/place"},
    },
    "required": ["label", "topics", "score", "count", "note", "place"],
    "$defs": {"place": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}},
}


def ask(vendor: VendorServer | VendorProcess, text: str, **fields: object) -> httpx.Response:
    body = {"model": "m", "messages": [{"role": "user", "content": text}], "max_tokens": 500} | fields
    return httpx.post(
        f"{vendor.openai_url}/chat/completions", json=body, headers={"authorization": "Bearer k"}
    )


def with_schema(schema: object) -> dict[str, object]:
    return {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}}


def test_answers_fit_the_schema_and_depend_on_the_request_alone(vendor_server: VendorServer) -> None:
    check = jsonschema_rs.validator_for(SCHEMA)
    texts = []
    for text in ["the quick brown fox", "another document here", "the quick brown fox"]:
        answer = ask(vendor_server, text, **with_schema(SCHEMA)).json()
        texts.append(answer["choices"][0]["message"]["content"])
        check.validate(httpx.Response(200, text=texts[-1]).json())
    assert texts[0] == texts[2] != texts[1]
    hashes = [line.body_hash for line in vendor_server.bill]
    assert hashes[0] == hashes[2] != hashes[1]


def test_bill_counts_what_was_generated_and_not_what_was_refused(vendor_server: VendorServer) -> None:
    vendor_server.add_fault(status=429, headers={"retry-after": "7"})
    first = ask(vendor_server, "hello")
    second = ask(vendor_server, "hello")
    assert (first.status_code, first.headers["retry-after"], second.status_code) == (429, "7", 200)
    usage = second.json()["usage"]
    totals = vendor_server.totals()
    assert (totals["calls"], totals["billed"], totals["sent"]) == (2, 1, 2)
    assert totals["output_tokens"] == usage["completion_tokens"]
    assert vendor_server.bill[1].request_id == second.headers["x-request-id"]


def test_a_reset_after_generation_is_billed_though_never_sent(vendor_server: VendorServer) -> None:
    for connection in ("reset_before", "reset_after"):
        vendor_server.add_fault(connection=connection)
        with pytest.raises(httpx.TransportError):
            ask(vendor_server, "hello")
    assert [(line.billed, line.sent) for line in vendor_server.bill] == [(True, False)] * 2


def test_output_is_cut_at_the_limit_asked_for(vendor_server: VendorServer) -> None:
    answer = ask(vendor_server, "x", max_tokens=3, **with_schema(SCHEMA)).json()
    assert answer["choices"][0]["finish_reason"] == "length"
    assert answer["usage"]["completion_tokens"] == 3


def test_strict_mode_refuses_a_loose_schema(vendor_server: VendorServer) -> None:
    form = with_schema(SCHEMA)
    form["response_format"]["json_schema"]["strict"] = True  # type: ignore[index]
    assert ask(vendor_server, "x", **form).status_code == 400


def test_every_kth_call_and_rate_limit(vendor_server: VendorServer) -> None:
    vendor_server.add_fault(status=500, every=3, times=None)
    assert [ask(vendor_server, str(n)).status_code for n in range(6)] == [200, 200, 500, 200, 200, 500]
    vendor_server.clear_faults()
    vendor_server.configure(rate=0.001, burst=1)
    assert [ask(vendor_server, str(n)).status_code for n in range(2)] == [200, 429]


def test_process_serves_and_ends_with_its_parent() -> None:
    with VendorProcess(key="right") as vendor:
        assert ask(vendor, "x").status_code == 401
        vendor.configure(key="k", latency_s=0.01)
        assert ask(vendor, "x").status_code == 200
        vendor.wait_for_calls(2, 5)
        assert vendor.totals()["ok"] == 1
    assert vendor.process.returncode == 0


def test_process_by_hand_prints_its_port() -> None:
    root = Path(__file__).resolve().parents[3]
    command = [sys.executable, "-m", "tests.support.vendor_server", "--port", "0"]
    with subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, env=dict(os.environ)) as process:
        try:
            assert process.stdout is not None
            port = int(process.stdout.readline())
            assert httpx.get(f"http://127.0.0.1:{port}/_totals").json()["calls"] == 0
        finally:
            process.terminate()

"""The simulator's bill and its prices."""

from __future__ import annotations

import json
import math
import tracemalloc
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batcher.errors import ConfigurationError, UsageError
from batcher.simulator.bill import Bill, BillLine
from batcher.simulator.prices import PriceFile, Tokens

TOKENS = st.integers(0, 2_000_000)


def line(bill: Bill, *, billed: bool = True, cost_nusd: int | None = 7) -> BillLine:
    number = bill.next_number()
    return BillLine(
        number=number,
        arrived_at=float(number),
        path="/v1/chat/completions",
        model="m",
        body_hash="0",
        request_id=f"req_{number}",
        status=200 if billed else 429,
        input_tokens=10 if billed else 0,
        output_tokens=3 if billed else 0,
        billed=billed,
        cost_nusd=cost_nusd if billed else 0,
        vendor="openai",
    )


def serve(bill: Bill, one: BillLine) -> None:
    bill.open(one)
    bill.answered(one)
    one.sent = True
    bill.close(one)


@given(TOKENS, TOKENS, TOKENS, TOKENS, TOKENS)
def test_a_request_costs_the_exact_sum_rounded_up_once(
    plain: int, cached: int, written: int, long_kept: int, output: int
) -> None:
    price = PriceFile.load().find("groq", "openai/gpt-oss-20b")
    assert price is not None
    used = Tokens(plain + cached + written + long_kept, output, cached, written, long_kept)
    exact = (
        Fraction("0.075") * (plain + written)
        + Fraction("0.0375") * cached
        + Fraction("0.15") * long_kept
        + Fraction("0.3") * output
    ) * 1000
    assert price.cost_nusd(used) == math.ceil(exact)


def test_a_long_request_is_charged_wholly_at_the_long_prices() -> None:
    price = PriceFile.load().find("anthropic", "claude-haiku-5-5")
    assert price is not None
    assert price.cost_nusd(Tokens(100_000, 10)) == 100_000 * 100 + 10 * 500
    assert price.cost_nusd(Tokens(100_001, 10)) == 100_001 * 500 + 10 * 2500


def test_a_price_file_is_laid_over_the_built_in_one(tmp_path: Path) -> None:
    path = tmp_path / "prices.toml"
    path.write_text(
        '[openai]\n"gpt-4o" = { input = 1, output = 2 }\n[own]\n"x" = { input = 0, output = 0 }\n'
    )
    prices = PriceFile.load(path)
    changed, kept = prices.find("openai", "gpt-4o"), prices.find("openai", "gpt-4o-mini")
    assert changed is not None
    assert kept is not None
    assert changed.cost_nusd(Tokens(1_000_000, 1_000_000)) == 3_000_000_000
    assert kept.cost_nusd(Tokens(1_000_000, 0)) == 150_000_000
    assert prices.models("own") == ("x",)
    assert prices.vendor_of("x") == "own"


@pytest.mark.parametrize(
    "text",
    [
        "[openai",
        "openai = 1",
        '[openai]\n"x" = { input = 1 }',
        '[openai]\n"x" = { input = -1, output = 1 }',
        '[openai]\n"x" = { input = 0.0000001, output = 1 }',
        '[openai]\n"x" = { input = 1, output = 1, tax = 1 }',
    ],
)
def test_a_price_file_that_is_wrong_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "prices.toml"
    path.write_text(text)
    with pytest.raises(ConfigurationError, match=r"prices\.toml"):
        PriceFile.load(path)


def test_sums_pages_and_memory_when_most_requests_have_left_it() -> None:
    bill = Bill(kept=50)
    for number in range(3_000):
        serve(bill, line(bill, billed=number % 3 > 0))
    totals = bill.totals()
    assert (totals["calls"], totals["finished"], totals["billed"], totals["sent"]) == (3000, 3000, 2000, 3000)
    assert (totals["input_tokens"], totals["cost_nusd"]) == (20_000, 14_000)
    assert totals["statuses"] == {"200": 2000, "429": 1000}
    numbers: list[int] = []
    while page := bill.lines(after=numbers[-1] if numbers else 0, limit=700):
        numbers += [one.number for one in page]
    assert numbers == list(range(1, 3001))
    bill.shut()


def test_memory_stays_flat() -> None:
    bill = Bill(kept=500)
    tracemalloc.start()
    try:
        sizes = []
        for _ in range(3):
            for _ in range(4_000):
                serve(bill, line(bill))
            sizes.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
        bill.shut()
    assert sizes[2] < sizes[0] * 1.1


def test_requests_in_flight_stay_in_memory_and_are_counted_when_they_end() -> None:
    bill = Bill(kept=10)
    slow = line(bill)
    slow.status = 0
    bill.open(slow)
    for _ in range(500):
        serve(bill, line(bill))
    assert bill.totals()["finished"] == 500
    slow.status = 200
    bill.answered(slow)
    bill.close(slow)
    assert bill.totals()["finished"] == 501
    assert bill.lines(limit=1)[0].status == 200
    bill.shut()


def test_clearing_forgets_but_never_gives_a_number_twice() -> None:
    bill = Bill(kept=10)
    for _ in range(300):
        serve(bill, line(bill))
    open_one = line(bill)
    bill.open(open_one)
    bill.clear()
    bill.answered(open_one)
    bill.close(open_one)
    assert (bill.totals()["calls"], bill.totals()["finished"], bill.lines()) == (0, 0, [])
    assert bill.next_number() == 302
    bill.shut()


def test_the_bill_file_has_every_answered_request_and_is_appended_to(tmp_path: Path) -> None:
    path = tmp_path / "bill.jsonl"
    for _ in range(2):
        bill = Bill(path)
        for _ in range(3):
            serve(bill, line(bill))
        written = [json.loads(row) for row in path.read_text().splitlines()]  # before anything is closed
        bill.shut()
    assert [row["number"] for row in written] == [1, 2, 3, 4, 5, 6]
    assert all(row["billed"] and row["cost_nusd"] == 7 for row in written)
    with pytest.raises(UsageError, match="Cannot write the bill"):
        Bill(tmp_path)


def test_a_model_without_a_price_is_counted_apart() -> None:
    bill = Bill()
    serve(bill, line(bill, cost_nusd=None))
    serve(bill, line(bill))
    assert (bill.totals()["unpriced"], bill.totals()["cost_nusd"]) == (1, 7)
    assert bill.totals()["models"][0]["billed"] == 2


def test_a_file_that_is_no_bill_is_not_written_to(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("my notes\n")
    with pytest.raises(UsageError, match="is no bill"):
        Bill(path)
    assert path.read_text() == "my notes\n"

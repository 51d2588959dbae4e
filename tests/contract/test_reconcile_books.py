"""What an export proves of books made by hand, on SQLite and PostgreSQL: midnights, gaps and rounding."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import func, select, update

from batcher.budget.comparison import DAY_S, Verdict, day_of
from batcher.budget.reconcile import list_unknown
from batcher.store.attempts import insert_attempts
from batcher.store.tables import attempts
from tests.support.handmade_books import WORST, Books, Sent, at, by_day
from tests.support.vendor_exports import write_csv


def test_days_are_utc_days_of_sending_whatever_the_ledgers_zone(
    make_books: Callable[[], Books], tmp_path: Path
) -> None:
    books = make_books()
    books.book([Sent(at(0, 20)), Sent(at(0, 21), billed=False, answered=False), Sent(at(1, 3))])
    line = ("some-model", 1, 1000, 100, "0.00021")
    file = by_day(tmp_path / "e.csv", ("2026-11-15", *line), ("2026-11-16", *line))
    found, returned = books.reconcile(file)
    assert [(row.day, row.verdict) for row in found.rows] == [
        ("2026-11-15", Verdict.LOWER),
        ("2026-11-16", Verdict.EQUAL),
    ]
    assert returned == WORST
    assert books.spent() == 2 * 210_000


def test_calls_close_to_midnight_join_the_days_on_both_sides(
    make_books: Callable[[], Books], tmp_path: Path
) -> None:
    books = make_books()
    books.book([Sent(at(0, 12)), Sent(at(0, 23.9)), Sent(at(0, 12), billed=False, answered=False)])
    first = ("2026-11-15", "some-model", 1, 1000, 100, "0.00021")
    alone = by_day(tmp_path / "alone.csv", first)
    found, returned = books.reconcile(alone, final=True)
    assert returned == 0
    assert "close to midnight: export 2026-11-16 too" in found.findings[0].reason
    second = ("2026-11-16", "some-model", 1, 1000, 100, "0.00021")
    found, returned = books.reconcile(by_day(tmp_path / "both.csv", first, second))
    assert found.findings[0].days == ("2026-11-15", "2026-11-16")
    assert returned == WORST


def test_a_billed_call_on_the_other_side_of_midnight_is_no_proof_for_its_day(
    make_books: Callable[[], Books], tmp_path: Path
) -> None:
    """The first day has as many calls as were answered; one of them is the lost one, and one was moved."""
    books = make_books()
    books.book([Sent(at(0, 12)), Sent(at(0, 23.9)), Sent(at(0, 13), answered=False)])
    file = by_day(
        tmp_path / "e.csv",
        ("2026-11-15", "some-model", 2, 2000, 200, "0.00042"),
        ("2026-11-16", "some-model", 1, 1000, 100, "0.00021"),
    )
    found, _ = books.reconcile(file)
    assert books.spent() == 3 * 210_000
    assert found.proofs[0].outcome == "billed"


def test_a_missing_line_counts_as_nothing_only_in_a_final_export(
    make_books: Callable[[], Books], tmp_path: Path
) -> None:
    books = make_books()
    books.book([Sent(at(0, 12)), Sent(at(1, 12), billed=False, answered=False), Sent(at(2, 12))])
    lines = [(day, "some-model", 1, 1000, 100, "0.00021") for day in ("2026-11-15", "2026-11-17")]
    file = by_day(tmp_path / "e.csv", *lines)
    found, returned = books.reconcile(file)
    assert returned == 0
    assert found.findings[0].reason.endswith("say --final")
    assert [row.verdict for row in found.rows] == [Verdict.EQUAL, Verdict.MISSING, Verdict.EQUAL]
    assert books.reconcile(file, final=True)[1] == WORST
    assert books.reconcile(file, final=True)[1] == 0


def test_costs_alone_prove_nothing_and_show_what_differs(
    make_books: Callable[[], Books], tmp_path: Path
) -> None:
    books = make_books()
    books.book([Sent(at(0, 12)), Sent(at(0, 13), billed=False, answered=False), Sent(at(1, 12))])
    header = ("start_time", "amount_value", "amount_currency", "line_item")
    lines = [
        (int(at(0, 0)), "0.00015", "usd", "some-model, input"),
        (int(at(0, 0)), "0.00006", "usd", "some-model, output"),
        (int(at(1, 0)), "0.01", "usd", "some-model, input"),
        (int(at(2, 0)), "", "", ""),
    ]
    found, returned = books.reconcile(write_csv(tmp_path / "e.csv", header, lines))
    assert returned == 0
    assert "costs alone prove nothing" in found.findings[0].reason
    assert [row.verdict for row in found.rows] == [Verdict.LOWER, Verdict.HIGHER]
    assert [row.day for row in found.higher] == ["2026-11-16"]


def test_a_higher_price_returns_nothing(make_books: Callable[[], Books], tmp_path: Path) -> None:
    books = make_books()
    books.book([Sent(at(0, 12)), Sent(at(0, 13), billed=False, answered=False)])
    file = by_day(tmp_path / "e.csv", ("2026-11-15", "some-model", 1, 1000, 100, "0.00022"))
    found, returned = books.reconcile(file)
    assert (returned, books.spent()) == (0, 210_000 + WORST)
    assert "charges more for the answered calls" in found.findings[0].reason


def test_a_rounded_cost_leaves_the_ledger_at_the_export(
    make_books: Callable[[], Books], tmp_path: Path
) -> None:
    books = make_books()
    books.book([Sent(at(0, 12), tokens=(1_004, 100)), Sent(at(0, 13), billed=False, answered=False)])
    assert books.spent() == 210_600 + WORST
    file = by_day(tmp_path / "e.csv", ("2026-11-15", "some-model", 1, 1004, 100, "0.000211"))
    _, returned = books.reconcile(file)
    assert books.spent() == 211_000
    assert returned == WORST - 400
    assert books.reconcile(file)[1] == 0


def test_calls_on_their_way_are_waited_for(make_books: Callable[[], Books], tmp_path: Path) -> None:
    books = make_books()
    books.book([Sent(at(0, 12)), Sent(at(0, 13), billed=False, answered=False)])
    with books.store.write() as connection:
        insert_attempts(connection, [books._new(10**9, Sent(at(0, 14)), "2026-11-15")])
    file = by_day(tmp_path / "e.csv", ("2026-11-15", "some-model", 1, 1000, 100, "0.00021"))
    found, returned = books.reconcile(file)
    assert returned == 0
    assert "on their way" in found.findings[0].reason


@pytest.mark.parametrize(
    ("requests", "tokens", "cost", "verdict"),
    [
        (1, 1000, 0.00021, "equal"),
        (2, 2000, 0.00042, "calls in flight"),
        (2, 2000, (210_000 + WORST) / 10**9, "calls in flight"),
        (2, 2000, (220_000 + WORST) / 10**9, "vendor higher"),
        (2, 2000, None, "calls in flight"),
        (3, 2000, None, "vendor higher"),
    ],
)
def test_what_calls_on_their_way_explain_is_no_higher_bill(
    make_books: Callable[[], Books],
    tmp_path: Path,
    requests: int,
    tokens: int,
    cost: float | None,
    verdict: str,
) -> None:
    books = make_books()
    books.book([Sent(at(0, 12))])
    with books.store.write() as connection:
        newest = connection.execute(select(func.max(attempts.c.id))).scalar_one()
        insert_attempts(connection, [books._new(newest + 10**9, Sent(at(0, 14)), "2026-11-15")])
    figures = ("2026-11-15", "some-model", requests, tokens, tokens // 10)
    header = ("day", "model", "requests", "input_tokens", "output_tokens")
    file = (
        write_csv(tmp_path / "e.csv", header, [figures])
        if cost is None
        else by_day(tmp_path / "e.csv", (*figures, f"{cost:.9f}"))
    )
    found, _ = books.reconcile(file)
    assert found.rows[0].verdict.value == verdict
    assert (found.rows[0].calls.open, found.rows[0].calls.open_nusd) == (1, WORST)


def test_an_answer_that_came_without_its_usage_stays_an_answer(
    make_books: Callable[[], Books], tmp_path: Path
) -> None:
    books = make_books()
    [name] = books.book([Sent(at(0, 12), answered=False)])
    row = attempts.c.id == int(name.removeprefix("r"))
    with books.store.write() as connection:
        connection.execute(update(attempts).where(row).values(outcome="ok", status_code=200))
    books.reconcile(by_day(tmp_path / "e.csv", ("2026-11-15", "some-model", 1, 1000, 100, "0.00021")))
    with books.store.read() as connection:
        settled = connection.execute(select(attempts).where(row)).one()
    assert (settled.state, settled.outcome, settled.status_code) == ("settled", "ok", 200)
    assert (settled.cost_nusd, settled.input_tokens, settled.output_tokens) == (210_000, 1000, 100)


def test_unknown_calls_are_listed_with_their_worst_case(make_books: Callable[[], Books]) -> None:
    books = make_books()
    books.book([Sent(at(0, 12), answered=False), Sent(at(0, 13), answered=False), Sent(at(0, 14))])
    with books.store.read() as connection:
        [row] = [row for row in list_unknown(connection) if row.provider == books.provider]
    assert (row.day, row.model, row.calls, row.worst_nusd) == ("2026-11-15", "some-model", 2, 2 * WORST)


def test_calls_are_settled_one_by_one_where_the_export_names_them(
    make_books: Callable[[], Books], tmp_path: Path
) -> None:
    books = make_books()
    lost = [
        Sent(at(0, 13), answered=False, names_itself=True, tokens=(50, 7)),
        Sent(at(0, 14), answered=False, billed=False, names_itself=True),
        Sent(at(0, 15), answered=False, tokens=(60, 8)),
        Sent(at(0, 16), answered=False, billed=False),
    ]
    calls = [Sent(at(0, 12)), *lost]
    file = _by_call(tmp_path / "e.csv", calls, books.book(calls))
    found, _ = books.reconcile(file)
    [finding] = found.findings
    assert sorted((proof.outcome, proof.usage.input_tokens) for proof in finding.proofs) == [
        ("billed", 50),
        ("unbilled", 0),
    ]
    assert finding.reason == "1 calls in the export are none of the answered ones, and 2 are unknown"
    assert books.spent() == calls[0].cost_nusd + lost[0].cost_nusd + 2 * WORST


def test_an_unknown_call_that_is_found_by_its_id_shows_that_the_export_has_such_ids(
    make_books: Callable[[], Books], tmp_path: Path
) -> None:
    """Else the same export would prove more the second time, when that call is settled."""
    books = make_books()
    calls = [
        Sent(at(0, 12), answered=False, billed=False, names_itself=True),
        Sent(at(0, 12), answered=False),
        Sent(at(0, 12), answered=False, names_itself=True),
    ]
    file = _by_call(tmp_path / "e.csv", calls, books.book(calls))
    books.reconcile(file)
    assert books.spent() == calls[1].cost_nusd + calls[2].cost_nusd
    assert books.reconcile(file)[1] == 0


def _by_call(path: Path, calls: list[Sent], ids: list[str], dropped: int = 0) -> Path:
    lines = [
        (
            day_of(int(call.at // DAY_S)),
            call.model,
            *call.tokens,
            f"{call.cost_nusd * Decimal('1e-9'):f}",
            name,
        )
        for call, name in zip(calls, ids, strict=True)
        if call.billed
    ]
    header = ("day", "model", "input_tokens", "output_tokens", "cost_usd", "request_id")
    return write_csv(path, header, lines[dropped:])


SENT = st.builds(
    Sent,
    at=st.one_of(st.integers(0, 2), st.just(0)).flatmap(
        lambda day: st.sampled_from([at(day, 0.01), at(day, 7), at(day, 12), at(day, 23.99)])
    ),
    billed=st.booleans(),
    answered=st.booleans(),
    model=st.sampled_from(["one", "two"]),
    tokens=st.tuples(st.integers(1, 5_000), st.integers(1, 900)),
    names_itself=st.booleans(),
).map(lambda call: replace(call, billed=call.billed or call.answered))


@settings(
    max_examples=100,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    calls=st.lists(SENT, min_size=1, max_size=12),
    shape=st.sampled_from(["all", "requests", "tokens", "costs", "no costs"]),
    places=st.sampled_from([9, 6, 4]),
    late=st.booleans(),
    dropped=st.integers(0, 3),
    final=st.booleans(),
)
def test_what_is_returned_never_leaves_the_ledger_below_the_bill(
    make_books: Callable[[], Books],
    tmp_path: Path,
    calls: list[Sent],
    shape: str,
    places: int,
    late: bool,
    dropped: int,
    final: bool,
) -> None:
    """Whatever was lost, however the vendor cuts its days and rounds, and with whole lines missing."""
    books = make_books()
    books.book(calls)
    truth = sum(call.cost_nusd for call in calls)
    before = books.spent()
    lines = _export_lines(calls, places, late=late)
    final = final and not dropped
    random.Random(len(calls)).shuffle(lines)
    kept = lines[dropped:]
    if not kept:
        return
    columns = {
        "all": (2, 3, 4, 5), "requests": (2,), "tokens": (3, 4), "costs": (5,), "no costs": (2, 3, 4)
    }[shape]  # fmt: skip
    names = ("day", "model", "requests", "input_tokens", "output_tokens", "cost_usd")
    header = [names[column] for column in (0, 1, *columns)]
    file = write_csv(
        tmp_path / "e.csv", header, [[line[column] for column in (0, 1, *columns)] for line in kept]
    )
    _, returned = books.reconcile(file, final=final)
    after = books.spent()
    assert before - returned == after >= truth
    if shape in {"all", "costs"}:
        told = sum(int(Decimal(str(line[5])) * 10**9) for line in kept)
        # Lines without an unknown call may have been rounded up, by half of the last place.
        assert after >= min(before, told - len(kept) * 10 ** (9 - places) // 2)
    again = books.reconcile(file, final=final)[1]
    assert (again, books.spent()) == (0, after)


@settings(
    max_examples=100,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(calls=st.lists(SENT, min_size=1, max_size=12), dropped=st.integers(0, 3))
def test_the_same_of_exports_by_call(
    make_books: Callable[[], Books], tmp_path: Path, calls: list[Sent], dropped: int
) -> None:
    books = make_books()
    ids = books.book(calls)
    before = books.spent()
    file = _by_call(tmp_path / "e.csv", calls, ids, dropped)
    told = sum(call.cost_nusd for call in [call for call in calls if call.billed][dropped:])
    if not told:
        return
    _, returned = books.reconcile(file)
    after = books.spent()
    assert before - returned == after >= told
    if not dropped:
        assert after >= sum(call.cost_nusd for call in calls)
    again = books.reconcile(file)[1]
    assert (again, books.spent()) == (0, after)


def _export_lines(calls: list[Sent], places: int, *, late: bool) -> list[tuple[object, ...]]:
    """What the vendor writes, by day and model; ``late`` books calls ten minutes after they were sent."""
    sums: dict[tuple[str, str], list[int]] = {}
    for call in calls:
        if call.billed:
            day = day_of(int((call.at + 600 * late) // DAY_S))
            line = sums.setdefault((day, call.model), [0, 0, 0, 0])
            for position, figure in enumerate((1, *call.tokens, call.cost_nusd)):
                line[position] += figure
    return [
        (*key, *line[:3], f"{round(Decimal(line[3]).scaleb(-9), places):f}")
        for key, line in sorted(sums.items())
    ]

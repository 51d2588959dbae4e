"""Whose lines an export has, on SQLite and PostgreSQL: nothing is held against, or settled by, another's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from batcher.budget.comparison import Verdict
from batcher.budget.export_owner import choose_provider
from batcher.budget.vendor_export import read_export
from batcher.errors import UsageError
from batcher.store.database import Store
from tests.support.handmade_books import WORST, Books, Sent, at, by_day

LINE = (1, 1000, 100, "0.00021")
"""One call of ``Sent``."""


def test_whose_export_it_is_is_found_or_asked(
    make_books: Callable[[], Books], store: Store, tmp_path: Path
) -> None:
    first, second = make_books(), make_books()
    first.book([Sent(at(0, 12), model="alpha"), Sent(at(0, 12), model="shared")])
    second.book([Sent(at(0, 12), model="beta"), Sent(at(0, 12), model="shared")])
    export = read_export(by_day(tmp_path / "a.csv", ("2026-11-15", "beta", *LINE)), {})
    shared = read_export(by_day(tmp_path / "s.csv", ("2026-11-15", "shared", *LINE)), {})
    with store.read() as connection:
        assert choose_provider(connection, first.catalog, export, None) == second.provider
        assert choose_provider(connection, first.catalog, shared, first.provider) == first.provider
        with pytest.raises(UsageError, match="Say --provider NAME"):
            choose_provider(connection, first.catalog, shared, None)
        with pytest.raises(UsageError, match="no calls of provider 'nobody'"):
            choose_provider(connection, first.catalog, shared, "nobody")


def test_an_export_of_two_providers_is_held_against_the_one_that_is_named(
    make_books: Callable[[], Books], store: Store, tmp_path: Path
) -> None:
    first, second = make_books(), make_books()
    first.book([Sent(at(0, 12), model="alpha"), Sent(at(0, 13), model="alpha", billed=False, answered=False)])
    second.book([Sent(at(0, 12), model="beta"), Sent(at(0, 12), model="gamma")])
    lines = [("2026-11-15", model, *LINE) for model in ("alpha", "beta", "gamma", "delta")]
    file = by_day(tmp_path / "e.csv", *lines)
    with store.read() as connection, pytest.raises(UsageError) as error:
        choose_provider(connection, first.catalog, read_export(file, {}), None)
    assert f"{first.provider} (alpha); {second.provider} (beta, gamma)" in str(error.value)
    assert f"--provider {first.provider}, then --provider {second.provider}" in str(error.value)

    found, returned = first.reconcile(file)
    assert [(row.model, row.verdict) for row in found.rows] == [
        ("alpha", Verdict.LOWER),
        ("beta", Verdict.ELSEWHERE),
        ("delta", Verdict.FOREIGN),
        ("gamma", Verdict.ELSEWHERE),
    ]
    assert found.elsewhere == {name: {second.provider: name} for name in ("beta", "gamma")}
    assert (returned, first.spent()) == (WORST, 210_000)
    found, returned = second.reconcile(file)
    assert {row.model: row.verdict for row in found.rows}["alpha"] is Verdict.ELSEWHERE
    assert (returned, second.spent()) == (0, 420_000)


def test_lines_of_another_provider_prove_nothing_for_their_days(
    make_books: Callable[[], Books], tmp_path: Path
) -> None:
    first, second = make_books(), make_books()
    first.book([Sent(at(0, 12), model="alpha"), Sent(at(1, 12), model="alpha", answered=False)])
    second.book([Sent(at(1, 12), model="beta")])
    theirs = ("2026-11-16", "beta", *LINE)
    before = first.spent()
    with pytest.raises(UsageError, match=f"no model that batcher called at {first.provider}, but lines of"):
        first.reconcile(by_day(tmp_path / "theirs.csv", theirs), final=True)
    both = by_day(tmp_path / "both.csv", ("2026-11-15", "alpha", *LINE), theirs)
    found, returned = first.reconcile(both, final=True)
    assert returned == 0
    assert "only lines of other providers for 2026-11-16" in found.findings[0].reason
    assert first.spent() == before


def test_lines_that_may_be_another_providers_stop_the_comparison(
    make_books: Callable[[], Books], tmp_path: Path
) -> None:
    first, second = make_books(), make_books()
    first.book([Sent(at(0, 12), model=model) for model in ("alpha", "shared")])
    second.book([Sent(at(0, 12), model=model) for model in ("beta", "shared")])
    for name, message in (("shared", "whose these lines are"), ("", "lines that name no model")):
        lines = [("2026-11-15", model, *LINE) for model in ("alpha", "beta", name)]
        with pytest.raises(UsageError, match=message):
            first.reconcile(by_day(tmp_path / "e.csv", *lines))

"""The simulator's bill as the usage export that a vendor would give: CSV, by day and model or by call."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from batcher.simulator.bill import BillLine

FIGURES = ("requests", "input_tokens", "cached_tokens", "output_tokens", "cost_usd")


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> Path:
    """Write a table; returns its path."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)
    return path


def export_by_day(bill: Iterable[BillLine], path: Path) -> Path:
    """One line for each UTC day and model: everything that was charged."""
    sums: dict[tuple[str, str], list[Any]] = defaultdict(lambda: [0, 0, 0, 0, Decimal(0)])
    for line in bill:
        if line.billed:
            for position, figure in enumerate(_figures(line)):
                sums[_day(line), line.model][position] += figure
    return write_csv(path, ("day", "model", *FIGURES), [(*key, *sums[key]) for key in sorted(sums)])


def export_by_call(bill: Iterable[BillLine], path: Path) -> Path:
    """One line for each call that was charged."""
    rows = [(_day(line), line.model, *_figures(line)[1:], line.request_id) for line in bill if line.billed]
    return write_csv(path, ("day", "model", *FIGURES[1:], "request_id"), rows)


def _day(line: BillLine) -> str:
    return datetime.fromtimestamp(line.arrived_at, UTC).date().isoformat()


def _figures(line: BillLine) -> tuple[int, int, int, int, Decimal]:
    assert line.cost_nusd is not None
    cost = Decimal(line.cost_nusd).scaleb(-9)
    return 1, line.input_tokens, line.cached_tokens, line.output_tokens, cost


AT_NOON = "UPDATE attempts SET sent_at = sent_at - CAST(sent_at AS INTEGER) % 86400 + 43200"
"""Calls made close to midnight are held against two days: tests that run then are of one all the same."""

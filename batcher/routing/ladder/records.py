"""Golden rows: documents whose right answer is known, with what each model answered."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

import orjson

from batcher.errors import UsageError

LEAST_ROWS: Final = 40
"""Under so many golden rows nothing is learned: a share's interval is wider than 30 points."""

_NUSD: Final = 10**9


@dataclass(frozen=True, slots=True)
class RecordedAnswer:
    """One model's answer to one golden document.

    Attributes:
        answer: as the model gave it; structured answers as canonical JSON.
        correct: whether the task's scorer calls it right.
        cost_nusd: what the call cost, repairs included, nano-dollars.
        logprob: mean log-probability of the answer's tokens, at most 0; None where the API gives none.
        latency_s: from request to answer; None where it was not recorded.
        verified: what the task's verifier says of it, 0 to 1; None if it has none, or there is no answer.
        judged: what a judge says of it who knows no right answer, 0 to 1; None if none was asked.
        judging_nusd: what the judge's word cost.
    """

    answer: str
    correct: bool
    cost_nusd: int
    logprob: float | None = None
    latency_s: float | None = None
    verified: float | None = None
    judged: float | None = None
    judging_nusd: int = 0

    @classmethod
    def of(cls, entry: Mapping[str, Any]) -> Self:
        """Read a replay row's entry: ``answer``, ``correct``, ``cost`` ($), ``logprob``, ``latency_ms``."""
        latency_ms, logprob, answer = entry.get("latency_ms"), entry.get("logprob"), entry.get("answer")
        return cls(
            answer=answer if isinstance(answer, str) else orjson.dumps(answer).decode(),
            correct=bool(entry["correct"]),
            cost_nusd=round(float(entry["cost"]) * _NUSD),
            logprob=None if logprob is None else float(logprob),
            latency_s=None if latency_ms is None else float(latency_ms) / 1_000,
        )


@dataclass(frozen=True, slots=True)
class GoldenRow:
    """A document, its right answer and the answers of several models.

    Attributes:
        id: of the document.
        text: what the models were asked about.
        gold: the right answer; None where only the scorer's verdicts are known.
        answers: by name of the model.
        split: which part of the data it belongs to, where the data says so.
    """

    id: str
    text: str = field(repr=False)
    gold: str | None
    answers: Mapping[str, RecordedAnswer]
    split: str | None = None

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Self:
        """Read one replay row: ``id``, ``text``, ``gold``, ``models`` and optionally ``split``."""
        gold = row.get("gold")
        return cls(
            id=str(row["id"]),
            text=str(row["text"]),
            gold=gold if gold is None or isinstance(gold, str) else orjson.dumps(gold).decode(),
            answers={name: RecordedAnswer.of(entry) for name, entry in row["models"].items()},
            split=row.get("split"),
        )


def read_rows(path: Path) -> list[GoldenRow]:
    """Read a JSON-lines file of replay rows.

    Raises:
        UsageError: naming the line that is not such a row.
    """
    return list(_rows(path))


def _rows(path: Path) -> Iterator[GoldenRow]:
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                yield GoldenRow.of(orjson.loads(line))
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                raise UsageError(
                    f"{path.name}, line {number}, is no row of recorded answers: {error!r}"
                ) from error

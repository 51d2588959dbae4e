"""The overnight case: a floor of 80 % picks the cheap model in the first evening, one of 90 % moves up.

    python benchmarks/overnight_floor.py
    python benchmarks/overnight_floor.py --docs 8000 --dear 0.93 --cheap 0.84 --seeds 2

Two simulated models of the article's accuracies and prices: Claude Sonnet, $3 and $15 per million tokens,
right on 91 % of the documents, and Llama 3.1 70B, $0.88 both ways, right on 83 %. A document of 4,111 tokens
and an answer of 3,844 cost $0.07 on the one and $0.007 on the other: $280 and $28 for 4,000 documents a day.

Each seed is two evenings of ``batcher submit --floor`` on loopback, over other documents each time. Of the
first evening's documents a part has known answers. Exits with 1 if a bar is missed: the lane is on the cheap
model at the end of the first evening in at least 70 % of the seeds (the margin is three points: it takes some
1,200 answers to show it, and 2,500 in every fourth case), the saving that the report tells is what prices and
tokens give within 1 %, and with the floor at 90 % no evening ends on the cheap model.

Then the router alone, thousands of times: how often it takes a model whose accuracy is exactly at the floor,
looking every 10 answers, against the 5 % that it states.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sqlalchemy import select

HERE: Final = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from batcher.money import usd_to_nusd  # noqa: E402 - needs the path above
from batcher.planning.order import SubmitRequest  # noqa: E402
from batcher.routing.choice import Scored, decide  # noqa: E402
from batcher.routing.state import Candidate  # noqa: E402
from batcher.routing.wish import RouteWish  # noqa: E402
from batcher.runtime import Runtime  # noqa: E402
from batcher.settings import load_settings  # noqa: E402
from batcher.store.tables import alerts  # noqa: E402
from benchmarks.cards import submitted, write_task  # noqa: E402
from benchmarks.graded_models import RIGHT, GradedModels  # noqa: E402
from tests.support.vendor_server import VendorServer  # noqa: E402

DEAR: Final = "sonnet"
CHEAP: Final = "llama-70b"
DEAR_ID: Final = "field-sonnet-1"
CHEAP_ID: Final = "field-llama-70b-1"
INPUT_TOKENS: Final = 4_111
OUTPUT_TOKENS: Final = 3_844
"""Of a document: the one mix at which the article's prices give both of its figures, $280 and $28 a day."""

OVERHEAD_TOKENS: Final = 188
"""Of a call: what instructions, schema and template take, as the simulated vendors count."""

LEAST_PICKED: Final = 0.7
MOST_FOOLED: Final = 0.05

CONFIG: Final = f"""
[tiers]
economy = ["{CHEAP}"]
premium = ["{DEAR}"]

[models.{DEAR}]
provider = "anthropic"
id = "{DEAR_ID}"
input = 3.0
output = 15.0
context = 200000
max_output = 8000
abilities = ["schema"]
rpm = 10000000
tpm = 100000000000

[models.{CHEAP}]
provider = "together"
id = "{CHEAP_ID}"
input = 0.88
output = 0.88
context = 128000
practical_context = 32000
max_output = 8000
abilities = ["schema"]
rpm = 10000000
tpm = 100000000000
"""


@dataclass(frozen=True)
class Evening:
    """What one submission came to.

    Attributes:
        routing: how the job is routed at its end.
        spent_usd: what it cost.
        seconds: how long it took.
        models: how many documents each model answered.
        due_usd: what the saving has to be: the tokens that the vendor billed the cheap model for, at the
            difference of the two models' prices.
        tokens: that a call to the cheap model was billed for, in and out.
    """

    routing: dict[str, Any]
    spent_usd: float
    seconds: float
    models: dict[str, int]
    due_usd: float
    tokens: tuple[float, float]

    @property
    def is_true(self) -> bool:
        """Whether the saving that the report tells is that."""
        return abs(float(self.routing["saved_usd"]) - self.due_usd) <= 0.01 * self.due_usd

    @property
    def model(self) -> str:
        return str(self.routing["model"])


class Project:
    """One user's folder, store and vendors, evening after evening.

    Args:
        folder: an empty folder.
        vendor: the loopback vendor.
        scale: what a document's tokens are divided by, to be faster.
    """

    def __init__(self, folder: Path, vendor: VendorServer, *, scale: float = 1.0) -> None:
        self.folder = folder
        self._vendor = vendor
        self._text_bytes = round(4 * (INPUT_TOKENS / scale - OVERHEAD_TOKENS))
        self._task = write_task(folder, ["economy", "premium"], max_output_tokens=4_000)
        (folder / "keys.env").write_text(
            f"ANTHROPIC_API_KEY=sk-test\nANTHROPIC_BASE_URL={vendor.anthropic_url}\n"
            f"TOGETHER_API_KEY=sk-test\nTOGETHER_BASE_URL={vendor.together_url}\n"
        )
        (folder / "batcher.toml").write_text(CONFIG)
        runtime = Runtime(self.settings())
        with runtime.store.write() as connection:
            runtime.ledger.lock(connection)
            runtime.ledger.set_daily_cap(connection, usd_to_nusd("1000"))

    def settings(self, **given: Any) -> Any:
        return load_settings(
            self.folder / "batcher.toml",
            home=self.folder / "home",
            env_file=self.folder / "keys.env",
            **given,
        )

    def alerts(self) -> list[tuple[str, str]]:
        """Rule and scope of every alert in the book."""
        with Runtime(self.settings()).store.read() as connection:
            rows = connection.execute(select(alerts.c.rule, alerts.c.scope).order_by(alerts.c.id))
            return [(row.rule, row.scope) for row in rows]

    def evening(self, floor: float, first: int, docs: int, known: int) -> Evening:
        """Submit documents ``first`` to ``first + docs``, of which so many have known answers."""
        corpus = self.folder / f"corpus-{first}.jsonl"
        with corpus.open("w") as lines:
            for number in range(first, first + docs):
                text = f"Document {number}. ".ljust(self._text_bytes, "The river runs. "[number % 15])
                lines.write(json.dumps({"id": str(number), "text": text}) + "\n")
        golden = self.folder / f"golden-{first}.jsonl"
        chosen = random.Random(first).sample(range(first, first + docs), known)
        rows = [{"id": str(number), "expected": {"topic": RIGHT, "title": ""}} for number in sorted(chosen)]
        golden.write_text("".join(json.dumps(row) + "\n" for row in rows))
        request = SubmitRequest(
            paths=[str(corpus)],
            task=str(self._task),
            golden=golden if known else None,
            route=RouteWish(floor=floor),
        )
        started = time.monotonic()
        printed = submitted(Runtime(self.settings()), request).found
        seconds = time.monotonic() - started
        bill = [line for line in self._vendor.bill if line.billed and line.model == CHEAP_ID]
        self._vendor.clear_bill()
        read, written = sum(line.input_tokens for line in bill), sum(line.output_tokens for line in bill)
        due_usd = (read * (3.0 - 0.88) + written * (15.0 - 0.88)) / 1e6
        tokens = (read / max(1, len(bill)), written / max(1, len(bill)))
        return Evening(printed["routing"], printed["cost_usd"], seconds, printed["models"], due_usd, tokens)


def fooled(floor: float, accuracy: float, runs: int, answers: int, seed: int) -> float:
    """How often the router takes a cheap model of an accuracy, if it looks every 10 answers."""
    draw, taken = random.Random(seed), 0
    candidates = [Candidate(CHEAP, "economy", 7e6), Candidate(DEAR, "premium", 7e7)]
    for _ in range(runs):
        right = 0
        proven: tuple[str, ...] = ()
        for scored in range(10, answers + 1, 10):
            right += sum(draw.random() < accuracy for _ in range(10))
            found = decide(candidates, DEAR, {CHEAP: Scored(right, scored)}, floor, 0.05, proven=proven)
            proven = found.proven
            if found.chosen.model == CHEAP:
                taken += 1
                break
    return taken / runs


def rehearse(seed: int, arguments: argparse.Namespace) -> tuple[Evening, Evening]:
    """Two evenings of one seed: floor 80 %, then 90 %."""
    accuracies = {DEAR_ID: arguments.dear, CHEAP_ID: arguments.cheap}
    models = GradedModels(accuracies, seed, answer_bytes=round(4 * OUTPUT_TOKENS / arguments.scale))
    with tempfile.TemporaryDirectory() as folder, VendorServer(latency_s=arguments.latency_s) as vendor:
        vendor.on_call(models.decide)
        project = Project(Path(folder), vendor, scale=arguments.scale)
        known = round(arguments.known * arguments.docs)
        first = project.evening(0.80, seed * 1_000_000, arguments.docs, known)
        second = project.evening(0.90, seed * 1_000_000 + 500_000, arguments.docs // 4, known // 8)
    return first, second


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--docs", type=int, default=4_000)
    parser.add_argument("--known", type=float, default=0.75, help="share with known answers, first evening")
    parser.add_argument("--dear", type=float, default=0.91)
    parser.add_argument("--cheap", type=float, default=0.83)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--scale", type=float, default=1.0, help="divides a document's tokens")
    parser.add_argument("--latency-s", type=float, default=0.5, help="of a simulated call")
    parser.add_argument("--runs", type=int, default=400, help="of the router alone")
    arguments = parser.parse_args()
    print(f"{'SEED':>4} {'FLOOR':>6} {'MODEL':<10} {'COST':>9} {'SAVED':>9} {'CHEAP':>6} {'S':>6}  WHY")
    picked, kept, true = 0, 0, 0
    for seed in range(arguments.seeds):
        first, second = rehearse(seed, arguments)
        for floor, evening in ((0.8, first), (0.9, second)):
            print(
                f"{seed:>4} {floor:>6} {evening.model:<10} {evening.spent_usd:>9.2f} "
                f"{evening.routing['saved_usd']:>9.2f} {evening.models.get(CHEAP, 0):>6} "
                f"{evening.seconds:>6.1f}  {evening.routing['reason']}",
                flush=True,
            )
        picked += first.model == CHEAP
        kept += second.model == DEAR
        true += first.is_true
        print(f"     tokens {first.tokens[0]:.0f} in, {first.tokens[1]:.0f} out; due {first.due_usd:.2f}")
    at_floor = fooled(0.8, 0.8, arguments.runs, 2_000, 1)
    verdicts = [
        (
            picked >= LEAST_PICKED * arguments.seeds,
            f"floor 80 %: cheap model in {picked} of {arguments.seeds}",
        ),
        (kept == arguments.seeds, f"floor 90 %: stated model in {kept} of {arguments.seeds}"),
        (true == arguments.seeds, f"the saving told is what the prices give in {true} of {arguments.seeds}"),
        (
            at_floor <= MOST_FOOLED,
            f"exactly at the floor: taken in {at_floor:.1%} of {arguments.runs:,} runs",
        ),
    ]
    for is_met, what in verdicts:
        print("met   " if is_met else "MISSED", what)
    return int(not all(is_met for is_met, _ in verdicts))


if __name__ == "__main__":
    sys.exit(main())

"""Learned ladders against single models, on recorded answers: ``python benchmarks/routing.py --data DIR``.

Calibrates on one part of every ``*.jsonl`` set in DIR and reports on the other, over seeds; then runs one
seed of each set as a job of batcher's against a loopback vendor. What the bars are stands in README.md. Ends
with 1 if one is missed.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from batcher.routing.ladder.goals import Goal
from batcher.routing.ladder.learning import calibration
from batcher.routing.ladder.policy import LadderPolicy
from batcher.routing.ladder.records import GoldenRow, read_rows
from benchmarks.routing_engine import climb, wrapped
from benchmarks.routing_replay import Estimate, FixedModels, estimate, split_rows, walk, whole_rows

_APART: Final = 1.2
_LEAST_ROWS: Final = 100


@dataclass(frozen=True)
class StatedBar:
    """A bar for one set: at least this accuracy for at most this spend."""

    accuracy: float
    spend_usd: float
    words: str


STATED: Final[dict[str, tuple[StatedBar, ...]]] = {
    "overruling": (
        StatedBar(0.9405, 2.39, "within one point of gpt-4's .9505"),
        StatedBar(0.9505, 1.44, "as good as gpt-4 for what an oracle of two models spends (the aim)"),
    )
}
"""By name of the set. They are asked for and judged; calibration knows nothing of them."""

AHEAD: Final = frozenset({"cascade_mmlu"})
"""Sets on which ladders have to be more accurate at equal spend, the interval above zero."""


@dataclass
class GoalResult:
    """What the ladders for one goal did: seeds x rows, NaN where a row was calibrated on."""

    right: np.ndarray[Any, Any]
    cost_nusd: np.ndarray[Any, Any]
    ahead: np.ndarray[Any, Any]
    policies: list[LadderPolicy] = field(default_factory=list)

    @property
    def spend_usd(self) -> float:
        """Mean of 1,000 documents."""
        return float(np.nanmean(self.cost_nusd)) / 1e6


def goals_for(name: str, rows: Sequence[GoldenRow], spends_usd: Sequence[float]) -> dict[str, Goal | None]:
    """By label: spends along the single models' frontier, the stated ones, and "as good as the best".

    The last is None: it is the accuracy that the best single model has on the rows calibrated on.
    """
    frontier = [cost for cost, _, _ in FixedModels(rows).frontier]
    between = [(low * high) ** 0.5 for low, high in pairwise(frontier)]
    wanted = [usd * 1e6 for usd in spends_usd] or sorted([*frontier[1:], *between]) or frontier
    kept: list[float] = []
    for spend in wanted:
        if not kept or spends_usd or spend > kept[-1] * _APART:
            kept.append(spend)
    kept += [bar.spend_usd * 1e6 for bar in STATED.get(name, ())]
    labels = {f"${spend / 1e6:.4g}": Goal.of_spend(float(spend)) for spend in sorted(set(kept))}
    return {**labels, "as good as the best single": None}


def _middle(goals: dict[str, Goal | None]) -> tuple[str, Goal]:
    """One of the spends in the middle."""
    spends = [(label, goal) for label, goal in goals.items() if goal is not None]
    return spends[(len(spends) - 1) // 2]


def replay(rows: Sequence[GoldenRow], goals: dict[str, Goal | None], seeds: int) -> dict[str, GoalResult]:
    """All goals over all seeds, in memory."""
    empty = np.full((seeds, len(rows)), np.nan)
    results = {label: GoalResult(empty.copy(), empty.copy(), empty.copy()) for label in goals}
    for seed in range(seeds):
        calibrating, reporting = split_rows(rows, seed)
        learned = calibration([rows[one] for one in calibrating], seed=seed)
        best = FixedModels([rows[one] for one in calibrating]).correct.mean(axis=0).max()
        fixed = FixedModels([rows[one] for one in reporting])
        for label, goal in goals.items():
            policy = learned.ladder(goal or Goal.of_accuracy(float(best)))
            walks = [walk(policy, policy.read(rows[one].text), rows[one]) for one in reporting]
            result = results[label]
            right = np.array([float(one.kept.correct) for one in walks])
            cost = np.array([float(one.cost_nusd) for one in walks])
            result.right[seed, reporting], result.cost_nusd[seed, reporting] = right, cost
            result.ahead[seed, reporting] = right - fixed.at(float(cost.mean()))
            result.policies.append(policy)
    return results


def verdicts(
    name: str, rows: Sequence[GoldenRow], results: dict[str, GoalResult]
) -> Iterator[tuple[bool | None, str]]:
    """Each bar: whether it is met, None where nothing is asked, and the sentence that says so."""
    worse = [label for label, one in results.items() if estimate(one.ahead).high < 0]
    yield (
        not worse,
        "at no goal worse than the best mix of single models at equal spend"
        + (f"; worse at {', '.join(worse)}" if worse else ""),
    )
    spends = [one for label, one in results.items() if label.startswith("$")]
    pooled = estimate(np.mean([one.ahead for one in spends], axis=0))
    ahead = pooled.low > 0
    yield (
        ahead if name in AHEAD else None,
        (
            f"over all spends {_points(pooled)} points ahead of the best mix at equal spend: "
            f"{'more accurate' if ahead else 'no more accurate, as far as these rows show'}"
        ),
    )
    clear = [label for label, one in results.items() if estimate(one.ahead).low > 0]
    yield None, f"interval above zero at {len(clear)} of {len(results)} goals: {', '.join(clear) or 'none'}"
    for bar in STATED.get(name, ()):
        one = results[f"${bar.spend_usd:.4g}"]
        accuracy = float(np.nanmean(one.right))
        met = accuracy >= bar.accuracy and one.spend_usd <= bar.spend_usd
        yield (
            met,
            (
                f"{bar.words}: at least {bar.accuracy} for at most ${bar.spend_usd} per 1,000; "
                f"{accuracy:.4f} for ${one.spend_usd:.3f}"
            ),
        )
    yield from _cheaper_is_better(rows, results["as good as the best single"])


def _cheaper_is_better(rows: Sequence[GoldenRow], best: GoalResult) -> Iterator[tuple[bool, str]]:
    points = FixedModels(rows).points
    dearest, leader = points[-1], max(points, key=lambda one: (one[1], -one[0]))
    if dearest is leader:
        return
    names = FixedModels(rows).names
    yield (
        best.spend_usd * 1e6 < dearest[0],
        (
            f"{names[leader[2]]} is better than the dearer {names[dearest[2]]}: asked for the best, "
            f"the ladder spends ${best.spend_usd:.3f}, not ${dearest[0] / 1e6:.3f}"
        ),
    )


def _points(one: Estimate) -> str:
    return one.show(lambda share: f"{100 * share:+.2f}")


def describe(policy: LadderPolicy) -> str:
    """The ladder in one line."""
    parts = [
        step.model
        + (f" unless {step.enters_at:.2f} by text" if step.enters_at else "")
        + (f" <{step.stands_at:.2f}" if number + 1 < len(policy.steps) else "")
        for number, step in enumerate(policy.steps)
    ]
    return " > ".join(parts) + (f", {policy.skips:.0%} by lot straight to the second" if policy.skips else "")


def report(name: str, rows: Sequence[GoldenRow], results: dict[str, GoalResult], seeds: int) -> bool:
    """Print one set's tables; whether every bar is met."""
    fixed = FixedModels(rows)
    calibrating, reporting = split_rows(rows, 0)
    print(f"\n## {name}: {len(rows)} rows, {len(fixed.names)} models, {seeds} seeds; ", end="")
    print(f"calibrated on {len(calibrating)}, reported on {len(reporting)}\n")
    on_frontier = {model for _, _, model in fixed.frontier}
    for cost, accuracy, model in fixed.points:
        mark = "*" if model in on_frontier else " "
        print(f"  {mark} {fixed.names[model]:32} {accuracy:.4f}  ${cost / 1e6:8.4f}")
    share, spend = fixed.oracle()
    print(
        f"    {'oracle of all':32} {share:.4f}  ${spend / 1e6:8.4f}   (* single models' frontier, all rows)\n"
    )
    print(
        f"  {'goal':27} {'accuracy':28} {'$ / 1,000':>9}  {'points ahead at equal spend':25} ladder of seed 0"
    )
    for label, one in results.items():
        accuracy, ahead = estimate(one.right), estimate(one.ahead)
        print(
            f"  {label:27} {accuracy.show('{:.4f}'.format):28} {one.spend_usd:9.4f}  "
            f"{_points(ahead):27} {describe(one.policies[0])}"
        )
    print()
    met = True
    for holds, words in verdicts(name, rows, results):
        print(f"  {'    ' if holds is None else 'ok  ' if holds else 'MISS'} {words}")
        met &= holds is not False
    return met


def by_engine(rows: Sequence[GoldenRow], goal: Goal, label: str, latency_scale: float) -> bool:
    """Seed 0 once more as a job of batcher's; whether answers and ledger are those of the walk in memory."""
    calibrating, reporting = split_rows(rows, 0)
    given = wrapped(rows)
    policy = calibration([given[one] for one in calibrating]).ladder(goal)
    reported = [given[one] for one in reporting]
    began = time.perf_counter()
    run = climb(policy, reported, latency_scale)
    took = time.perf_counter() - began
    walks = [walk(policy, policy.read(row.text), row) for row in reported]
    same = float(np.mean([was.kept.correct == now for was, now in zip(walks, run.correct, strict=True)]))
    due_nusd = sum(one.cost_nusd for one in walks)
    spend_usd = run.spent_nusd / len(reported) / 1e6
    print(
        f"  as a job of batcher's, goal {label}, seed 0: {took:.1f} s, accuracy {np.mean(run.correct):.4f} "
        f"for ${spend_usd:.4f} per 1,000 on the ledger; {same:.2%} as in memory, "
        f"ledger {run.spent_nusd / due_nusd:.2%} of the recorded cost"
    )
    return same >= 0.99 and abs(run.spent_nusd / due_nusd - 1) < 0.01


def main() -> int:
    """Run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of *.jsonl sets of recorded answers")
    parser.add_argument("--seeds", type=int, default=10, help="splits of each set")
    parser.add_argument("--set", action="append", dest="sets", help="only this set; may be repeated")
    parser.add_argument("--spend", type=float, action="append", default=[], help="$ per 1,000 to ask for")
    parser.add_argument("--latency-scale", type=float, default=0.01, help="of recorded latencies, over HTTP")
    parser.add_argument("--no-engine", action="store_true", help="leave the run as a job of batcher's out")
    given = parser.parse_args()
    met, found = True, 0
    for path in sorted(given.data.glob("*.jsonl")):
        if given.sets and path.stem not in given.sets:
            continue
        rows = whole_rows(read_rows(path))
        if len(rows) < _LEAST_ROWS:
            print(f"\n## {path.stem}: {len(rows)} rows are too few to say anything; left out")
            continue
        found += 1
        goals = goals_for(path.stem, rows, given.spend)
        results = replay(rows, goals, given.seeds)
        met &= report(path.stem, rows, results, given.seeds)
        if not given.no_engine:
            label, goal = _middle(goals)
            met &= by_engine(rows, goal, label, given.latency_scale)
        sys.stdout.flush()
    if not found:
        print(f"no set in {given.data}")
    return 0 if met and found else 1


if __name__ == "__main__":
    sys.exit(main())

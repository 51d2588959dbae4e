"""How near the likely cost of ``batcher plan`` comes to what the run then costs.

    python benchmarks/plan_accuracy.py
    python benchmarks/plan_accuracy.py --corpora FOLDER --models gpt-4o-mini
    python benchmarks/plan_accuracy.py --local 12

Every example corpus is planned and run with its task, as a user would, against ``batcher simulate``: its bill
is the actual cost. The exit code is 1 if a judged figure is more than 15 % off.

What the simulator is: it counts four bytes as a token, which no plan is told, and it does not read. Where a
corpus has known answers, it is made to give these, so that answers are as long as people find right;
elsewhere its answers are made up to fit the schema and mean nothing. Each corpus is planned

- ``blind``: in an empty store, without known answers;
- ``golden``: in an empty store, with the corpus' known answers, where it has some;
- ``after N``: for the rest, after N documents were run.

``blind`` is judged but for summaries and for faults: made-up summaries are half as long as those that people
write, which says something about the simulator and nothing about the plan, and nobody foresees faults.
``after N`` is always judged.

``--local N`` does the same with the small model on this machine and N loan agreements, priced for the
purpose: real tokens of a real tokenizer and answers of a real model. Its weights must be there: batcher
models pull smollm2-135m.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[1]
EXAMPLES: Final = ROOT / "examples"
BAR: Final = 0.15
FIRST: Final = range(5, 51)
"""How many documents the first run may have; a quarter of the corpus if that is one of them."""

LOCAL_MODEL: Final = "smollm2-135m"
MODELS: Final = ("gpt-4o-mini", "claude-haiku-4-5", "llama-3.3-70b@together")
CONFIG: Final = """
[models."{model}"]
rpm = 1000000
tpm = 1000000000
itpm = 1000000000
otpm = 1000000000
"""
LOCAL_PRICES: Final = "input = 0.1\noutput = 0.4\n"
FAULTS: Final = '[[faults]]\nkind = "invalid_output"\nrate = 0.2\n'


@dataclass(frozen=True)
class Case:
    """One corpus put to one task.

    Attributes:
        name: of the corpus.
        docs: its folder.
        task: the task's name.
        params: its parameters, ``K=V``.
        golden: the corpus' known answers for this task, or None.
        judge_blind: whether a plan that knows nothing is held to the bar.
        faults: a script of faults, or "".
    """

    name: str
    docs: Path
    task: str
    params: tuple[str, ...] = ()
    golden: Path | None = None
    judge_blind: bool = True
    faults: str = ""

    @property
    def request(self) -> list[str]:
        """The words that ``plan`` and ``submit`` share."""
        return [str(self.docs), "--task", self.task, *(f"--param={param}" for param in self.params)]


@dataclass(frozen=True)
class Figure:
    """One likely figure against what it came to, dollars."""

    case: Case
    model: str
    documents: int
    knows: str
    source: str
    likely: float
    actual: float
    judged: bool

    @property
    def error(self) -> float:
        """How far the likely figure is off, as a share of the actual cost."""
        return self.likely / self.actual - 1

    @property
    def missed(self) -> bool:
        """Whether it is judged, and too far off."""
        return self.judged and abs(self.error) > BAR


def example_cases() -> list[Case]:
    """The corpora that come with batcher, with the tasks that their READMEs name, and summaries."""
    loans, bank = EXAMPLES / "loan_agreements", EXAMPLES / "banking77"
    labels = (f"labels=@{bank / 'labels.txt'}",)
    fields = (f"schema={loans / 'fields.schema.json'}",)
    return [
        Case("loan_agreements", loans / "docs", "extraction", fields, loans / "golden.jsonl"),
        Case("loan_agreements", loans / "docs", "enrichment"),
        Case("loan_agreements", loans / "docs", "summarization", judge_blind=False),
        Case("banking77", bank / "docs", "classification", labels, bank / "golden.jsonl"),
        Case("banking77", bank / "docs", "enrichment"),
        Case("banking77, faulty", bank / "docs", "enrichment", judge_blind=False, faults=FAULTS),
    ]


def further_cases(folder: Path, scratch: Path) -> list[Case]:
    """Larger corpora in a folder of ``docs`` and ``golden.jsonl`` each, those that are there."""
    bank, receipts = folder / "banking77_test", folder / "sroie_receipts"
    cases = []
    if bank.is_dir():
        labels = (f"labels=@{EXAMPLES / 'banking77' / 'labels.txt'}",)
        cases.append(Case(bank.name, bank / "docs", "classification", labels, bank / "golden.jsonl"))
    if receipts.is_dir():
        fields = scratch / "receipt.schema.json"
        fields.write_text(json.dumps(_schema_of(receipts / "golden.jsonl")))
        schema = (f"schema={fields}",)
        cases += [
            Case(receipts.name, receipts / "docs", "extraction", schema, receipts / "golden.jsonl"),
            Case(receipts.name, receipts / "docs", "enrichment"),
            Case(receipts.name, receipts / "docs", "summarization", judge_blind=False),
        ]
    return cases


def _schema_of(golden: Path) -> dict[str, Any]:
    """A schema of text fields, as a user would write it for these known answers."""
    first = json.loads(golden.read_text().split("\n", 1)[0])
    names = list(first["fields"])
    return {
        "type": "object",
        "properties": {name: {"type": "string", "maxLength": 120} for name in names},
        "required": names,
        "additionalProperties": False,
    }


class User:
    """Runs ``batcher`` with a home of its own."""

    def __init__(self, home: Path, env: dict[str, str], config: str) -> None:
        home.mkdir(parents=True)
        (home / "batcher.toml").write_text(config)
        self._env = env | {"PATH": os.environ["PATH"], "HOME": str(home), "BATCHER_HOME": str(home)}
        self("budget", "set", "--daily", "1000")

    def json(self, *words: str | Path) -> Any:
        """What a command prints with ``--json``."""
        return json.loads(self(*words, "--json"))

    def __call__(self, *words: str | Path) -> str:
        """What a command prints.

        Raises:
            RuntimeError: if it fails for another reason than documents that did.
        """
        ended = subprocess.run(
            [sys.executable, "-m", "batcher", *map(str, words)],
            env=self._env, cwd=ROOT, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if ended.returncode not in (0, 1):
            raise RuntimeError(f"batcher {' '.join(map(str, words))}: {ended.stderr}")
        return ended.stdout


@contextmanager
def simulator(case: Case, folder: Path) -> Iterator[dict[str, str]]:
    """A simulated vendor for a case; the variables that lead there."""
    options = ["--latency-scale", "0"]
    if case.faults:
        script = folder / "faults.toml"
        script.write_text(case.faults)
        options += ["--faults", str(script)]
    with subprocess.Popen(
        [sys.executable, "-m", "batcher", "simulate", *options],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    ) as process:  # fmt: skip
        try:
            assert process.stdout is not None
            exported = [process.stdout.readline().split()[1:] for _ in range(5)]
            env = dict(pair.split("=", 1) for pairs in exported for pair in pairs)
            _teach(env["ANTHROPIC_BASE_URL"], case)
            yield env
        finally:
            process.terminate()


def _teach(root: str, case: Case) -> None:
    """Make the simulator give the known answers of a corpus."""
    if case.golden is None:
        return
    answers = []
    for line in case.golden.read_text().splitlines():
        row = json.loads(line)
        text = json.dumps((case.docs.parent / row["file"]).read_text().strip(), ensure_ascii=False)[1:-1]
        answers.append((text, json.dumps(_answer(row), separators=(",", ":"), ensure_ascii=False)))
    body = json.dumps({"answers": sorted(answers, key=lambda pair: -len(pair[0]))}).encode()
    request = urllib.request.Request(f"{root}/_config", body, {"content-type": "application/json"})
    with urllib.request.urlopen(request) as response:
        response.read()


def _answer(row: dict[str, Any]) -> dict[str, Any]:
    if "label" in row:
        return {"label": row["label"]}
    fields = row["fields"].items()
    return {name: value[0] if isinstance(value, list) else value for name, value in fields}


def measure(case: Case, model: str, user: User, limit: int | None = None) -> list[Figure]:
    """Plan a case and run it, first a part and then the rest."""
    request = [*case.request, "--model", model, *(["--limit", str(limit)] if limit else [])]
    blind = user.json("plan", *request)
    golden = user.json("plan", *request, "--golden", case.golden) if case.golden else None
    total = blind["items"]["new"]
    first = min(max(total // 4, FIRST.start), FIRST.stop - 1)
    pilot = user.json("submit", *case.request, "--model", model, "--limit", str(first), "--yes")
    informed = user.json("plan", *request)
    rest = user.json("submit", *request, "--yes")
    actual = pilot["cost_usd"] + rest["cost_usd"]

    def figure(knows: str, plan: Any, cost: float, judged: bool) -> Figure:
        chosen = plan["chosen"]
        source = chosen["evidence"]["output_from"]
        return Figure(case, model, plan["items"]["new"], knows, source, chosen["likely_usd"], cost, judged)

    figures = [figure("blind", blind, actual, case.judge_blind)]
    if golden is not None:
        figures.append(figure("golden", golden, actual, judged=True))
    return [*figures, figure(f"after {first}", informed, rest["cost_usd"], judged=True)]


def simulated(cases: Sequence[Case], models: Sequence[str], scratch: Path) -> Iterator[Figure]:
    """The figures of all cases on all models."""
    for number, case in enumerate(cases):
        for model in models:
            folder = scratch / f"{number}-{model.replace('@', '-')}"
            folder.mkdir()
            with simulator(case, folder) as env:
                user = User(folder / "home", env, CONFIG.format(model=model))
                yield from measure(case, model, user)


def local(count: int, scratch: Path) -> Iterator[Figure]:
    """The figures of a real model on this machine, which is given prices."""
    weights = Path(os.environ.get("BATCHER_HOME") or Path.home() / ".local" / "share" / "batcher") / "models"
    if not any(weights.glob("*.gguf")):
        sys.exit(f"There are no weights in {weights}. Fetch them with: batcher models pull {LOCAL_MODEL}")
    loans = EXAMPLES / "loan_agreements"
    config = f'[models."{LOCAL_MODEL}"]\n{LOCAL_PRICES}'
    for task in ("enrichment", "summarization"):
        home = scratch / f"local-{task}"
        # What times out on a busy machine is booked at its worst, which is not the model's doing.
        user = User(home, {"BATCHER_CALL_TIMEOUT_S": "900"}, config)
        (home / "models").symlink_to(weights)
        case = Case("loan_agreements", loans / "docs", task, judge_blind=False)
        yield from measure(case, LOCAL_MODEL, user, limit=count)


def show(figure: Figure) -> None:
    """Print a line."""
    verdict = "MISSED" if figure.missed else "" if figure.judged else "not judged"
    case = figure.case
    answers = "known" if case.golden else "real" if figure.model == LOCAL_MODEL else "made up"
    print(
        f"{case.name:<18} {case.task:<14} {figure.model:<22} {figure.documents:>5} {answers:<8}"
        f" {figure.knows:<9} {figure.source:<15} {figure.likely:>10.6f} {figure.actual:>10.6f}"
        f" {figure.error:>+7.1%}  {verdict}".rstrip(),
        flush=True,
    )


def main(arguments: argparse.Namespace) -> int:
    """Measure, print, and say whether every judged figure is within the bar."""
    print(
        f"{'corpus':<18} {'task':<14} {'model':<22} {'docs':>5} {'answers':<8} {'plan':<9}"
        f" {'output known by':<15} {'likely $':>10} {'actual $':>10} {'error':>7}"
    )
    missed = judged = 0
    with tempfile.TemporaryDirectory(prefix="plan-accuracy-") as folder:
        scratch = Path(folder)
        cases = example_cases()
        if arguments.corpora:
            cases += further_cases(arguments.corpora, scratch)
        if arguments.cases:
            cases = [case for case in cases if arguments.cases in f"{case.name} {case.task}"]
        figures = (
            local(arguments.local, scratch)
            if arguments.local
            else simulated(cases, arguments.models, scratch)
        )
        for figure in figures:
            show(figure)
            missed += figure.missed
            judged += figure.judged
    print(f"\n{judged - missed} of {judged} judged figures are within {BAR:.0%} of the actual cost.")
    return 1 if missed else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", type=lambda text: text.split(","), default=list(MODELS))
    parser.add_argument(
        "--corpora", type=Path, help="a folder of further corpora: docs and golden.jsonl each"
    )
    parser.add_argument("--cases", help="only those whose corpus and task have this text")
    parser.add_argument("--local", type=int, metavar="N", help="the model on this machine, on N documents")
    sys.exit(main(parser.parse_args()))

"""Holds the house rules of the layout: who may import whom, how long things may be, what they may be called.

Every rule is a function from one module to its offences, so that the same function that finds nothing in the
project can be shown to find something in a counter-example.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("batcher", "workers", "jobs", "tests", "benchmarks", "examples")

FLOORS: tuple[tuple[str, ...], ...] = (
    ("domain", "money", "errors", "durations", "statistics", "settings_tables", "processes"),
    ("settings",),
    ("store", "tasks", "catalog", "simulator"),
    ("providers", "limits", "budget", "alerts", "routing", "quality", "documents", "export"),
    ("planning",),
    ("engine",),
    ("dispatch",),
    ("runtime",),
    ("cli", "workers"),
)
"""From the ground up. A package imports from the floors below its own; the ground floor is one package."""

FLOOR_OF = {name: floor for floor, names in enumerate(FLOORS) for name in names}
GROUND = frozenset(FLOORS[0])
VENDOR_SDKS = frozenset(
    {
        "openai",
        "anthropic",
        "together",
        "groq",
        "mistralai",
        "google",
        "xllamacpp",
        "cohere",
        "boto3",
        "litellm",
    }
)
QUEUES = frozenset({"celery", "kombu"})
MOST_FILE_LINES = 400
MOST_FUNCTION_LINES = 60


@dataclass(frozen=True)
class Module:
    """One Python file: its path from the project's root, with slashes, and its text."""

    path: str
    source: str

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.source, self.path)

    @property
    def parts(self) -> tuple[str, ...]:
        return PurePosixPath(self.path).with_suffix("").parts

    @property
    def package(self) -> tuple[str, ...]:
        return self.parts[:-1]

    @property
    def room(self) -> str | None:
        """``store`` for batcher/store/leases.py, ``settings`` for batcher/settings.py; None elsewhere."""
        if self.parts[0] == "workers":
            return "workers"
        if self.parts == ("batcher", "__main__"):
            return "cli"
        if self.parts[0] == "batcher" and self.parts != ("batcher", "__init__"):
            return self.parts[1]
        return None

    @cached_property
    def imports(self) -> tuple[str, ...]:
        """Every dotted name imported anywhere in the module, also inside functions and for type checking."""
        return tuple(self._imports())

    def _imports(self) -> Iterator[str]:
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                above = self.package[: len(self.package) - node.level + 1] if node.level else ()
                base = ".".join((*above, *filter(None, [node.module])))
                yield from (f"{base}.{alias.name}" for alias in node.names)
            elif _called(node) in {"import_module", "__import__"}:
                name = node.args[0] if isinstance(node, ast.Call) and node.args else None
                if isinstance(name, ast.Constant) and isinstance(name.value, str):
                    yield name.value


def _called(node: ast.AST) -> str:
    if not isinstance(node, ast.Call):
        return ""
    function = node.func
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def imports_go_down(module: Module) -> Iterator[str]:
    if module.room is None:
        return
    if module.room not in FLOOR_OF:
        yield f"{module.room} stands on no floor of the house"
        return
    for name in module.imports:
        parts = name.split(".")
        if parts[0] == "jobs" or (parts[0] == "workers" and module.room != "workers"):
            yield f"imports {name}: what users edit and what processes run are not known here"
        if parts[0] != "batcher" or len(parts) == 1 or parts[1] not in FLOOR_OF:
            continue
        target = parts[1]
        same = target == module.room or {target, module.room} <= GROUND
        if not same and FLOOR_OF[target] >= FLOOR_OF[module.room]:
            yield f"{module.room} imports {name}, which does not stand below it"


def jobs_know_tasks_only(module: Module) -> Iterator[str]:
    if module.parts[0] != "jobs":
        return
    for name in module.imports:
        top = name.split(".")[0]
        if top in {"batcher", "workers"} and not f"{name}.".startswith("batcher.tasks."):
            yield f"imports {name}; jobs know batcher.tasks and nothing else of batcher"


def the_simulator_stands_alone(module: Module) -> Iterator[str]:
    """Its bill is held against the ledger: arithmetic that they shared would hide its own mistakes."""
    if module.room != "simulator":
        return
    for name in module.imports:
        if name.split(".")[0] in ROOMS and not f"{name}.".startswith(
            ("batcher.simulator.", "batcher.errors.")
        ):
            yield f"imports {name}; the simulator knows batcher.errors and nothing else of batcher"


def vendor_sdks_stay_in_providers(module: Module) -> Iterator[str]:
    if module.parts[0] not in {"batcher", "workers", "jobs"} or module.room == "providers":
        return
    yield from (f"imports {name}" for name in module.imports if name.split(".")[0] in VENDOR_SDKS)


def celery_stays_in_dispatch_and_workers(module: Module) -> Iterator[str]:
    if module.parts[0] not in {"batcher", "jobs"} or module.room == "dispatch":
        return
    yield from (f"imports {name}" for name in module.imports if name.split(".")[0] in QUEUES)


def settings_alone_read_the_environment(module: Module) -> Iterator[str]:
    if module.parts[0] not in {"batcher", "workers", "jobs"} or module.room == "settings":
        return
    reading = {"environ", "environb", "getenv", "getenvb"}
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Attribute) and node.attr in reading:
            yield f"line {node.lineno} reads os.{node.attr}"
    yield from (f"imports {name}" for name in module.imports if name.removeprefix("os.") in reading)


def files_are_short(module: Module) -> Iterator[str]:
    lines = len(module.source.splitlines())
    if lines > MOST_FILE_LINES:
        yield f"has {lines} lines, {MOST_FILE_LINES} are the most"


def functions_are_short(module: Module) -> Iterator[str]:
    for node in ast.walk(module.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > MOST_FUNCTION_LINES:
                yield f"{node.name} has {lines} lines, {MOST_FUNCTION_LINES} are the most"


def names_say_what_is_inside(module: Module) -> Iterator[str]:
    vague = {"util", "utils", "helper", "helpers"}
    for part in module.parts:
        if vague & set(part.lower().split("_")):
            yield f"is named {part!r}, which says nothing"


Rule = Callable[[Module], Iterator[str]]
RULES: tuple[Rule, ...] = (
    imports_go_down,
    jobs_know_tasks_only,
    the_simulator_stands_alone,
    vendor_sdks_stay_in_providers,
    celery_stays_in_dispatch_and_workers,
    settings_alone_read_the_environment,
    files_are_short,
    functions_are_short,
    names_say_what_is_inside,
)


def project_modules() -> list[Module]:
    found = []
    for room in ROOMS:
        for path in sorted((ROOT / room).rglob("*.py")):
            source = path.read_text(encoding="utf-8")
            found.append(Module(path.relative_to(ROOT).as_posix(), source))
    return found


@pytest.fixture(scope="module")
def modules() -> list[Module]:
    return project_modules()


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_project_keeps_the_rule(rule: Rule, modules: list[Module]) -> None:
    offences = [f"{module.path}: {offence}" for module in modules for offence in rule(module)]
    assert not offences, "\n".join(offences)


def test_the_rules_see_the_whole_project(modules: list[Module]) -> None:
    seen = {module.path for module in modules}
    assert {"batcher/domain.py", "batcher/engine/engine.py", "tests/unit/test_architecture.py"} <= seen
    assert {module.room for module in modules} >= {"engine", "store", "tasks", "settings"}


_LONG_FILE = "x = 1\n" * (MOST_FILE_LINES + 1)
_LONG_FUNCTION = "class C:\n    async def f():\n" + "        x = 1\n" * MOST_FUNCTION_LINES


@pytest.mark.parametrize(
    ("rule", "path", "source"),
    [
        (imports_go_down, "batcher/store/a.py", "from batcher.engine.engine import Engine"),
        (imports_go_down, "batcher/store/a.py", "import batcher.tasks.spec"),
        (imports_go_down, "batcher/store/a.py", "from batcher import runtime"),
        (imports_go_down, "batcher/store/a.py", "from ..limits import base"),
        (imports_go_down, "batcher/limits/a.py", "def f():\n    from batcher.budget.ledger import Ledger"),
        (imports_go_down, "batcher/tasks/a.py", "import importlib\nimportlib.import_module('batcher.cli')"),
        (
            imports_go_down,
            "batcher/engine/a.py",
            "if TYPE_CHECKING:\n    from batcher.runtime import Runtime",
        ),
        (imports_go_down, "batcher/domain.py", "from batcher.settings import Settings"),
        (imports_go_down, "batcher/cli/a.py", "from workers.app import app"),
        (imports_go_down, "batcher/tasks/a.py", "from jobs.enrichment.task import task"),
        (imports_go_down, "workers/a.py", "from batcher.cli import main"),
        (imports_go_down, "batcher/attic/a.py", ""),
        (jobs_know_tasks_only, "jobs/own/task.py", "from batcher.domain import Usage"),
        (jobs_know_tasks_only, "jobs/own/task.py", "import batcher"),
        (jobs_know_tasks_only, "jobs/own/task.py", "import batcher.tasks_of_others"),
        (the_simulator_stands_alone, "batcher/simulator/a.py", "from batcher.money import cost_nusd"),
        (the_simulator_stands_alone, "batcher/simulator/a.py", "def f():\n    import batcher.catalog.models"),
        (the_simulator_stands_alone, "batcher/simulator/a.py", "from batcher import domain"),
        (vendor_sdks_stay_in_providers, "batcher/engine/a.py", "def f():\n    import openai"),
        (vendor_sdks_stay_in_providers, "batcher/cli/a.py", "from anthropic import AsyncAnthropic"),
        (vendor_sdks_stay_in_providers, "jobs/own/task.py", "import together.types as t"),
        (celery_stays_in_dispatch_and_workers, "batcher/engine/a.py", "from celery import Celery"),
        (celery_stays_in_dispatch_and_workers, "jobs/own/task.py", "import kombu.pools"),
        (settings_alone_read_the_environment, "batcher/cli/a.py", "import os\nx = os.environ['HOME']"),
        (settings_alone_read_the_environment, "workers/a.py", "import os\nx = os.getenv('HOME')"),
        (settings_alone_read_the_environment, "jobs/a.py", "from os import environ as e"),
        (files_are_short, "batcher/a.py", _LONG_FILE),
        (functions_are_short, "tests/a.py", _LONG_FUNCTION),
        (names_say_what_is_inside, "batcher/store/utils.py", ""),
        (names_say_what_is_inside, "batcher/helpers/text.py", ""),
        (names_say_what_is_inside, "tests/support/date_helpers.py", ""),
    ],
)
def test_the_rule_can_fail(rule: Rule, path: str, source: str) -> None:
    assert list(rule(Module(path, source)))


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("batcher/engine/a.py", "from batcher.store.leases import renew\nfrom batcher.engine import lane"),
        ("batcher/money.py", "from batcher.domain import Usage\nfrom batcher import __version__"),
        (
            "batcher/simulator/a.py",
            "from batcher.errors import UsageError\nfrom batcher.simulator import bill",
        ),
        ("batcher/settings.py", "import os\nhome = os.environ['HOME']"),
        ("batcher/providers/a.py", "import openai"),
        ("batcher/dispatch/a.py", "from celery import Celery\nfrom batcher.engine import engine"),
        ("workers/a.py", "import celery\nfrom workers import loop\nfrom batcher.runtime import Runtime"),
        ("jobs/own/task.py", "from batcher.tasks import Task\nfrom batcher.tasks.scorers import exact"),
        ("benchmarks/a.py", "import openai, celery, os\nos.environ.copy()"),
        ("batcher/errors.py", "x = 1\n" * MOST_FILE_LINES),
        ("tests/a.py", "def f():\n" + "    x = 1\n" * (MOST_FUNCTION_LINES - 1)),
    ],
)
def test_the_rules_allow_what_is_allowed(path: str, source: str) -> None:
    assert [offence for rule in RULES for offence in rule(Module(path, source))] == []

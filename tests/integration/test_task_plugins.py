"""Tasks that come from installed packages, in a process of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import orjson

PROBE = """
import orjson, sys
from batcher.errors import TaskError
from batcher.tasks.registry import list_tasks, load_task

def tried(ref):
    try:
        return load_task(ref).spec().instructions
    except TaskError as error:
        return str(error)

print(orjson.dumps({
    "list": {info.name: [info.origin, info.error] for info in list_tasks()},
    "loaded": {name: tried(name) for name in ("plugged", "broken", "wrong", "plagged")},
    "fingerprint": load_task("enrichment").spec().fingerprint.hex(),
}).decode())
"""
PLUGIN = """
from pathlib import Path
from batcher.tasks import Task
SCHEMA = {"type": "object", "properties": {"a": {"type": "null"}}, "additionalProperties": False}
task = Task(name="plugged", version=1, prompt=Path("words.md"), output=lambda params: SCHEMA, scorer=max)
"""


def _install(site: Path) -> None:
    package, info = site / "some_plugin", site / "some_plugin-1.2.dist-info"
    package.mkdir(parents=True)
    info.mkdir()
    (package / "__init__.py").write_text("", encoding="utf-8")
    (package / "good.py").write_text(PLUGIN, encoding="utf-8")
    (package / "words.md").write_text("Plugged in.", encoding="utf-8")
    (package / "bad.py").write_text("x = 1\nraise RuntimeError('no licence')\n", encoding="utf-8")
    (info / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: some-plugin\nVersion: 1.2\n", encoding="utf-8"
    )
    (info / "entry_points.txt").write_text(
        "[batcher.tasks]\nplugged = some_plugin.good:task\nbroken = some_plugin.bad:task\n"
        "wrong = some_plugin.good:SCHEMA\n",
        encoding="utf-8",
    )


def _probe(site: Path, hash_seed: str) -> dict[str, dict[str, object]]:
    environment = {**os.environ, "PYTHONPATH": str(site), "PYTHONHASHSEED": hash_seed}
    run = subprocess.run(
        [sys.executable, "-c", PROBE], env=environment, capture_output=True, timeout=60, check=True, text=True
    )
    result: dict[str, dict[str, object]] = orjson.loads(run.stdout)
    return result


def test_an_installed_package_brings_tasks_and_a_broken_one_harms_no_other(tmp_path: Path) -> None:
    _install(tmp_path)
    told = _probe(tmp_path, "1")
    bad = tmp_path / "some_plugin" / "bad.py"
    assert told["list"]["plugged"] == ["some-plugin 1.2", ""]
    assert f"{bad}, line 2: RuntimeError: no licence" in str(told["list"]["broken"])
    assert told["list"]["enrichment"] == [told["list"]["extraction"][0], ""]  # type: ignore[index]
    assert told["loaded"]["plugged"] == "Plugged in."
    assert f"{bad}, line 2: RuntimeError: no licence" in str(told["loaded"]["broken"])
    assert "is no Task" in str(told["loaded"]["wrong"])
    assert "Did you mean plugged" in str(told["loaded"]["plagged"])


def test_two_packages_with_one_task_name_are_told_apart(tmp_path: Path) -> None:
    _install(tmp_path)
    info = tmp_path / "rival-3.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: rival\nVersion: 3\n", encoding="utf-8")
    (info / "entry_points.txt").write_text("[batcher.tasks]\nplugged = rival:task\n", encoding="utf-8")
    told = str(_probe(tmp_path, "1")["loaded"]["plugged"])
    assert "some-plugin 1.2" in told
    assert "rival 3" in told


def test_fingerprints_are_the_same_in_every_process(tmp_path: Path) -> None:
    _install(tmp_path)
    assert _probe(tmp_path, "1")["fingerprint"] == _probe(tmp_path, "2")["fingerprint"]


def test_importing_batcher_tasks_brings_no_heavy_library() -> None:
    code = "import sys, batcher.tasks; print([m for m in ('jinja2', 'jsonschema_rs') if m in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60, check=True, text=True)
    assert run.stdout.strip() == "[]"

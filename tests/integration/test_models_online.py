"""``batcher models check --online`` against a price list served over loopback."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from batcher.catalog.models import load_catalog
from batcher.cli.models import models
from batcher.errors import DependencyError
from batcher.settings import load_settings

PRICES = [
    {
        "id": "openai",
        "name": "OpenAI",
        "api_pattern": "https://api.openai.com",
        "models": [
            {
                "id": "gpt-4o",
                "match": {"equals": "gpt-4o-2024-11-20"},
                "prices": {"input_mtok": 2.75, "output_mtok": 11, "cache_read_mtok": 1.5},
            }
        ],
    }
]


class _Answers(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = {"/prices.json": json.dumps(PRICES), "/other.json": '{"not": "prices"}'}.get(self.path)
        self.send_response(200 if body else 404)
        self.end_headers()
        self.wfile.write((body or "").encode())

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it
        return


@pytest.fixture
def server() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Answers) as http:
        thread = threading.Thread(target=http.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{http.server_port}"
        http.shutdown()
        thread.join()


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "batcher.toml"
    path.write_text("# mine\n", encoding="utf-8")
    return path


def run(*arguments: str) -> Result:
    return CliRunner().invoke(models, arguments)


def test_check_and_refresh_use_the_prices_served(server: str, config: Path) -> None:
    url = f"{server}/prices.json"
    checked = run("check", "--online", "--url", url)
    assert checked.exit_code == 1
    assert "gpt-4o: input is 2.5 $/M here, 2.75 $/M there" in checked.output
    assert run("refresh", "--online", "--url", url).exit_code == 0
    assert config.read_text(encoding="utf-8").startswith("# mine\n")
    prices = load_catalog(load_settings(config)).model("gpt-4o").prices
    assert (prices.input_nusd, prices.cached_nusd, prices.batch_percent) == (
        2_750_000_000,
        1_500_000_000,
        100,
    )


@pytest.mark.parametrize("path", ["/missing.json", "/other.json"])
def test_what_is_no_price_list_is_a_dependency_error(server: str, config: Path, path: str) -> None:
    error = run("check", "--online", "--url", server + path).exception
    assert isinstance(error, DependencyError)
    assert "--online" in str(error)


def test_a_server_that_is_not_there_is_a_dependency_error(config: Path) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Answers) as http:
        url = f"http://127.0.0.1:{http.server_port}/prices.json"
    error = run("refresh", "--online", "--url", url).exception
    assert isinstance(error, DependencyError)
    assert "127.0.0.1" in str(error)


def test_url_goes_with_online(config: Path) -> None:
    assert run("check", "--url", "http://127.0.0.1:9/x").exit_code == 2

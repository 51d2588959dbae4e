from __future__ import annotations

import json
import re
import tomllib
from decimal import Decimal
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from batcher.catalog.comparison import write_prices
from batcher.catalog.models import load_catalog
from batcher.catalog.vendor_prices import PriceList
from batcher.cli import docs
from batcher.cli.configuration import render_toml
from batcher.cli.init import init
from batcher.cli.models import models
from batcher.errors import ConfigurationError, UsageError
from batcher.settings import Settings, load_settings

DOCS = Path(__file__).parents[3] / "docs"

CONFIG = """\
# our settings
concurrency = 8  # a small machine

[models.gpt-4o]
rpm = 9000  # asked for it
input = 9.99
output = 10.0
cached_input = 1.25

[models.mine]
provider = "openai"
id = "gpt-nobody-knows"
input = 1.0
output = 2.0
context = 1000
"""


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "batcher.toml"
    path.write_text(CONFIG, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("BATCHER_CONFIG", raising=False)
    for name in ("OPENAI_API_KEY", "TOGETHER_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    return path


def run(*arguments: str) -> Result:
    return CliRunner().invoke(models, arguments)


def test_list_says_whether_a_key_is_set(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-sesame")
    result = run("list")
    assert result.exit_code == 0
    rows = {line.split()[0]: line for line in result.output.splitlines()}
    assert re.search(r"economy +together +0\.88 +0\.88 +131,072 .* no +2026", rows["llama-3.3-70b@together"])
    assert re.search(r"economy +openai +0\.15 +0\.6 +128,000 .*vision +yes ", rows["gpt-4o-mini"])
    assert "not needed" in rows["smollm2-135m"]
    assert rows["mine"].endswith("no date")
    assert "sesame" not in result.output


def test_list_of_a_tier_as_json(config: Path) -> None:
    result = run("list", "--tier", "economy", "--json")
    rows = json.loads(result.output)
    assert [row["name"] for row in rows] == list(load_catalog(Settings()).tiers["economy"])
    assert rows[1]["input_usd"] == 0.15
    assert rows[1]["key_present"] is False
    assert rows[0]["key_env"] == "TOGETHER_API_KEY"
    assert rows[0]["source"].startswith("genai-prices")


def test_list_reports_models_without_a_price(config: Path) -> None:
    config.write_text('[models.mine]\nprovider = "openai"\nid = "m"\ncontext = 1\n', encoding="utf-8")
    assert "mine has no price" in run("list").stderr


def test_check_finds_the_differences_and_exits_with_one(config: Path) -> None:
    result = run("check")
    assert result.exit_code == 1
    assert "gpt-4o: input is 9.99 $/M here, 2.5 $/M there" in result.output
    assert "mine: genai-prices" in result.output
    assert "mine: its price carries no date" in result.output
    assert "1 differ" in result.output


def test_check_is_silent_about_discounts_that_are_not_assumed(config: Path) -> None:
    config.write_text("[models.gpt-4o]\ninput = 2.5\noutput = 10\nas_of = '2000-01-01'\n", encoding="utf-8")
    result = run("check", "--json")
    report = json.loads(result.output)
    assert result.exit_code == 0
    assert report["differences"] == []
    assert report["stale"] == [{"model": "gpt-4o", "as_of": "2000-01-01"}]


@pytest.mark.parametrize("field", ["cached_input", "cache_write", "batch_percent"])
def test_check_finds_discounts_that_are_too_large(config: Path, field: str) -> None:
    config.write_text(f"[models.claude-haiku-4-5]\n{field} = 0\n", encoding="utf-8")
    report = json.loads(run("check", "--json").output)
    assert [found["field"] for found in report["differences"]] == [field]


def test_refresh_writes_the_price_and_keeps_the_rest(config: Path) -> None:
    assert run("refresh").exit_code == 0
    text = config.read_text(encoding="utf-8")
    for kept in ("# our settings", "# a small machine", "rpm = 9000  # asked for it", "[models.mine]"):
        assert kept in text
    model = load_catalog(load_settings(config)).model("gpt-4o")
    assert model.prices == load_catalog(Settings()).model("gpt-4o").prices
    assert model.limits.rpm == 9000
    assert run("check").exit_code == 0
    assert "Nothing to refresh" in run("refresh").output


def test_refresh_adds_a_table_where_there_is_none(config: Path) -> None:
    config.write_text("# nothing yet\n", encoding="utf-8")
    write_prices(config, {"llama-3.3-70b@groq": {"input": "0.5", "source": '"x"'}})
    data = tomllib.loads(config.read_text(encoding="utf-8"), parse_float=Decimal)
    assert data["models"] == {"llama-3.3-70b@groq": {"input": Decimal("0.5"), "source": "x"}}
    assert config.read_text(encoding="utf-8").startswith("# nothing yet\n")


def test_refresh_dry_run_prints_lines_that_can_be_pasted(config: Path) -> None:
    before = config.read_text(encoding="utf-8")
    result = run("refresh", "--dry-run")
    assert config.read_text(encoding="utf-8") == before
    pasted = tomllib.loads(result.output, parse_float=Decimal)
    assert pasted["models"]["gpt-4o"]["input"] == Decimal("2.5")
    assert pasted["models"]["gpt-4o"]["batch_percent"] == 50


def test_refresh_without_a_file_says_how_to_make_one(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    moved = config.rename(config.with_name("other.toml"))
    monkeypatch.setenv("BATCHER_HOME", str(config.parent / "home"))
    monkeypatch.setenv("BATCHER_MODELS", json.dumps({"gpt-4o": {"input": 1, "output": 1}}))
    error = run("refresh").exception
    assert isinstance(error, ConfigurationError)
    assert "batcher init" in str(error)
    assert run("refresh", "--file", str(moved)).exit_code == 0
    assert "batch_percent = 50" in moved.read_text(encoding="utf-8")


def test_prices_of_long_calls_count_where_they_can_be_reached() -> None:
    prices = PriceList.bundled()
    capped, whole, unknown_length = (
        prices.find("anthropic", "claude-haiku-5-5", context=context) for context in (100_000, 100_001, None)
    )
    assert capped is not None
    assert whole == unknown_length
    assert whole is not None
    assert capped.input == whole.input == Decimal("0.1")
    assert (capped.long, capped.long_from) == ({}, 0)
    assert (whole.long["input"], whole.long_from) == (Decimal("0.5"), 100_000)


def test_of_several_steps_the_dearest_counts_from_the_first_on() -> None:
    listed = PriceList.bundled().find("openrouter", "qwen/qwen3-coder-flash")
    assert listed is not None
    assert listed.long_from == 32_000
    assert listed.long["output"] == Decimal("2.6")


def test_a_price_for_the_request_itself_is_known() -> None:
    listed = PriceList.bundled().find("perplexity", "sonar")
    assert listed is not None
    assert listed.per_request == Decimal("0.012")


@pytest.mark.parametrize(
    ("lines", "fields"),
    [
        ("long_input = 0.11\n", ["long_input"]),
        ("long_from = 300_000\n", ["long_input", "long_output", "long_cached_input", "long_cache_write"]),
        ("long_output = 9.0\nlong_from = 1000\n", []),
    ],
)
def test_check_finds_long_calls_that_are_too_cheap(config: Path, lines: str, fields: list[str]) -> None:
    config.write_text(f"[models.gpt-6-luna]\n{lines}", encoding="utf-8")
    report = json.loads(run("check", "--json").output)
    assert [found["field"] for found in report["differences"]] == fields
    if fields:
        assert run("refresh").exit_code == 0
        assert run("check").exit_code == 0
        mended = load_catalog(load_settings(config)).model("gpt-6-luna").prices
        assert mended == load_catalog(Settings()).model("gpt-6-luna").prices


def test_check_holds_the_share_of_the_list_that_an_account_pays(config: Path) -> None:
    config.write_text("[providers.openai]\nprice_percent = 110\n", encoding="utf-8")
    assert json.loads(run("check", "--json").output)["differences"] == []
    prices = load_catalog(load_settings(config)).model("gpt-6-luna").prices
    assert (prices.input_nusd, prices.long) == (110_000_000, prices.charged(272_001))
    assert prices.charged(272_001).output_nusd == 825_000_000


def test_a_batch_rate_that_is_not_known_is_no_discount() -> None:
    together = PriceList.bundled().find("together", "meta-llama/Llama-3.3-70B-Instruct-Turbo")
    assert together is not None
    assert together.batch_percent == 100
    assert PriceList.bundled().find("vllm", "gpt-4o") is None
    assert PriceList.bundled().find("openai", "no such model") is None


def test_an_announced_price_is_named() -> None:
    listed = PriceList.bundled().find("gemini", "gemini-3.8-flash")
    assert listed is not None
    assert listed.changes_on is None or listed.changes_on.isoformat() == "2027-01-01"


def test_init_writes_a_file_that_changes_nothing(config: Path) -> None:
    target = config.with_name("new.toml")
    result = CliRunner().invoke(init, [str(target)])
    assert result.exit_code == 0
    assert load_settings(target).model_dump() == Settings().model_dump()
    assert tomllib.loads(target.read_text(encoding="utf-8")) == {}


def test_init_replaces_only_by_force(config: Path) -> None:
    assert isinstance(CliRunner().invoke(init, []).exception, UsageError)
    assert config.read_text(encoding="utf-8") == CONFIG
    assert CliRunner().invoke(init, ["--force", str(config.parent)]).exit_code == 0
    assert config.read_text(encoding="utf-8") == render_toml()


def test_init_says_where_it_cannot_write(tmp_path: Path) -> None:
    error = CliRunner().invoke(init, [str(tmp_path / "no" / "folder.toml")]).exception
    assert isinstance(error, ConfigurationError)


def test_every_line_of_init_works_when_it_is_uncommented(tmp_path: Path) -> None:
    lines = render_toml().splitlines()
    code = [line.removeprefix("# ") for line in lines if re.match(r"# (\[|[\w-]+ = )", line)]
    path = tmp_path / "batcher.toml"
    path.write_text("\n".join(code), encoding="utf-8")
    settings = load_settings(path)
    assert settings.concurrency == 64
    catalog = load_catalog(settings)
    assert catalog.tiers["local"][0] == "my-small-model"
    assert catalog.model("my-llama").provider == "gpu1"
    named = {line.split(" = ")[0] for line in code}
    tables = {"tiers", "providers", "models", "local_models", "alert_rules", "quality", "routing"}
    assert {f"[{name}]" for name in ("quality", "routing", "alert_rules")} <= named
    assert set(Settings.model_fields) - named == tables


def test_the_manual_is_up_to_date() -> None:
    """If this fails, run: python -m batcher.cli.docs"""
    assert (DOCS / "configuration.md").read_text(encoding="utf-8") == docs.render_configuration()
    page = (DOCS / "models.md").read_text(encoding="utf-8")
    assert page == docs.render_models(page)


def test_the_manual_writer_writes_it(tmp_path: Path) -> None:
    page = (DOCS / "models.md").read_text(encoding="utf-8")
    (tmp_path / "models.md").write_text(page.replace("gpt-4o-mini", "gpt-old"), encoding="utf-8")
    assert CliRunner().invoke(docs.main, [str(tmp_path)]).exit_code == 0
    assert "gpt-4o-mini" in (tmp_path / "models.md").read_text(encoding="utf-8")
    assert (tmp_path / "configuration.md").is_file()
    with pytest.raises(ValueError, match="needs the lines"):
        docs.render_models("# Models")

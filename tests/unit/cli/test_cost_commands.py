"""``batcher costs``, ``breakeven`` and ``advise`` in this process: figures, tables and mistakes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import pytest

from batcher.cli import main
from batcher.cli.advise import KINDS
from batcher.cli.cost_arguments import read_dollars, read_mix, read_share, volume_per
from batcher.planning.article_rules import TaskType

ARTICLE_PRICES = [
    "GPT-4o=2.50/10.00",
    "GPT-4o mini=0.15/0.60",
    "Claude Sonnet=3.00/15.00",
    "Claude Haiku=0.80/4.00",
    "Gemini Flash=0.10/0.40",
    "Mistral Small=0.10/0.30",
    "Llama 70B=$0.88/$0.88",
    "Llama 8B=0.18/0.18",
]

OWN_ENDPOINT = """
[providers.gpu]
base_url = "http://gpu1:8000/v1"

[models.our-llama]
provider = "gpu"
id = "Llama-3.3-70B"
input = 0
output = 0
context = 64_000
abilities = ["schema"]
"""


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for variable in ("OPENAI_API_KEY", "TOGETHER_API_KEY"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("BATCHER_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def said(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> str:
    assert main(list(words)) == code
    return capsys.readouterr().out


def asked(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> Any:
    return json.loads(said(capsys, *words, "--json", code=code))


def with_prices(*prices: str) -> list[str]:
    return [word for price in prices for word in ("--price", price)]


def test_the_monthly_table_at_prices_given_by_hand(capsys: pytest.CaptureFixture[str]) -> None:
    found = asked(capsys, "costs", *with_prices(*ARTICLE_PRICES))
    assert (found["input_tokens"], found["output_tokens"]) == (1_500, 500)
    assert found["requests_per_month"] == 1_000_000
    assert {line["name"]: line["month_usd"] for line in found["models"]} == {
        "Mistral Small": 300,
        "Gemini Flash": 350,
        "Llama 8B": 360,
        "GPT-4o mini": 525,
        "Llama 70B": 1_760,
        "Claude Haiku": 3_200,
        "GPT-4o": 8_750,
        "Claude Sonnet": 12_000,
    }


def test_the_cost_per_correct_answer(capsys: pytest.CaptureFixture[str]) -> None:
    given = [
        ("GPT-4o", "10", "0.92"),
        ("Claude", "15", "94%"),
        ("Flash", "0.30", ".86"),
        ("L", "0.60", "0.88"),
    ]
    prices = with_prices(*(f"{name}=0/{price}" for name, price, _ in given))
    shares = [word for name, _, share in given for word in ("--accuracy", f"{name}={share}")]
    tokens = ["--input-tokens", "0", "--output-tokens", "1000"]
    found = asked(capsys, "costs", *tokens, *prices, *shares)
    correct = {line["name"]: line["correct_usd"] for line in found["models"]}
    assert [round(correct["GPT-4o"], 4), round(correct["Claude"], 4)] == [0.0109, 0.0160]
    assert [round(correct["Flash"], 5), round(correct["L"], 5)] == [0.00035, 0.00068]
    screen = said(capsys, "costs", *tokens, *prices, *shares)
    assert "PER CORRECT ANSWER" in screen
    assert "92.0 % as given" in screen


def test_a_routed_mix(capsys: pytest.CaptureFixture[str]) -> None:
    words = [*with_prices(*ARTICLE_PRICES[:3]), "--input-tokens", "1000", "--output-tokens", "1000"]
    mixes = ["--mix", "GPT-4o mini:70,gpt-4o:30", "--mix", "mini:70%,sonnet:30%", "--against", "GPT-4o"]
    plain = asked(capsys, "costs", *words, *mixes)["mixes"]
    assert plain[0]["saved_share"] == pytest.approx(0.658)
    assert plain[0]["against"] == "GPT-4o"
    routed = asked(capsys, "costs", *words, *mixes, "--router-cost", "0.0001")["mixes"]
    assert routed[0]["saved_share"] == pytest.approx(0.65)
    assert round(routed[1]["saved_share"], 2) == 0.52
    assert [part["name"] for part in routed[1]["parts"]] == ["GPT-4o mini", "Claude Sonnet"]
    screen = said(capsys, "costs", *words, *mixes)
    assert "65.8 % less than GPT-4o alone" in screen
    dearer = said(capsys, "costs", *words, "--mix", "sonnet:100", "--against", "GPT-4o")
    assert "44.0 % more than GPT-4o alone" in dearer


def test_ten_million_tokens_a_day(capsys: pytest.CaptureFixture[str]) -> None:
    [found] = asked(capsys, "costs", "--model", "gpt-4o", "--requests", "5000/day")["models"]
    assert found["day_usd"] == 43.75
    assert found["month_usd"] == pytest.approx(43.75 * 365 / 12)
    assert "$43.75" in said(capsys, "costs", "--model", "gpt-4o", "--requests", "5,000 per day")


def test_every_model_has_a_line_and_filters_add_up(capsys: pytest.CaptureFixture[str]) -> None:
    models = asked(capsys, "models", "list")
    lines = asked(capsys, "costs")["models"]
    assert {line["name"] for line in lines} == {model["name"] for model in models}
    assert [line["month_usd"] for line in lines] == sorted(line["month_usd"] for line in lines)
    words = ["--tier", "local", "--provider", "mistral", "--model", "GPT-4O", "--price", "mine=1/2"]
    few = asked(capsys, "costs", *words)["models"]
    assert {line["name"] for line in few} == {
        "smollm2-135m", "qwen2.5-coder-1.5b", "mistral-small-4", "mistral-large-3", "gpt-4o", "mine",
    }  # fmt: skip


def test_a_request_too_long_for_a_model_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["costs", "--model", "gpt-4o", "--input-tokens", "200000"]) == 0
    assert "Too long for one call of gpt-4o" in capsys.readouterr().err


def test_the_worked_break_even(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["breakeven", "--requests", "1M", "--gpu-cost", "1,460", "--throughput", "500"]
    found = asked(capsys, *words, "--tokens", "2000", "--api-price", "6.25")
    assert (found["gpus"], found["own_usd"], found["seconds_per_month"]) == (2, 2_920, 2_628_000)
    [api] = found["apis"]
    assert (api["api_usd"], api["cheaper"], api["breaks_even_at"]) == (12_500, "own", 116_800)
    same = asked(capsys, *words, "--input-tokens", "1000", "--output-tokens", "1000", "--model", "gpt-4o")
    assert [same["apis"][0][key] for key in ("name", "api_usd")] == ["gpt-4o", 12_500]
    screen = said(capsys, *words, "--tokens", "2000", "--api-price", "6.25")
    assert "2 GPUs" in screen
    assert "$12,500.00  $2,920.00  own GPUs         116,800" in screen
    assert "below 100,000 the API wins" in screen


def test_break_even_against_every_hosted_model(capsys: pytest.CaptureFixture[str]) -> None:
    apis = asked(capsys, "breakeven", "--price", "mine=50/50")["apis"]
    assert [api["name"] for api in apis] == ["mine"]
    apis = asked(capsys, "breakeven", "--busy", "0.33")["apis"]
    names = {api["name"] for api in apis}
    assert "gpt-4o" in names
    assert "smollm2-135m" not in names
    assert {api["breaks_even_at"] for api in apis if api["name"] == "gpt-4o-mini"} == {None}
    assert "never" in said(capsys, "breakeven", "--model", "gpt-4o-mini")


def test_advice_as_a_table_and_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["advise", "enrichment", "--volume", "4000/day", "--floor", "80%"]
    screen = said(capsys, *words)
    assert "4,000 a day" in screen
    assert "floor 80 %" in screen
    assert "1. llama-3.1-70b@together: batch enrichment with a floor under 85 %" in screen
    assert "more fit (--all)" in screen
    found = asked(capsys, *words)
    assert found["ranked"][0]["model"] == "llama-3.1-70b@together"
    assert found["ranked"][0]["month_usd"] == pytest.approx(0.00176 * 4_000 * 365 / 12)
    assert len(said(capsys, *words, "--all").splitlines()) > len(screen.splitlines())


def test_a_task_brings_its_kind_and_its_floor(capsys: pytest.CaptureFixture[str], home: Path) -> None:
    found = asked(capsys, "advise", "--task", "enrichment", "--volume", "4000")
    assert found["need"]["type"] == "enrichment"
    assert found["need"]["floor"] == 0.8
    assert found["ranked"][0]["model"] == "llama-3.1-70b@together"
    assert asked(capsys, "advise", "--task", "summarization")["need"]["type"] == "summarisation"
    assert asked(capsys, "advise", "summarization")["need"]["type"] == "summarisation"
    assert asked(capsys, "advise", "extraction")["need"]["schema"] is True
    assert asked(capsys, "advise", "extraction", "--output", "json")["need"]["schema"] is False
    assert list(home.iterdir()) == []


def test_privacy_and_an_endpoint_of_ones_own(capsys: pytest.CaptureFixture[str], home: Path) -> None:
    (home / "batcher.toml").write_text(OWN_ENDPOINT)
    for privacy in ("strict", "air-gapped"):
        found = asked(capsys, "advise", "extraction", "--privacy", privacy)
        assert found["ranked"][0]["model"] == "our-llama"
        assert {one["provider"] for one in found["ranked"]} == {"gpu", "local"}
        assert "privacy" in found["left_out"]["gpt-4o"]


def test_nothing_that_fits_says_why_and_exits_with_1(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["advise", "code", "--privacy", "strict", "--images"]
    screen = said(capsys, *words, code=1)
    assert "No model fits. Why not:" in screen
    assert "smollm2-135m: it sees no pictures" in screen
    assert asked(capsys, *words, code=1)["ranked"] == []


def test_the_kinds_are_those_of_the_rules() -> None:
    assert tuple(TaskType) == KINDS


@pytest.mark.parametrize(
    ("text", "per_day"),
    [
        ("4000", 4_000),
        ("4k/day", 4_000),
        ("8,000 a day", 8_000),
        ("365/month", 12),
        ("0.73M per month", 24_000),
    ],
)
def test_volumes(text: str, per_day: int) -> None:
    assert volume_per("day")(text).per_day == per_day


def test_a_bare_volume_is_per_what_the_option_says() -> None:
    assert volume_per("month")("1_000_000").per_month == 1_000_000


@pytest.mark.parametrize("text", ["", "x", "nan", "-1", "1e999999", "1.5", "0", "inf", "5 5"])
def test_what_is_no_share(text: str) -> None:
    with pytest.raises(click.BadParameter, match="no share"):
        read_share(text)


def test_shares_of_a_mix_are_exact() -> None:
    thirds = read_mix("a:33.3,b:33.3,c:33.4")
    assert sum(share for _, share in thirds) == 1
    assert [name for name, _ in read_mix("ollama/llama3:8b:60, x:40")] == ["ollama/llama3:8b", "x"]
    assert read_dollars("$1,460.00") == 1_460 * 10**9


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["costs", "--requests", "many"], "no volume"),
        (["costs", "--requests", "0"], "more than 0"),
        (["costs", "--requests", "9" * 30], "at most"),
        (["costs", "--price", "GPT-4o"], "GPT-4o=2.50/10.00"),
        (["costs", "--price", "GPT-4o=1/-1"], "amount of dollars"),
        (["costs", "--price", "GPT-4o=1/1e30"], "The most is"),
        (["costs", "--accuracy", "gpt-4o=1.2"], "no share"),
        (["costs", "--accuracy", "=0.5"], "GPT-4o=0.92"),
        (["costs", "--accuracy", "nobody=0.5"], "no model 'nobody'"),
        (["costs", "--mix", "mini:70"], "70 %, not 100 %"),
        (["costs", "--mix", "mini"], "mini:70,sonnet:30"),
        (["costs", "--mix", "sonnet:100"], "claude-sonnet-4-6, claude-sonnet-5-5"),
        (["costs", "--against", "gpt-4o"], "goes with --mix"),
        (["costs", "--router-cost", "1"], "goes with --mix"),
        (["costs", "--model", "gpt-4o-minni"], "gpt-4o-mini"),
        (["costs", "--tier", "gold"], "no tier 'gold'"),
        (["costs", "--provider", "zzz"], "no provider 'zzz'"),
        (["costs", "--input-tokens", "0", "--output-tokens", "0"], "A request has tokens"),
        (["costs", "--input-tokens", "-1"], "not in the range"),
        (["costs", "--param", "a=b"], "goes with --task"),
        (["costs", "--task", "nope"], "no task 'nope'"),
        (["costs", "--task", "classification"], "labels=... is missing"),
        (["breakeven", "--tokens", "2000"], "goes with --api-price"),
        (
            ["breakeven", "--tokens", "2000", "--api-price", "1", "--input-tokens", "10"],
            "leave --input-tokens",
        ),
        (["breakeven", "--tokens", "2000", "--api-price", "1", "--model", "gpt-4o"], "goes with --api-price"),
        (["breakeven", "--throughput", "0"], "not in the range"),
        (["breakeven", "--busy", "0"], "no share"),
        (["breakeven", "--gpu-cost", "lots"], "amount of dollars"),
        (["breakeven", "--input-tokens", "0", "--output-tokens", "0"], "A request has tokens"),
        (["advise"], "Say what is to be done"),
        (["advise", "cooking"], "'cooking' is not one of"),
        (["advise", "--task", "code"], "say it without --task"),
        (["advise", "code", "--floor", "85"], "no share"),
        (["advise", "code", "--privacy", "secret"], "air-gapped"),
        (["advise", "code", "--max-latency", "0"], "not in the range"),
        (["advise", "code", "--max-cost", "much"], "amount of dollars"),
        (["advise", "code", "--context", "-1"], "not in the range"),
    ],
)
def test_mistakes_are_told_and_exit_with_2(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.out == ""

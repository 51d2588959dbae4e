"""The PyPI package llmock, which grades clients, finds nothing to say against this one (short runs).

The long ones, 500 documents on every route, are ``benchmarks/faults.py --llmock``.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.fault_run import texts
from benchmarks.llmock_judge import judge

DOCUMENTS = {name: text[:200] for name, text in texts(40).items()}
RATES = {429: 0.05, 500: 0.1, 503: 0.02, 409: 0.03}
BROKEN = [part for status, rate in RATES.items() for part in ("--error-rate", f"{status}={rate}")]


def limit_of(model: str, rpm: int) -> str:
    """The user's settings that name an account's limit."""
    return f'[models."{model}"]\nrpm = {rpm}\ntpm = 10000000\n'


@pytest.mark.parametrize(
    ("route", "toml"),
    [
        ("openai", ""),
        ("mistral", limit_of("mistral-small-4", 1_000_000)),
    ],
)
def test_a_limit_is_kept_that_only_the_headers_tell(route: str, toml: str, tmp_path: Path) -> None:
    """The catalogue says more than 240 a minute, or the user does; the first answer says what is true."""
    outcome = judge(tmp_path / "home", route, DOCUMENTS, ["--rpm", "240", "--tpm", "900000"], toml=toml)
    assert outcome.verdict["findings"] == []
    assert outcome.items == {("done", None): 40}
    assert outcome.refused <= 2
    assert outcome.sent == outcome.verdict["attempts"]


@pytest.mark.parametrize("route", ["anthropic", "together", "groq"])
def test_a_vendor_that_often_fails_is_retried_as_it_should_be(route: str, tmp_path: Path) -> None:
    model = {
        "anthropic": "claude-haiku-4-5",
        "together": "llama-3.3-70b@together",
        "groq": "gpt-oss-20b@groq",
    }[route]
    outcome = judge(
        tmp_path / "home",
        route,
        DOCUMENTS,
        ["--rpm", "2400", "--tpm", "9000000", *BROKEN],
        toml=limit_of(model, 2400) + "rpd = 100000\n" * (route == "groq"),
    )
    assert outcome.verdict["findings"] == []
    assert sum(outcome.items.values()) == 40
    assert outcome.items["done", None] >= 39
    assert outcome.verdict["faults_injected"] > 0
    assert outcome.sent == outcome.verdict["attempts"]

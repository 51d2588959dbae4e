"""A task with rules and a router, as a user checks, shows, plans and runs it."""

from __future__ import annotations

import pytest

from tests.acceptance.conftest import Cli
from tests.support.fast_models import TWO_TIERS
from tests.support.vendor_server import VendorServer

TASK = """
from pydantic import BaseModel, Field
from batcher.tasks import Router, Rule, Task, scorers

class Answer(BaseModel):
    label: str = Field(max_length=40)

task = Task(
    name="desk", version=1, prompt="Say what it is about.", output=Answer, scorer={"label": scorers.exact},
    ladder=("economy", "premium"), max_output_tokens=60,
    entry=(
        Rule(tier="premium", min_tokens=200),
        Rule(tier="premium", kind="html"),
        Rule(tier="economy", matches="(?i)password"),
        Rule(tier="premium", language="de"),
        Rule(tier="premium", kind="html", min_tokens=20),
    ),
    router=Router(
        tier="economy", prompt="ROUTE it: simple or complex?",
        routes={"simple": "economy", "complex": "premium"},
    ),
)
"""
GERMAN = "Der Kunde fragt nach seiner Rechnung, und niemand weiß, wo sie geblieben ist."
DOCUMENTS = {
    "long.txt": "The parcel is lost, and the customer wants it. " * 40,
    "page.html": "<html><body><p>Where is my order?</p></body></html>",
    "password.txt": "I forgot my password, please help me.",
    "german.txt": GERMAN,
    "simple.txt": "When do you open on Monday morning?",
    "complex.txt": "You charged me twice and then refunded a third.",
}
STARTS = [
    "at least 200 tokens -> premium",
    "kind html -> premium",
    "matches '(?i)password' -> economy",
    "language de -> premium",
    "at least 20 tokens, kind html -> premium",
    "the others: a router on economy is asked: simple -> economy, complex -> premium",
    "else -> economy",
]


@pytest.fixture
def user(cli: Cli, vendor_server: VendorServer) -> Cli:
    for name, text in [("desk/task.py", TASK), *((f"docs/{one}", text) for one, text in DOCUMENTS.items())]:
        path = cli.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (cli.home / "batcher.toml").write_text(TWO_TIERS)
    vendor_server.configure(
        answers=[
            ("Say what it is about", '{"label": "desk"}'),
            ("charged me twice", "complex"),
            ("ROUTE it", "simple"),
        ]
    )
    return cli


def test_a_task_with_rules_is_checked_and_shown(user: Cli) -> None:
    told = user("tasks", "check", "./desk").out.splitlines()
    assert [line for line in told if line.startswith("starts: ")] == [f"starts: {line}" for line in STARTS]
    assert any("'at least 20 tokens, kind html -> premium' never decides" in line for line in told)
    shown = user("tasks", "show", "./desk", "--json").json
    assert shown["starts"] == STARTS
    assert shown["router"] == {
        "tier": "economy",
        "routes": {"simple": "economy", "complex": "premium"},
        "max_output_tokens": 8,
        "read_tokens": 1000,
    }
    assert "where documents start\n  at least 200 tokens -> premium\n" in user("tasks", "show", "./desk").out


def test_a_plan_says_how_many_start_where(user: Cli) -> None:
    plan = user("plan", "docs", "--task", "./desk", "--json").json
    assert plan["items"]["started_by_rule"] == {"premium": 3, "economy": 1}
    assert (plan["chosen"]["items"], plan["chosen"]["calls"]) == (6, 6)
    assert plan["chosen"]["router_usd"] > 0
    words = user("plan", "docs", "--task", "./desk").out
    assert "by the task's rules 3 on premium, 1 on economy; the others on economy" in words
    assert "asking it where 2 documents start costs about $" in words


def test_every_document_is_answered_where_it_starts(user: Cli) -> None:
    told = user("submit", "docs", "--task", "./desk", "--yes", "--json").json
    assert (told["state"], told["done"]) == ("done", 6)
    assert told["models"] == {"gpt-4o": 4, "gpt-4o-mini": 2}
    rows = {row["purpose"]: row["calls"] for row in user("spend", "--by", "purpose", "--json").json}
    assert rows == {"answer": 6, "route": 2}
    assert told["cost_usd"] == pytest.approx(
        sum(row["cost_usd"] for row in user("spend", "--by", "purpose", "--json").json)
    )


def test_a_rung_without_a_key_and_a_pinned_model_are_told(user: Cli) -> None:
    pinned = user("submit", "docs", "--task", "./desk", "--model", "gpt-4o", "--yes", "--limit", "1")
    assert "rules and router take no part" in pinned.err
    config = TWO_TIERS.replace('["gpt-4o"]', '["claude-sonnet-4-6"]')
    (user.home / "batcher.toml").write_text(config)
    user.env.pop("ANTHROPIC_API_KEY", None)
    told = user("submit", "docs", "--task", "./desk", "--yes", code=None)
    assert "Documents that a rule starts on premium start on economy, without a key for premium." in told.err

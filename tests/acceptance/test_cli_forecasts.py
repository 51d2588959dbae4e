"""What a plan and a digest foretell of work that a cap stops."""

from __future__ import annotations

from .conftest import Cli

SUBMIT = ("submit", "docs", "--task", "./cards", "--wait", "--yes")


def test_a_cap_that_admits_no_call_is_no_forecast(cli: Cli) -> None:
    cli.documents(3)
    cli("budget", "set", "--daily", "0.00001")
    plan = cli("plan", "docs", "--task", "./cards").out
    assert "no call fits under it, the smallest needs $0.000" in plan
    assert "the caps never let it end" in plan
    assert "days at this cap" not in plan
    [cap] = cli("plan", "docs", "--task", "./cards", "--json").json["chosen"]["caps"]
    assert (cap["days"], cap["fits_likely"]) == (None, False)
    outcome = cli(*SUBMIT, code=4)
    assert "no call fits under the cap, the smallest needs $0.000" in outcome.out
    assert "more day" not in outcome.out
    assert "goes on   once a cap is raised: batcher budget set --daily AMOUNT; then" in outcome.out
    left = cli(*SUBMIT, "--json", code=4).json["digest"]["left"]
    assert left["days"] is None
    assert left["least_usd"] == cap["least_usd"] > 0.00001


def test_a_job_stopped_by_its_own_cap_does_not_go_on_by_itself(cli: Cli) -> None:
    cli.documents(3)
    outcome = cli(*SUBMIT, "--max-cost", "0.0003", code=4)
    [line] = [line for line in outcome.out.splitlines() if "goes on" in line]
    assert line.split(maxsplit=2)[2] == (
        "once a cap is raised: batcher budget set --job 1 --max-cost AMOUNT; then with batcher resume 1"
    )

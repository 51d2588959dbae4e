"""What a plan and a digest foretell of work that stops before its end."""

from __future__ import annotations

import pytest

from tests.support.vendor_server import VendorServer

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


@pytest.mark.parametrize(("long_ones", "cap_usd"), [(range(31, 61), 0.015), (range(1, 31), 0.03)])
def test_what_is_left_is_priced_by_what_it_is_and_not_by_what_came_first(
    cli: Cli, vendor_server: VendorServer, long_ones: range, cap_usd: float
) -> None:
    docs = cli.documents(60)
    for number in long_ones:
        (docs / f"{number:03}.txt").write_text(f"Number {number}. " + "A long report about rivers. " * 1_500)
    vendor_server.add_fault(connection="reset_before", billed=False, contains="umber 1", times=2)
    stopped = cli(*SUBMIT, "--max-cost", str(cap_usd), "--json", code=4).json
    left = stopped["digest"]["left"]
    assert 20 <= left["documents"] <= 40
    assert stopped["unknown_usd"] > 0, "which is no part of what a document costs"
    cli("budget", "set", "--job", "1", "--max-cost", "none")
    done = cli(*SUBMIT, "--json").json
    assert left["likely_usd"] == pytest.approx(done["cost_usd"] - stopped["cost_usd"], rel=0.1)

"""Neither giving up early nor hammering, whatever a limit's queue or a vendor's odd words suggest."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

from tests.support.runs import MODEL, item_statuses, make_job, make_runtime, rows, run
from tests.support.vendor_server import VendorServer


def arrivals(vendor: VendorServer) -> list[float]:
    return [line.arrived_at for line in vendor.bill]


def test_the_queue_for_a_rate_limit_is_no_time_that_an_item_has_been_tried_for(
    tmp_path: Path, vendor_server: VendorServer
) -> None:
    """The last items wait three seconds for their first call; it fails, and is repeated all the same."""
    runtime = make_runtime(tmp_path / "home", vendor_server, max_elapsed_s=2.5, concurrency=16)
    runtime.settings.models[MODEL].rpm = 120
    vendor_server.add_fault(kind="server_500", skip=6, times=2)
    job = make_job(runtime, {f"d{number}": f"text {number}" for number in range(8)})
    run(runtime, job.id)
    assert item_statuses(runtime, job.id) == {"done": 8}
    assert [row.status_code for row in rows(runtime, "attempts")].count(500) == 2
    seen = arrivals(vendor_server)
    assert seen[7] - seen[0] > 2.5, "the limit held them back for longer than they may be tried"


def test_retry_after_nothing_is_still_backed_off_from(tmp_path: Path, vendor_server: VendorServer) -> None:
    runtime = make_runtime(tmp_path / "home", vendor_server)
    vendor_server.add_fault(status=429, headers={"retry-after": "0"}, times=3)
    job = make_job(runtime, {"d": "text"})
    run(runtime, job.id)
    assert item_statuses(runtime, job.id) == {"done": 1}
    seen = arrivals(vendor_server)
    gaps = [later - earlier for earlier, later in pairwise(seen)]
    assert min(gaps) >= 0.1
    assert gaps[1] > 1.1 * gaps[0], "the second gap is longer than the first"


def test_a_server_error_beside_the_headers_of_a_good_limit_is_backed_off_from(
    tmp_path: Path, vendor_server: VendorServer
) -> None:
    runtime = make_runtime(tmp_path / "home", vendor_server)
    whole = {"x-ratelimit-remaining-requests": "499", "x-ratelimit-reset-requests": "1ms"}
    vendor_server.add_fault(status=500, headers=whole, times=3)
    job = make_job(runtime, {"d": "text"})
    run(runtime, job.id)
    seen = arrivals(vendor_server)
    assert len(seen) == 4
    assert min(later - earlier for earlier, later in pairwise(seen)) >= 0.1

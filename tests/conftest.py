"""Fixtures that every test may use."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from batcher.providers.local.known import KNOWN
from batcher.settings import default_home
from tests.support.over_reservation import LOGGER, ErrorRecords, in_postgresql, in_sqlite_files
from tests.support.vendor_server import VendorProcess, VendorServer

# No test is timed: a busy machine is no fault of the code.
settings.register_profile("untimed", parent=settings.default, deadline=None)
settings.load_profile("untimed")


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker of tests that mean a call to cost more than was reserved for it."""
    config.addinivalue_line("markers", "over_reservation: a settlement above its reservation is meant here")


@pytest.fixture(autouse=True)
def _no_settlement_above_its_reservation(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail any test in whose log or stores a call was settled above its reservation, unless it is marked."""
    records, logger = ErrorRecords(), logging.getLogger(LOGGER)
    logger.addHandler(records)
    yield
    logger.removeHandler(records)
    if request.node.get_closest_marker("over_reservation") is not None:
        return
    used = request.node.funcargs
    faults = records.messages
    if "tmp_path" in used:
        faults += in_sqlite_files(used["tmp_path"])
    if str(used.get("store_url", "")).startswith("postgresql"):
        faults += in_postgresql(used["store_url"])
    if faults:
        pytest.fail("A call was settled above its reservation:\n" + "\n".join(faults), pytrace=False)


@pytest.fixture
def vendor_server() -> Iterator[VendorServer]:
    """A fresh vendor on loopback; see tests/support/vendor_server.py."""
    with VendorServer() as vendor:
        yield vendor


@pytest.fixture(scope="module")
def vendor() -> Iterator[VendorProcess]:
    """A vendor in a process of its own, which the tests of a module share."""
    with VendorProcess() as found:
        yield found


@pytest.fixture(scope="session")
def local_models_dir() -> Path:
    """The folder with the small model's real weights. Setting up fetches them; tests never reach out."""
    folder = Path(os.environ.get("BATCHER_HOME") or default_home()) / "models"
    weights = folder / KNOWN["smollm2-135m"].file_name
    assert weights.is_file(), "Fetch the small model's weights first: batcher models pull smollm2-135m"
    return folder

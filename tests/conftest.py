"""Fixtures that every test may use."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from batcher.providers.local.known import KNOWN
from batcher.settings import default_home
from tests.support.vendor_server import VendorServer


@pytest.fixture
def vendor_server() -> Iterator[VendorServer]:
    """A fresh vendor on loopback; see tests/support/vendor_server.py."""
    with VendorServer() as vendor:
        yield vendor


@pytest.fixture(scope="session")
def local_models_dir() -> Path:
    """The folder with the small model's real weights. Setting up fetches them; tests never reach out."""
    folder = Path(os.environ.get("BATCHER_HOME") or default_home()) / "models"
    weights = folder / KNOWN["smollm2-135m"].file_name
    assert weights.is_file(), "Fetch the small model's weights first: batcher models pull smollm2-135m"
    return folder

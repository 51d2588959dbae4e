"""Fixtures that every test may use."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

_ROOT = Path(__file__).resolve().parents[1]
if str(_ROOT) not in sys.path:
    sys.path.insert(0, str(_ROOT))

from tests.support.vendor_server import VendorServer  # noqa: E402 - needs the path above


@pytest.fixture
def vendor_server() -> Iterator[VendorServer]:
    """A fresh vendor on loopback; see tests/support/vendor_server.py."""
    with VendorServer() as vendor:
        yield vendor

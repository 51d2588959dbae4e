"""The documentation's index leads to every page."""

from __future__ import annotations

import re
from pathlib import Path

DOCS = Path(__file__).resolve().parents[2] / "docs"


def missing_pages(index: str, pages: set[str]) -> set[str]:
    """Pages that the index does not link."""
    return pages - set(re.findall(r"\]\(([\w-]+\.md)\)", index)) - {"index.md"}


def test_the_index_links_every_page() -> None:
    pages = {path.name for path in DOCS.glob("*.md")}
    assert {"index.md", "concepts.md", "state-machine.md"} <= pages
    assert missing_pages((DOCS / "index.md").read_text(encoding="utf-8"), pages) == set()


def test_a_page_without_a_link_would_be_noticed() -> None:
    assert missing_pages("see [one](one.md)", {"one.md", "two.md", "index.md"}) == {"two.md"}

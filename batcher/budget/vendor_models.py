"""Which model a vendor's name means: exports speak of served ids, the ledger of names of batcher's own."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

from batcher.catalog.models import Catalog


class VendorModels:
    """The models of one provider, found by whatever an export calls them.

    A name that could mean two models means neither.

    Args:
        catalog: knows the vendor's id behind a model's name.
        provider: whose export it is.
        called: names of models that the ledger has calls of; also such as the catalogue no longer knows.
    """

    def __init__(self, catalog: Catalog, provider: str, called: Iterable[str]) -> None:
        ids = {name: model.id for name, model in catalog.models.items() if model.provider == provider}
        self._ids = {name: ids.get(name, name) for name in {*ids, *called}}
        self._found: dict[str, str] = {}
        for spellings in zip(*(_spellings(name, id_) for name, id_ in self._ids.items()), strict=True):
            meant = dict.fromkeys(zip(spellings, self._ids.values(), strict=True))
            times = Counter(spelling for spelling, _ in meant)
            for spelling, id_ in meant:
                if times[spelling] == 1:
                    self._found.setdefault(spelling, id_)

    def id_of(self, name: str) -> str:
        """The vendor's id of a model that the ledger names."""
        return self._ids[name]

    def find(self, spelling: str) -> str | None:
        """The vendor's id that an export's name means; None if it means no model known here."""
        plain = _plain(spelling)
        return self._found.get(plain) or self._found.get(_undated(plain))


def _spellings(name: str, vendors_id: str) -> tuple[str, ...]:
    """Spellings of a model, the surest first; those of all models are compared rank by rank."""
    plain = _plain(vendors_id)
    return (
        plain,
        _plain(name),
        _plain(name.partition("@")[0]),
        _undated(plain),
        _plain(vendors_id.rpartition("/")[2]),
    )


def _plain(name: str) -> str:
    """``Claude Haiku 4.5`` and ``claude-haiku-4-5`` alike."""
    return re.sub(r"[\s._]+", "-", name.strip().lower())


def _undated(plain: str) -> str:
    """Without the date of a pinned version: ``-2024-07-18``, ``-20251001``, ``@20251001``."""
    return re.sub(r"[-@](\d{4}-\d{2}-\d{2}|\d{8})$", "", plain)

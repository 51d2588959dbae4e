"""The ledger as a plain model: sums and caps, kept by nothing but addition; and a runtime for it."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace

from sqlalchemy import Connection, select

from batcher.budget.ledger import DEFAULT_DAILY_CAP_NUSD, Account, Funding, accounts_of
from batcher.domain import AttemptState, ItemStatus
from batcher.runtime import Runtime
from batcher.store.database import Store
from batcher.store.item_changes import ItemChange
from batcher.store.leases import QueuedItem
from batcher.store.tables import attempts, documents, items, jobs, leases
from tests.support.runs import MODEL, make_runtime

_NOWHERE = "http://127.0.0.1:9"


def two_vendors(home: Path, store: Store) -> Runtime:
    """A runtime on this store with two tiers, each a model of one vendor and a stand-in of the other's."""
    vendor = SimpleNamespace(openai_url=_NOWHERE, anthropic_url=_NOWHERE, together_url=_NOWHERE)
    runtime = make_runtime(home, vendor)
    runtime.__dict__["store"] = store
    known = runtime.catalog.models[MODEL]
    dear = replace(known.prices, input_nusd=4 * known.prices.input_nusd)
    for name, provider, prices in (
        ("at-openai", "openai", known.prices),
        ("at-together", "together", dear),
        ("dear-at-together", "together", dear),
        ("dear-at-openai", "openai", known.prices),
    ):
        runtime.catalog.models[name] = replace(known, name=name, id=name, provider=provider, prices=prices)
    tiers = {"economy": ("at-openai", "at-together"), "premium": ("dear-at-together", "dear-at-openai")}
    runtime.catalog.tiers.update(tiers)
    return runtime


@dataclass
class Call:
    """An attempt as the model sees it."""

    funding: Funding
    reserved: int
    spent: int = 0
    state: AttemptState = AttemptState.SENDING


@dataclass
class Lent:
    """A lease as the model sees it."""

    funding: Funding
    items: tuple[QueuedItem, ...]
    left: int
    expires_at: float
    is_active: bool = True
    sequence: int = 0


@dataclass
class Books:
    """Sums and caps, kept by nothing but addition."""

    caps: dict[str, int | None] = field(default_factory=dict)
    cap_of: dict[Account, int | None] = field(default_factory=dict)
    reserved: dict[Account, int] = field(default_factory=lambda: defaultdict(int))
    spent: dict[Account, int] = field(default_factory=lambda: defaultdict(int))

    def cap(self, account: Account) -> int | None:
        """The cap in force on an account, also on one that nothing stood under yet."""
        if account in self.cap_of:
            return self.cap_of[account]
        return self.caps.get(account.scope, DEFAULT_DAILY_CAP_NUSD if account.scope == "day" else None)

    def admits(self, account: Account, amount: int) -> bool:
        cap = self.cap(account)
        taken = self.reserved[account] + self.spent[account]
        return amount == 0 or cap is None or taken + amount <= cap

    def reserve(self, account: Account, amount: int) -> None:
        """Put an admitted reservation on an account: over its cap it must never have been."""
        assert self.admits(account, amount), f"{amount} was admitted on {account} over its cap"
        self.cap_of.setdefault(account, self.cap(account))
        self.reserved[account] += amount

    def move(self, funding: Funding, reserved: int, spent: int) -> None:
        for account in accounts_of(funding):
            self.reserved[account] += reserved
            self.spent[account] += spent


def given_back(item: QueuedItem, lease_id: int) -> ItemChange:
    """The change that puts a leased item back on its queue."""
    return ItemChange(
        item_id=item.id,
        job_id=item.job_id,
        lease_id=lease_id,
        result_key=item.result_key,
        accepts_key=item.accepts_key,
        refresh_key=0,
        status=ItemStatus.PENDING,
        tier=item.tier,
    )


def pending_items(store: Store, job_ids: list[int], tier: str | None = None) -> list[tuple[int, int]]:
    """Size in bytes and id of the pending items of jobs, on one tier or all."""
    query = (
        select(documents.c.text_bytes, items.c.id)
        .join(documents, documents.c.hash == items.c.document_hash)
        .where(items.c.job_id.in_(job_ids), items.c.status == ItemStatus.PENDING.value)
    )
    if tier is not None:
        query = query.where(items.c.tier == tier)
    with store.read() as connection:
        return [(row.text_bytes, row.id) for row in connection.execute(query)]


def sums_of_rows(connection: Connection) -> tuple[dict[Account, int], dict[Account, int]]:
    """What the stored attempts and leases add up to: reserved and spent, by account."""
    reserved: dict[Account, int] = defaultdict(int)
    spent: dict[Account, int] = defaultdict(int)
    tasks = {row.id: row.task for row in connection.execute(select(jobs.c.id, jobs.c.task))}
    for row in connection.execute(select(attempts)):
        for account in accounts_of(Funding(row.job_id, tasks[row.job_id], row.tier, row.provider, row.day)):
            reserved[account] += row.reserved_nusd * (row.state == AttemptState.SENDING.value)
            spent[account] += row.cost_nusd
    for row in connection.execute(select(leases)):
        assert row.reserved_nusd >= 0
        for account in accounts_of(Funding(row.job_id, tasks[row.job_id], row.tier, row.provider, row.day)):
            reserved[account] += row.reserved_nusd
    return reserved, spent

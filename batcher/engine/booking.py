"""What leases, marks and settlements mean for the books: whose money it is, and how it moves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batcher.alerts.book import Alert, Rule
from batcher.budget.ledger import Funding, Movement
from batcher.domain import AttemptState
from batcher.money import format_usd

if TYPE_CHECKING:
    from batcher.engine.marks import Mark
    from batcher.store.attempts import Settled
    from batcher.store.leases import HeldMoney


def funding_of(money: HeldMoney) -> Funding:
    """Whose money a reservation is."""
    return Funding(money.payer_id, money.task, money.tier, money.provider, money.day)


def funding_of_call(mark: Mark, lease: HeldMoney, left_nusd: int, today: str) -> tuple[Funding, int]:
    """Whose money a call is, and what of its worst case its lease has reserved already.

    A call that its lease cannot pay for whole after midnight is the new day's altogether.

    Args:
        mark: the call.
        lease: its lease, and the day of its reservation.
        left_nusd: what is left of that.
        today: the ledger's day.
    """
    needed_nusd = mark.reserved_nusd
    day, lent_nusd = today, 0
    if needed_nusd <= left_nusd:
        day, lent_nusd = lease.day, needed_nusd
    elif lease.day == today:
        lent_nusd = left_nusd
    return Funding(lease.payer_id, lease.task, mark.tier, mark.provider, day), lent_nusd


def movement_of(settled: Settled) -> Movement:
    """What a settlement does to the accounts: a late one replaces the worst case that was booked as spent."""
    worst_nusd = settled.reserved.reserved_nusd
    if settled.before is AttemptState.SENDING:
        return Movement(-worst_nusd, settled.cost_nusd)
    return Movement(0, settled.cost_nusd - worst_nusd)


def overrun_alert(settled: Settled) -> Alert | None:
    """What to say of a call that cost more than was reserved for it; None for one that did not."""
    money = settled.reserved
    if settled.cost_nusd <= money.reserved_nusd:
        return None
    cost, reserved = format_usd(settled.cost_nusd), format_usd(money.reserved_nusd)
    return Alert(
        Rule.OVER_RESERVATION,
        f"model:{settled.model}",
        f"A call to {settled.model} cost more than was reserved for it",
        f"Attempt {settled.attempt_id} of job {money.job_id} cost {cost}, and {reserved} was reserved. The "
        "caps can be exceeded by the difference. Compare the model's prices in the catalogue with the "
        "vendor's, and lower the caps until it is explained",
    )

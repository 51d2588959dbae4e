"""Asking for leave to send a call, and why it is refused."""

from __future__ import annotations

from dataclasses import dataclass

from batcher.budget.ledger import Balance
from batcher.domain import Prices, Purpose


@dataclass(frozen=True, slots=True)
class Mark:
    """Asks for leave to send one call: its attempt is committed first, under a reservation.

    Attributes:
        climbs: whether its item keeps what other models have answered, if this call is refused.
    """

    attempt_id: int
    item_id: int
    job_id: int
    lease_id: int
    purpose: Purpose
    part: int
    tier: str
    model: str
    provider: str
    reserved_nusd: int
    prices: Prices
    climbs: bool = False


class LeaseLostError(Exception):
    """The chunk is no longer this worker's: nothing may be sent for it."""


class BudgetExhaustedError(Exception):
    """A cap does not admit the call now.

    Attributes:
        mark: the call.
        balance: the account in the way.
        needed_nusd: what had to be reserved on it.
        is_follow_up: whether calls for the item have been paid for, whose use the item loses with this one.
        may_pass: whether there is room if what others hold in reserve turns out to cost nothing.
    """

    def __init__(
        self, mark: Mark, balance: Balance, needed_nusd: int, *, is_follow_up: bool, may_pass: bool
    ) -> None:
        super().__init__(balance.account.scope)
        self.mark = mark
        self.balance = balance
        self.needed_nusd = needed_nusd
        self.is_follow_up = is_follow_up
        self.may_pass = may_pass

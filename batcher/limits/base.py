"""The contract of a rate limiter, whether it lives in this process or is shared."""

from __future__ import annotations

from typing import Protocol


class Limiter(Protocol):
    """Lets requests through at the rate that limits allow, one lane per key.

    A key names what the vendor counts together, such as ``openai/gpt-4o-mini``; the caller chooses it.
    """

    async def acquire(self, key: str, tokens: int) -> None:
        """Return when one request of ``tokens`` tokens may leave.

        First come, first served within a key. A request larger than a whole limit goes alone, when nothing of
        that limit is in use. A caller that is cancelled while it waits has used nothing.

        Args:
            key: the lane.
            tokens: input and the output limit together, estimated.
        """
        ...

    def refund(self, key: str, tokens: int) -> None:
        """Give back tokens that were acquired and turned out not to be used."""
        ...

    def cool_down(self, key: str, seconds: float, reason: str) -> None:
        """Admit nothing for that many seconds. Of two cool-downs in force the one that ends later counts.

        Args:
            key: the lane.
            seconds: from now.
            reason: in a few words, for people: ``together 429``.
        """
        ...

    def waiting(self) -> dict[str, str]:
        """Why those wait who wait now, by key: ``cooling down 42 s: together 429``."""
        ...

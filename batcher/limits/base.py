"""The contract of a rate limiter, whether it lives in this process or is shared."""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import TracebackType
from typing import Generic, Protocol, TypeVar

from batcher.limits.quotas import Charge, Observed


class PermitIssuer(Protocol):
    """The lane that gave a permit; for ``Permit`` alone."""

    def settle(self, permit: Permit, input_tokens: int, output_tokens: int) -> None:
        """Book what the vendor counted in place of what was assumed."""
        ...

    def take_back(self, permit: Permit) -> None:
        """Undo the booking."""
        ...

    def close(self, permit: Permit) -> None:
        """The call is no longer in flight."""
        ...


class Permit:
    """Leave to send one request.

    As a context manager it says when the call is over::

        with await limiter.acquire(key, input_tokens, output_limit) as permit:
            completion = await provider.complete(request)
            permit.settle(completion.usage.input_tokens, completion.usage.output_tokens)

    A permit that is lost counts as closed and stays booked as it was.

    Attributes:
        charge: what is booked for it, by dimension.
        output_limit: the output limit of the request.
    """

    __slots__ = ("_is_open", "_issuer", "charge", "output_limit")

    def __init__(self, issuer: PermitIssuer, charge: Charge, output_limit: int) -> None:
        self.charge = charge
        self.output_limit = output_limit
        self._issuer = issuer
        self._is_open = True

    def settle(self, input_tokens: int, output_tokens: int) -> None:
        """Say what the call really used, as its vendor counts it against limits.

        Args:
            input_tokens: without those read from a cache where the vendor leaves them out (Anthropic, Groq).
            output_tokens: what was written, reasoning included.
        """
        self._issuer.settle(self, input_tokens, output_tokens)

    def give_back(self) -> None:
        """Say that nothing was sent: the permit is as if it had never been given."""
        if self._is_open:
            self._issuer.take_back(self)
            self.close()

    def close(self) -> None:
        """Say that the call is over, whichever way. Doing so twice does no harm."""
        if self._is_open:
            self._is_open = False
            self._issuer.close(self)

    def __enter__(self) -> Permit:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()


class Limiter(Protocol):
    """Lets requests through at the rate that limits allow, one lane per key.

    A key names what the vendor counts together, such as ``openai/gpt-4o-mini``; the caller chooses it. All
    methods belong to one event loop.
    """

    async def acquire(self, key: str, input_tokens: int, output_limit: int = 0) -> Permit:
        """Return when a request may leave.

        First come, first served within a key. A request larger than a whole limit goes alone, when nothing of
        that limit is in use. A caller that is cancelled while it waits has used nothing.

        Args:
            key: the lane.
            input_tokens: estimated.
            output_limit: the most tokens that the answer may have. Where the vendor counts what was written,
                as much as answers of this key have had of late is booked until the permit is settled.
        """
        ...

    def observe(self, key: str, observed: Observed) -> None:
        """Take over what the headers of a response, or of a refusal, say of the limits."""
        ...

    def cool_down(self, key: str, seconds: float, reason: str) -> None:
        """Admit nothing for that many seconds. Of two cool-downs in force the one that ends later counts.

        Args:
            key: the lane.
            seconds: from now.
            reason: in a few words, for people: ``together 429``.
        """
        ...

    def waits(self, key: str) -> bool:
        """Whether somebody waits for a permit of a key."""
        ...

    def waiting(self) -> dict[str, str]:
        """Why those wait who wait now, by key: ``cooling down 42 s: together 429``."""
        ...

    async def aclose(self) -> None:
        """Give back what is held and not used."""
        ...


class LimiterLane(Protocol):
    """What a limiter keeps for one key; see ``Limiter`` for what its methods do."""

    @property
    def has_queue(self) -> bool:
        """Whether somebody waits for a permit."""
        ...

    async def acquire(self, input_tokens: int, output_limit: int) -> Permit:
        """Return when a request may leave."""
        ...

    def observe(self, observed: Observed) -> None:
        """Take over what headers say."""
        ...

    def cool_down(self, seconds: float, reason: str) -> None:
        """Admit nothing for that many seconds."""
        ...

    def waiting_for(self) -> str:
        """Why the first in the queue waits, or ""."""
        ...


_Lane = TypeVar("_Lane", bound=LimiterLane)


class LaneLimiter(ABC, Generic[_Lane]):
    """A ``Limiter`` that has a lane of its own for every key; subclasses say what a lane is."""

    def __init__(self) -> None:
        self._lanes: dict[str, _Lane] = {}

    async def acquire(self, key: str, input_tokens: int, output_limit: int = 0) -> Permit:
        """See ``Limiter``."""
        return await self._lane(key).acquire(input_tokens, output_limit)

    def observe(self, key: str, observed: Observed) -> None:
        """See ``Limiter``."""
        if observed.readings:
            self._lane(key).observe(observed)

    def cool_down(self, key: str, seconds: float, reason: str) -> None:
        """See ``Limiter``."""
        self._lane(key).cool_down(seconds, reason)

    def waits(self, key: str) -> bool:
        """See ``Limiter``."""
        lane = self._lanes.get(key)
        return lane is not None and lane.has_queue

    def waiting(self) -> dict[str, str]:
        """See ``Limiter``."""
        return {key: reason for key, lane in list(self._lanes.items()) if (reason := lane.waiting_for())}

    async def aclose(self) -> None:
        """See ``Limiter``."""

    @abstractmethod
    def _new_lane(self, key: str) -> _Lane: ...

    def _lane(self, key: str) -> _Lane:
        lane = self._lanes.get(key)
        if lane is None:
            lane = self._lanes[key] = self._new_lane(key)
        return lane

"""Failures without an answer: what certainly never left this machine, and what may have been generated."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import aiohttp

from batcher.domain import FailureClass
from batcher.providers.base import ProviderError
from batcher.providers.fence import UnsendableError
from batcher.providers.redaction import redact

_NEVER_SENT = (
    aiohttp.ClientConnectorError,
    aiohttp.ConnectionTimeoutError,
    aiohttp.ClientProxyConnectionError,
    aiohttp.ClientHttpProxyError,
)
"""Refused, unresolvable, unreachable, connect timeout, a proxy or a certificate that says no."""


def classify_exception(
    error: BaseException, secrets: Sequence[str] = (), *, may_have_left: bool = True
) -> ProviderError:
    """Turn an exception of an SDK or its transport into a classified error.

    The SDKs' own exceptions do not tell "before" from "after": their aiohttp transport calls a disconnect
    after the request left a connect timeout (httpx-aiohttp 0.2, ``AIOHTTP_EXC_MAP``). So the chain of causes
    is searched for aiohttp's. Anything not known to have happened before sending counts as sent.

    Args:
        error: the exception.
        secrets: keys that must not appear in the message.
        may_have_left: False if it is proven otherwise that no byte of the request left.
    """
    chain = list(_causes(error))
    told = next((cause for cause in chain if isinstance(cause, aiohttp.ClientError)), chain[-1])
    message = redact(str(told) or type(told).__name__, secrets)
    if any(isinstance(cause, UnsendableError) for cause in chain):
        return unsendable(message)
    if any(isinstance(cause, aiohttp.InvalidURL) or "Protocol" in type(cause).__name__ for cause in chain):
        return ProviderError(FailureClass.BAD_REQUEST, f"The base_url is not a web address: {message}")
    if not may_have_left or any(isinstance(cause, _NEVER_SENT) for cause in chain):
        return ProviderError(FailureClass.TRANSIENT, f"No connection: {message}", billed=False)
    return ProviderError(
        FailureClass.UNKNOWN_OUTCOME,
        f"The connection broke after the request was sent: {message}",
        billed=None,
    )


def unsendable(message: str) -> ProviderError:
    """The error of a request whose head cannot be written: all others of the account would be like it.

    Args:
        message: what is wrong with it, without keys.
    """
    return ProviderError(
        FailureClass.ACCOUNT,
        "No request can be made with this key, address and the variables that the vendor's SDK reads:"
        f" {message}",
    )


def timed_out(timeout_s: float, *, may_have_left: bool = True) -> ProviderError:
    """The error of a call that got no whole answer in time."""
    if not may_have_left:
        return ProviderError(FailureClass.TRANSIENT, f"No connection within {timeout_s:g} s", billed=False)
    return ProviderError(FailureClass.UNKNOWN_OUTCOME, f"No whole answer within {timeout_s:g} s", billed=None)


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)

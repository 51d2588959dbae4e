"""The contract between the engine and a vendor: one request in, a completion or a classified error out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from batcher.domain import FailureClass, Finish, Message, Usage


def _always() -> bool:
    return True


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """One call, in no vendor's words.

    Attributes:
        model_id: the vendor's pinned model id.
        messages: the constant part first (system), then the document, then any repair turns.
        schema: JSON Schema that the answer must fit, or None for free text.
        schema_name: a name for it (letters, digits, ``_`` and ``-``; at most 64).
        enforce_schema: whether this model's API can enforce ``schema``; if not, it stands in the prompt only.
        max_output_tokens: always sent, because reservations rest on it.
        temperature: None leaves the vendor's default.
        timeout_s: wall-clock limit of the whole call.
        extra: further body fields of this model, from the catalogue (``{"reasoning_effort": "low"}``).
        logprobs: whether the answer's log-probability is wanted; only of models whose API gives it.
        may_leave: asked in the moment before the first byte leaves.
    """

    model_id: str
    messages: tuple[Message, ...]
    schema: Mapping[str, Any] | None
    schema_name: str
    enforce_schema: bool
    max_output_tokens: int
    temperature: float | None
    timeout_s: float
    extra: Mapping[str, Any] = field(default_factory=dict)
    logprobs: bool = False
    may_leave: Callable[[], bool] = field(default=_always, repr=False)


@dataclass(frozen=True, slots=True)
class Completion:
    """What a vendor answered.

    Attributes:
        text: the answer, or the refusal's words when ``finish`` is refused. Never None.
        finish: why the model stopped; unknown vendor words (``eos``) count as a stop.
        usage: tokens as the vendor will bill them, or None where the answer carried no usage: then the
            attempt stays booked at its worst case.
        request_id: the vendor's id of the call, for support tickets and reconciliation.
        headers: lower-case rate-limit headers, for the limiter.
        served_model: the model id that the vendor says it used, or "".
        logprob: natural logarithm of the probability that the model gave this very answer (its tokens'
            log-probabilities added up); None where it was not asked for or not told.
    """

    text: str
    finish: Finish
    usage: Usage | None
    request_id: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    served_model: str = ""
    logprob: float | None = None


class ProviderError(Exception):
    """A call that brought no completion, classified.

    Attributes:
        failure: the class.
        message: the vendor's words, without keys, at most 500 characters.
        status: HTTP status, or None if there was no answer.
        code: the vendor's own error type or code, or "".
        retry_after_s: how long the vendor asks to wait, or None.
        billed: False when it is proven that the call costs nothing (the vendor answered with an error
            before generation, or the request never left); None when it is not known.
        headers: lower-case rate-limit headers, for the limiter.
    """

    def __init__(
        self,
        failure: FailureClass,
        message: str,
        *,
        status: int | None = None,
        code: str = "",
        retry_after_s: float | None = None,
        billed: bool | None = False,
        headers: Mapping[str, str] | None = None,
        request_id: str = "",
    ) -> None:
        super().__init__(message)
        self.failure = failure
        self.message = message
        self.status = status
        self.code = code
        self.retry_after_s = retry_after_s
        self.billed = billed
        self.headers = dict(headers or {})
        self.request_id = request_id


class NotSentError(Exception):
    """The call was not to leave any more when it was about to: no byte of it left."""


class Provider(Protocol):
    """One vendor account behind one pooled client."""

    async def complete(self, request: ChatRequest) -> Completion:
        """Make one call, without retries.

        Raises:
            NotSentError: if ``request.may_leave`` says no.
            ProviderError: for every failure, classified.
        """
        ...

    async def check(self) -> str:
        """Ask the endpoint for something free (its model list); returns a short line for ``doctor``.

        Raises:
            ProviderError: if it cannot be reached or refuses the key.
        """
        ...

    async def aclose(self) -> None:
        """Close the client and anything started for it."""
        ...

"""A model bound to a task and to the client that reaches it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from batcher.domain import Message, Usage
from batcher.planning.fit import Fit
from batcher.providers.base import ChatRequest, Provider


@dataclass(eq=False, kw_only=True)
class Binding(Fit):
    """One model that can do a lane's work.

    Attributes:
        provider: the client of its account.
        kind: which SDK speaks to it: vendors count tokens against limits each in their own way.
        account: tells accounts of one vendor apart, where a limiter is shared; never the key itself.
        timeout_s: wall-clock limit of a call.
        logprobs: whether its answers' log-probabilities are wanted.
        routes: whether it is asked where documents start. Its API is then not to hold answers to the schema.
    """

    provider: Provider
    kind: str
    account: str
    timeout_s: float
    logprobs: bool = False
    routes: bool = False

    @property
    def key(self) -> str:
        """What limits and slots are kept by."""
        return f"{self.model.name}#{self.account}"

    @property
    def circuit(self) -> str:
        """What its circuit is kept by.

        A router has one of its own: its calls are other and shorter ones than a task's, and neither their
        failures nor their answers say how the model does the work.
        """
        return f"{self.key} as router" if self.routes else self.key

    def request(
        self, messages: Sequence[Message], max_output_tokens: int, may_leave: Callable[[], bool]
    ) -> ChatRequest:
        """The call that these messages make; ``may_leave`` is asked in the moment before it leaves."""
        return ChatRequest(
            model_id=self.model.id,
            messages=tuple(messages),
            schema=self.spec.schema,
            schema_name=self.spec.schema_name,
            enforce_schema=not self.routes and "schema" in self.model.abilities,
            max_output_tokens=max_output_tokens,
            temperature=self.spec.temperature if self.model.takes_temperature else None,
            timeout_s=self.timeout_s,
            extra=self.model.extra,
            logprobs=self.logprobs,
            may_leave=may_leave,
        )

    def counted_input_tokens(self, usage: Usage) -> int:
        """A call's input as limits count it: Anthropic and Groq leave out what was read from their caches."""
        if self.kind == "anthropic" or self.model.provider == "groq":
            return usage.input_tokens - usage.cached_tokens
        return usage.input_tokens

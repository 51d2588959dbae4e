"""What a vendor's figures prove of calls whose outcome nobody knew. See reconcile.py for what counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from batcher.budget.comparison import Billed, Calls, nusd
from batcher.budget.vendor_export import Export, Line
from batcher.catalog.models import Model
from batcher.domain import FailureClass, Prices, Usage
from batcher.money import cost_nusd

UNBILLED: Final = "unbilled"
"""Outcome of a call that the vendor did not charge."""

BILLED: Final = "billed"
"""Outcome of a call without an answer that the vendor charged."""


@dataclass(frozen=True, slots=True)
class Unknown:
    """One call of unknown outcome.

    Attributes:
        booked_nusd: its worst case.
        prices: what it would be charged at.
        outcome: what is known of it: an answer that came without its usage is ``ok``.
        request_id: the vendor's, if anything came back; else "".
    """

    attempt_id: int
    booked_nusd: int
    prices: Prices
    outcome: str = FailureClass.UNKNOWN_OUTCOME.value
    request_id: str = ""
    status_code: int | None = None
    error: str | None = None
    latency_s: float = 0.0

    @classmethod
    def from_row(cls, row: Any, model: Model | None) -> Unknown:
        """From a row of the attempts; ``model`` is what the catalogue now knows of its model."""
        stored = (
            row.price_input_nusd,
            row.price_output_nusd,
            row.price_cached_nusd,
            row.price_cache_write_nusd,
        )
        prices = Prices(*stored)
        if model is not None:
            known = model.prices
            listed = (known.input_nusd, known.output_nusd, known.cached_nusd, known.cache_write_nusd)
            # The catalogue also knows the prices of long calls, and of the call itself.
            prices = known if listed == stored else prices
        return cls(
            attempt_id=row.id,
            booked_nusd=row.cost_nusd,
            prices=prices,
            outcome=row.outcome or FailureClass.UNKNOWN_OUTCOME.value,
            request_id=row.request_id or "",
            status_code=row.status_code,
            error=row.error,
            latency_s=row.latency_s or 0.0,
        )


@dataclass(frozen=True, slots=True)
class Proof:
    """What became of one call: ``cost_nusd`` replaces ``booked_nusd`` in the ledger."""

    call: Unknown
    cost_nusd: int
    outcome: str
    usage: Usage = field(default_factory=Usage)

    @property
    def returned_nusd(self) -> int:
        """What it gives back."""
        return self.call.booked_nusd - self.cost_nusd


Outcome = tuple[list[Proof], str]
"""Proofs, and why the other calls stay as they are; "" if there are none."""


def prove(
    calls: Calls, billed: Billed, export: Export, unknown: Sequence[Unknown], answered_ids: frozenset[str]
) -> Outcome:
    """What an export proves of the unknown calls of one model, on days that it covers wholly.

    Args:
        calls: what the ledger has.
        billed: what the export has.
        export: what it tells at all.
        unknown: the calls in question.
        answered_ids: the vendor's ids of the answered calls; "" among them if one has none.
    """
    listed = {line.request_id for line in billed.lines}
    if export.has("request_id") and "" not in listed and answered_ids <= listed:
        outcome = _by_call(calls, billed, export, unknown, answered_ids)
    else:
        outcome = _by_sums(calls, billed, export, unknown)
    return _never_below_the_bill(outcome, calls, billed, export)


def _by_call(
    calls: Calls, billed: Billed, export: Export, unknown: Sequence[Unknown], answered_ids: frozenset[str]
) -> Outcome:
    answers = Billed(tuple(line for line in billed.lines if line.request_id in answered_ids))
    if export.has_tokens and _has_more_tokens(answers, calls):
        return [], "the export has more tokens for the answered calls than they told"
    lines = {line.request_id: line for line in billed.lines if line.request_id not in answered_ids}
    named = [(call, lines.pop(call.request_id)) for call in unknown if call.request_id in lines]
    absent = [call for call in unknown if call not in {call for call, _ in named}]
    # Once calls were found by their ids, one that has an id and is not listed was not billed.
    by_ids = bool(answered_ids or named)
    free = [call for call in absent if not lines or (call.request_id and by_ids)]
    kept = [call for call in absent if call not in free]
    if len(kept) == len(lines) == 1:
        named.append((kept.pop(), lines.popitem()[1]))
    charged = [_charged(call, line) for call, line in named]
    proofs = [proof for proof in charged if proof is not None]
    if kept:
        return [*proofs, *map(_free, free)], (
            f"{len(lines)} calls in the export are none of the answered ones, and {len(kept)} are unknown"
        )
    return [*proofs, *map(_free, free)], _UNPRICED if len(proofs) < len(charged) else ""


def _by_sums(calls: Calls, billed: Billed, export: Export, unknown: Sequence[Unknown]) -> Outcome:
    if not (export.has_requests or export.has_tokens):
        return [], "costs alone prove nothing. Compare with an export of requests or tokens"
    requests = billed.requests - calls.answered if export.has_requests else 0
    inputs = billed.input_tokens - calls.input_tokens if export.has_tokens else 0
    outputs = billed.output_tokens - calls.output_tokens if export.has_tokens else 0
    if min(requests, inputs, outputs) < 0:
        return [], (
            f"the vendor has less than was answered ({calls.answered:,} calls, {calls.input_tokens:,} tokens"
            f" in, {calls.output_tokens:,} out): the export is not complete, or of another key or project"
        )
    if not (requests or inputs or outputs):
        return [_free(call) for call in unknown], ""
    if len(unknown) == 1 and export.has_tokens and requests == (1 if export.has_requests else 0):
        cached = max(0, billed.cached_tokens - calls.cached_tokens)
        usage = Usage(inputs, min(cached, inputs), 0, outputs)
        proof = _priced(
            unknown[0], usage, billed.cost_nusd - calls.settled_nusd if export.has("cost_usd") else 0
        )
        return ([], _UNPRICED) if proof is None else ([proof], "")
    extra = f"{requests:,} calls" if export.has_requests else f"{inputs:,} tokens in and {outputs:,} out"
    return (
        [],
        f"the vendor has {extra} more than was answered, and cannot say which of the unknown calls they are",
    )


_UNPRICED: Final = (
    "the export has neither tokens nor costs of some calls, or they cost more than their worst case"
)


def _has_more_tokens(billed: Billed, calls: Calls) -> bool:
    return billed.input_tokens > calls.input_tokens or billed.output_tokens > calls.output_tokens


def _free(call: Unknown) -> Proof:
    return Proof(call, 0, UNBILLED)


def _charged(call: Unknown, line: Line) -> Proof | None:
    cost = nusd(line.cost_usd) if line.cost_usd is not None else 0
    if line.input_tokens is None or line.output_tokens is None:
        known = line.cost_usd is not None and cost <= call.booked_nusd
        return Proof(call, cost, BILLED) if known else None
    usage = Usage(
        line.input_tokens, line.cached_tokens or 0, line.cache_write_tokens or 0, line.output_tokens
    )
    return _priced(call, usage, cost)


def _priced(call: Unknown, usage: Usage, at_least_nusd: int) -> Proof | None:
    """The proof of a call that was charged; None if that is more than its worst case."""
    cost = max(cost_nusd(usage, call.prices), at_least_nusd)
    return Proof(call, cost, BILLED, usage) if cost <= call.booked_nusd else None


def _never_below_the_bill(outcome: Outcome, calls: Calls, billed: Billed, export: Export) -> Outcome:
    """The outcome, if the ledger still holds what the vendor charges afterwards.

    What is missing for the export's rounding alone stays booked on the calls that are settled.
    """
    proofs, reason = outcome
    if not proofs or not export.has("cost_usd"):
        return outcome
    left_nusd = calls.booked_nusd - sum(proof.returned_nusd for proof in proofs)
    short_nusd = max(0, billed.cost_nusd - left_nusd)
    if short_nusd > billed.rounding_nusd(export):
        return (
            [],
            "the vendor charges more for the answered calls than they cost at the prices stored with them",
        )
    raised = []
    for proof in proofs:
        more = min(short_nusd, proof.returned_nusd)
        short_nusd -= more
        raised.append(replace(proof, cost_nusd=proof.cost_nusd + more))
    return raised, reason

"""What makes a call dearer than its tokens at the list price: such a model is refused until it says so.

Reservations hold only if nothing in a request, and nothing in where it goes, costs more than the catalogue
knows. Every rule here names what the user can set to have the model all the same.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from decimal import Decimal
from typing import Any, Final
from urllib.parse import urlsplit

from batcher.catalog.models import ProviderInfo

Table = Mapping[str, Any]

_FREE_FIELDS: Final = frozenset(
    {
        *("temperature", "top_p", "top_k", "min_p", "typical_p", "seed", "random_seed", "stop", "logit_bias"),
        *("stop_sequences", "frequency_penalty", "presence_penalty", "repetition_penalty", "repeat_penalty"),
        *("reasoning_effort", "reasoning", "reasoning_format", "include_reasoning", "thinking", "verbosity"),
        *("logprobs", "top_logprobs", "user", "metadata", "store", "safety_identifier", "safety_model"),
        *(
            "prompt_cache_key",
            "prompt_cache_retention",
            "prompt_mode",
            "parallel_tool_calls",
            "output_config",
        ),
        *("chat_template_kwargs", "enable_thinking", "cache_prompt", "ignore_eos", "options", "keep_alive"),
        *("safe_prompt", "provider", "cache_control", "context_length_exceeded_behavior"),
    }
)
"""Request fields that no vendor in PROVIDERS charges for, or whose charge is counted elsewhere."""

_FREE_VALUES: Final[dict[str, dict[str, frozenset[str]]]] = {
    "service_tier": {
        "openai": frozenset({"default", "flex"}),
        "groq": frozenset({"auto", "on_demand", "flex"}),
        "anthropic": frozenset({"auto", "standard_only"}),
    },
    "inference_geo": {"anthropic": frozenset({"global"})},
    "speed": {"anthropic": frozenset({"standard"})},
}
"""Values that cost the list price or less, by field and vendor. OpenAI's ``auto`` is what the project
is set to, which may be priority; its ``flex`` costs half, Groq's as much as ``on_demand``."""

_UNBOUNDED_FIELDS: Final = frozenset(
    {
        *(
            "max_tokens",
            "max_completion_tokens",
            "n",
            "best_of",
            "model",
            "models",
            "route",
            "preset",
            "stream",
        ),
        *("messages", "system", "prompt", "tools", "functions", "tool_choice", "function_call", "plugins"),
        *("web_search_options", "search_parameters", "search_settings", "web_search", "enable_search"),
        *(
            "modalities",
            "audio",
            "prediction",
            "mcp_servers",
            "container",
            "context_management",
            "transforms",
        ),
        *("documents", "extra_body", "compound_custom"),
    }
)
"""Fields that add input or output which no reservation counts, buy searches or tools, or change the model."""

_LIMIT_LEAVES_REASONING_OUT: Final = frozenset(
    {"api.x.ai", "api.deepseek.com", "generativelanguage.googleapis.com", "openrouter.ai"}
)
"""Hosts whose output limit is not known to cover reasoning. Callers of Gemini measured one budget for both
and filed it as a bug, because Google's page on thinking keeps the two apart (googleapis/python-genai issue
2062, 2026-02); DeepSeek's page on its reasoner allowed up to 32K tokens of thought beyond ``max_tokens``; xAI
tells thought beside the completion; OpenRouter passes the limit on to hosts of all kinds."""

_UNCHARGED_WRITES: Final = (
    *("gpt-3", "gpt-4", "chatgpt-", "o1", "o3", "o4"),
    *("gpt-5-", "gpt-5.1", "gpt-5.2", "gpt-5.3", "gpt-5.4", "gpt-5.5"),
)
_FIVE_MINUTE_WRITE: Final = Decimal("1.25")
_HOUR_WRITE: Final = Decimal(2)


def cache_write_factor(info: ProviderInfo, table: Table) -> Decimal:
    """What writing to the vendor's cache costs, times the input price, where the table does not say.

    Anthropic charges 1.25 times the input for five minutes and twice for an hour; OpenAI charges 1.25 times
    from GPT-5.6 on and nothing before. OpenRouter passes on what its host charges.
    """
    model = str(table.get("id", ""))
    if _keeps_an_hour(table.get("extra")):
        return _HOUR_WRITE
    if info.kind == "anthropic" or info.name == "openrouter":
        return _FIVE_MINUTE_WRITE
    if info.name != "openai":
        return Decimal(1)
    old = model == "gpt-5" or model.startswith(_UNCHARGED_WRITES)
    return Decimal(1) if old else _FIVE_MINUTE_WRITE


def least_cache_write(table: Table, input_usd: Decimal) -> Decimal:
    """The least that a cache write of this model can cost, dollars: twice the input if it is kept an hour."""
    return _HOUR_WRITE * input_usd if _keeps_an_hour(table.get("extra")) else Decimal(0)


def with_bounding_fields(info: ProviderInfo, table: Table, extra: dict[str, Any]) -> dict[str, Any]:
    """``extra`` with the fields that keep a vendor from charging more than the price in the catalogue.

    OpenAI is told ``service_tier: default``, because a project may be set to priority. OpenRouter is told the
    most that a host may charge: the price, and nothing for the request or an image by itself.
    """
    if info.name == "openai":
        return {"service_tier": "default", **extra}
    if info.name != "openrouter":
        return extra
    routing = extra.get("provider")
    routing = dict(routing) if isinstance(routing, Mapping) else {}
    own = routing.get("max_price")
    most = {
        "prompt": float(table["input"]),
        "completion": float(table["output"]),
        "request": float(table.get("per_request", 0)),
    }
    if "vision" in table.get("abilities", ()):
        most["image"] = 0.0
    routing["max_price"] = {**most, **(own if isinstance(own, Mapping) else {})}
    return {**extra, "provider": routing}


def why_unbounded(info: ProviderInfo, table: Table, hosts: Collection[str]) -> str | None:
    """Why a reservation for this model would be no upper bound, with what to do about it; None if it is one.

    Args:
        info: its provider.
        table: its fields, those of the user laid over the built-in ones.
        hosts: where the provider answers, or would if no variable moved it.
    """
    if not any(Decimal(str(table.get(field, 0))) for field in ("input", "output", "per_request")):
        return None
    return next(_reasons(info, table, hosts), None)


def _reasons(info: ProviderInfo, table: Table, hosts: Collection[str]) -> Iterator[str]:
    extra = table.get("extra")
    extra = extra if isinstance(extra, Mapping) else {}
    is_told = table.get("price_percent") is not None or info.price_percent is not None
    for field, value in extra.items():
        yield from _dear_field(info, field, value, is_told=is_told)
    regional = [host for host in hosts if host.endswith(".api.openai.com")]
    if regional and not is_told:
        yield (
            f"{regional[0]} adds 10 % to the price of models released from 2026-03-05 on."
            f" Set price_percent = 110 (100 for older ones) under [providers.{info.name}] or for the model"
        )
    if "cache_control" in extra and info.kind != "anthropic" and "cache_write" not in table:
        yield "extra.cache_control makes it write to a cache. Set cache_write, its price"
    if info.name == "openrouter":
        yield from _dear_hosts(table, extra)
    if not _LIMIT_LEAVES_REASONING_OUT.isdisjoint(hosts) and not _is_reasoning_bounded(table, extra):
        yield (
            f"{info.name} is not known to count a model's thinking against the output limit. Set"
            " reasoning_beyond_limit: the most tokens that it can think (0 if it does not think)"
        )


def _dear_field(info: ProviderInfo, field: str, value: object, *, is_told: bool) -> Iterator[str]:
    if field in _UNBOUNDED_FIELDS:
        yield f"extra.{field} changes what a call costs in ways that no reservation covers. Take it out"
    if is_told or field in _FREE_FIELDS:
        return
    what_to_do = "Take it out, or set price_percent for the model (110 for 10 % more, 100 for no more)"
    free = _FREE_VALUES.get(field, {}).get(info.name, frozenset())
    if field not in _FREE_VALUES:
        yield f"extra.{field} is a field that may change the price. {what_to_do}"
    elif value not in free:
        said = f" ({', '.join(sorted(free))}: no more)" if free else ""
        yield f"extra.{field} = {value!r} can cost more than the list price{said}. {what_to_do}"


def _dear_hosts(table: Table, extra: Mapping[str, Any]) -> Iterator[str]:
    routing = extra.get("provider")
    most = routing.get("max_price") if isinstance(routing, Mapping) else None
    for ours, theirs in (("input", "prompt"), ("output", "completion"), ("per_request", "request")):
        allowed = most.get(theirs) if isinstance(most, Mapping) else None
        if allowed is not None and Decimal(str(allowed)) > Decimal(str(table.get(ours, 0))):
            yield f"extra.provider.max_price.{theirs} = {allowed} is above {ours}. Set {ours} to it"


def _is_reasoning_bounded(table: Table, extra: Mapping[str, Any]) -> bool:
    """Whether the table says how much it can think, or the request says that it must not."""
    if table.get("reasoning_beyond_limit") is not None or extra.get("reasoning_effort") == "none":
        return True
    for name, off in (("thinking", ("type", "disabled")), ("reasoning", ("effort", "none"))):
        told = extra.get(name)
        if isinstance(told, Mapping) and told.get(off[0]) == off[1]:
            return True
    return False


def _keeps_an_hour(value: Any) -> bool:
    """Whether a ``cache_control`` somewhere in ``extra`` asks for an hour."""
    if isinstance(value, Mapping):
        control = value.get("cache_control")
        if isinstance(control, Mapping) and control.get("ttl") == "1h":
            return True
        return any(_keeps_an_hour(part) for part in value.values())
    return any(_keeps_an_hour(part) for part in value) if isinstance(value, list) else False


def host_of(url: str | None) -> str:
    """The host name in an address, "" if there is none."""
    return urlsplit(url or "").hostname or ""

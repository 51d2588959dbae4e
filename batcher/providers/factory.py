"""Builds the provider that a catalogue entry describes, importing its SDK and no other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batcher.errors import CatalogError, ConfigurationError
from batcher.money import most_tokens
from batcher.providers.base import Provider
from batcher.providers.schemas import ANTHROPIC, OPENAI, Schema, as_it_is, rewritten

if TYPE_CHECKING:
    from batcher.catalog.models import ProviderInfo
    from batcher.providers.local.options import LocalOptions

_STRICT_PROVIDER = "openai"


def build_provider(
    info: ProviderInfo,
    api_key: str | None,
    base_url: str | None,
    *,
    max_connections: int,
    local: LocalOptions | None = None,
) -> Provider:
    """Make the provider; nothing is sent and nothing started yet.

    Args:
        info: the catalogue's entry.
        api_key: its key, None where the endpoint needs none.
        base_url: where it answers; None is ``info.base_url``, and else the SDK's default.
        max_connections: calls in flight at most.
        local: where weights lie and how to run them; needed for kind ``local``.

    Raises:
        ConfigurationError: if a key is missing, or the local tier's extra.
        CatalogError: if the kind is unknown.
    """
    url = base_url or info.base_url
    if info.kind == "local":
        from batcher.providers.local.provider import LocalProvider

        if local is None:
            raise ConfigurationError("The local tier needs a home folder. Set BATCHER_HOME or pass --home")
        return LocalProvider(local, limit_field=info.output_limit_field, max_connections=max_connections)
    if info.api_key_env and not api_key:
        raise ConfigurationError(f"{info.name} needs a key. Set {info.api_key_env}")
    if info.kind == "anthropic":
        from batcher.providers.anthropic_messages import AnthropicMessages

        return AnthropicMessages(url, api_key or "", max_connections=max_connections)
    if info.kind == "together":
        from batcher.providers.together_chat import TogetherChat

        return TogetherChat(
            url, api_key or "", limit_field=info.output_limit_field, max_connections=max_connections
        )
    if info.kind == "openai":
        from batcher.providers.openai_chat import OpenAIChat

        return OpenAIChat(
            url,
            api_key,
            limit_field=info.output_limit_field,
            strict=info.name == _STRICT_PROVIDER,
            max_connections=max_connections,
        )
    raise CatalogError(
        f"The provider {info.name} is of the unknown kind {info.kind!r}. "
        "Use openai, anthropic, together or local"
    )


def schema_bytes_as_sent(info: ProviderInfo, schema: Schema) -> int:
    """Bytes of ``schema`` as this provider's requests carry it, or of a longer normal form.

    A rewritten schema can be longer than the original: what a vendor cannot enforce moves into descriptions.
    """
    if info.kind == "anthropic":
        enforced = rewritten(schema, ANTHROPIC)
    elif info.name == _STRICT_PROVIDER:
        enforced = rewritten(schema, OPENAI) or as_it_is(schema)
    else:
        enforced = as_it_is(schema)
    return most_tokens(enforced.encoded.decode()) if enforced else 0

"""Any vendor's failure: which class of the closed set, how long to wait, whether it may have been billed.

Facts: the vendors' SDK sources (openai 3.51, anthropic 2.10 ``_error_classes.py``, together 3.1), their error
pages, and recorded answers, read 2026-11-20.

What may have been billed: an error answer of the vendor itself is not (``billed`` False). It is unknown
(None) for 408, 424, 460, 499, 502, 504, 520 and 524, which come from something in between that stopped
waiting for an answer that may have been generated; for other 5xx whose body is no vendor's error object, for
the same reason; and for an answer that failed the vendor's own schema check after it was generated (Groq's
``json_validate_failed``).
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import orjson

from batcher.domain import FailureClass
from batcher.providers.base import ProviderError
from batcher.providers.redaction import redact
from batcher.providers.retry_after import retry_after_s

_REFUSED_WORDS: Final = frozenset(
    {
        "content_filter",
        "responsibleaipolicyviolation",
        "content_policy_violation",
        "invalid_prompt",
        "flagged_input",
    }
)
_ACCOUNT_WORDS: Final = frozenset(
    {
        *(
            "insufficient_quota",
            "credit_balance_exhausted",
            "billing_hard_limit_reached",
            "billing_not_active",
        ),
        *(
            "organization_spend_limit_exceeded",
            "project_spend_limit_exceeded",
            "organization_usage_limit_exceeded",
        ),
        *(
            "enforced_spend_limit_reached",
            "contract_spend_limit_reached",
            "billing_error",
            "account_deactivated",
        ),
        *("linked_organization_spend_limit_reached", "linked_organization_billing_unavailable"),
        *("organization_on_hold", "invalid_api_key", "authentication_error", "permission_error"),
        *("api_key_invalid", "unauthenticated", "permission_denied", "credit_limit"),
        *("servicequotaexceededexception", "unrecognizedclientexception", "organization_restricted"),
    }
)
_TOO_LONG_WORDS: Final = frozenset(
    {
        *("context_length_exceeded", "too_many_tokens", "request_too_large", "exceed_context_size_error"),
        *("string_above_max_length", "input_too_long"),
    }
)
_OVERLOADED_WORDS: Final = frozenset(
    {
        "overloaded_error",
        "engine_overloaded",
        "resource_unavailable",
        "service_unavailable",
        "model_overloaded",
        "queue_exceeded",
        "over_capacity",
    }
)
_RATE_LIMITED_WORDS: Final = frozenset({"throttlingexception", "toomanyrequestsexception"})
"""AWS answers these with 400 as well as with 429."""
_MAY_MEAN_TOO_LONG: Final = frozenset({400, 403, 413, 422, 429, 500})
"""Together documents 403 for it; older llama.cpp and gateways say 500."""

_FAILED_ITS_OWN_CHECK: Final = frozenset({"json_validate_failed", "tool_use_failed"})

_ACCOUNT_SAID: Final = re.compile(
    r"(incorrect|invalid|expired|missing) api[ _]key|api key (not valid|is invalid|expired)"
    r"|credit balance is too low|insufficient (credit|balance|fund)|spend(ing)? limit|api calls / month"
    r"|(account|organization) (is |has been |was )?(suspended|restricted|deactivated|disabled)"
    r"|security token|used all available credits"
)
_TOO_LONG_SAID: Final = re.compile(
    r"context (length|window|size|limit)|prompt is too long|input is too long|too many (input )?tokens"
    r"|maximum prompt length|must have less than \d+ tokens|max_new_tokens. must be"
    r"|input tokens? (count|exceed)|input token count|number of (input )?tokens exceeds"
    r"|maximum number of (input )?tokens|reduce the length|^request too large"
)
_MORE_THAN_A_LIMIT: Final = re.compile(r"limit:? ([\d,]+)\b.{0,60}?\brequested:? ([\d,]+)", re.DOTALL)
"""Groq and OpenAI say how large a limit per minute is, and how much of it the request needs."""
_CAPACITY_SAID: Final = re.compile(
    r"capacity|overloaded|upstream|temporarily unavailable|too busy|model busy|high (traffic|demand|load)"
)
_REFUSED_SAID: Final = re.compile(
    r"flagged|content (management )?policy|usage (policy|guidelines)|moderation"
)
_OUTCOME_UNKNOWN: Final = frozenset({408, 424, 460, 499, 502, 504, 520, 524})


@dataclass(frozen=True, slots=True)
class VendorFault:
    """What an error body says: its words (codes and types, lower case), its message, its best code."""

    words: frozenset[str]
    message: str
    code: str
    is_error_object: bool


def classify_answer(
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    *,
    secrets: Sequence[str] = (),
    request_id: str = "",
    now: float | None = None,
) -> ProviderError:
    """Turn an answer with an error status into a classified error.

    Args:
        status: HTTP status, 300 or above.
        headers: lower-case names.
        body: as received.
        secrets: keys that must not appear in the message.
        request_id: the vendor's id of the call.
        now: Unix seconds, for tests; by default the answer's ``date``.
    """
    text = body.decode("utf-8", "replace")
    fault = read_fault(body)
    if told := headers.get("x-amzn-errortype", ""):
        fault = replace(fault, words=fault.words | {told.partition(":")[0].lower()})
    failure = _class_of(status, fault)
    failure = _heed_should_retry(failure, headers.get("x-should-retry", ""))
    billed: bool | None = False
    gateway = status >= 500 and status not in {503, 529} and not fault.is_error_object
    if status in _OUTCOME_UNKNOWN or gateway or failure is FailureClass.INVALID_OUTPUT:
        billed = None
    waits = failure in {FailureClass.RATE_LIMITED, FailureClass.OVERLOADED, FailureClass.TRANSIENT}
    return ProviderError(
        failure,
        redact(fault.message or _wordless(status, text), secrets),
        status=status,
        code=redact(fault.code, secrets, limit=100),
        retry_after_s=retry_after_s(headers, text, now, heed_resets=status == 429) if waits else None,
        billed=billed,
        headers=rate_headers(headers),
        request_id=request_id,
    )


def _class_of(status: int, fault: VendorFault) -> FailureClass:
    words, said = fault.words, fault.message.lower()
    for matches, failure in (
        (words & _FAILED_ITS_OWN_CHECK, FailureClass.INVALID_OUTPUT),
        (
            words & _REFUSED_WORDS or (status in {400, 403} and _REFUSED_SAID.search(said)),
            FailureClass.REFUSED,
        ),
        (words & _ACCOUNT_WORDS or (status < 500 and _ACCOUNT_SAID.search(said)), FailureClass.ACCOUNT),
        (words & _TOO_LONG_WORDS, FailureClass.TOO_LONG),
        (status in _MAY_MEAN_TOO_LONG and _too_long_by_words(status, said), FailureClass.TOO_LONG),
        (words & _OVERLOADED_WORDS or status in {503, 529}, FailureClass.OVERLOADED),
        (words & _RATE_LIMITED_WORDS, FailureClass.RATE_LIMITED),
    ):
        if matches:
            return failure
    if status in {429, 498}:  # Groq: 498 when its flex tier has no capacity
        return FailureClass.OVERLOADED if _CAPACITY_SAID.search(said) else FailureClass.RATE_LIMITED
    return _by_status(status)


def _too_long_by_words(status: int, said: str) -> bool:
    """Whether the message says so; a 429 counts only where no waiting will help."""
    if status != 429:
        return _TOO_LONG_SAID.search(said) is not None
    if said.startswith("request too large"):
        return True
    needs = _MORE_THAN_A_LIMIT.search(said)
    return needs is not None and _count(needs[2]) > _count(needs[1])


def _count(digits: str) -> int:
    return int(digits.replace(",", "") or "0")


def _by_status(status: int) -> FailureClass:
    if status in {401, 402, 403, 407, 412}:  # Fireworks: 412 for a suspended account
        return FailureClass.ACCOUNT
    if status == 413:
        return FailureClass.TOO_LONG
    if status in {408, 409, 423, 424, 425, 460, 499} or status >= 500:
        return FailureClass.TRANSIENT
    return FailureClass.BAD_REQUEST


def _heed_should_retry(failure: FailureClass, should_retry: str) -> FailureClass:
    """Obey ``x-should-retry``, which overrides the status in the vendors' SDKs."""
    if should_retry == "true" and failure is FailureClass.BAD_REQUEST:
        return FailureClass.TRANSIENT
    if should_retry == "false" and failure is FailureClass.RATE_LIMITED:
        return FailureClass.ACCOUNT
    if should_retry == "false" and failure is FailureClass.TRANSIENT:
        return FailureClass.BAD_REQUEST
    return failure


def read_fault(body: bytes) -> VendorFault:
    """Read an error body in any vendor's shape; text that is no JSON becomes the message."""
    try:
        value = load_json(body)
    except orjson.JSONDecodeError:
        return VendorFault(frozenset(), _plain(body.decode("utf-8", "replace")), "", False)
    if isinstance(value, list) and value:
        value = value[0]
    if not isinstance(value, dict):
        return VendorFault(frozenset(), str(value), "", False)
    inner = value.get("error")
    error = inner if isinstance(inner, dict) else value
    metadata = error.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    message = " ".join(
        part
        for part in (
            _first_text(
                error.get("message"), inner, error.get("detail"), value.get("detail"), value.get("message")
            )
            or _first_text(error.get("Message"), error.get("title")),
            _first_text(metadata.get("raw")),
        )
        if part
    )
    details, innererror = error.get("details"), error.get("innererror")
    codes = [details.get("error_code")] if isinstance(details, dict) else []
    if isinstance(details, list):
        codes += [part.get("reason") for part in details if isinstance(part, dict)]
    codes += [error.get(name) for name in ("code", "type", "status", "error_type", "error_code", "__type")]
    if isinstance(innererror, dict):
        codes.append(innererror.get("code"))
    texts = [code for code in codes if isinstance(code, str) and code not in {"error", ""}]
    is_error = bool(message or texts)
    return VendorFault(
        frozenset(text.lower() for text in texts), message, texts[0] if texts else "", is_error
    )


def _first_text(*values: Any) -> str:
    for value in values:
        if isinstance(value, str) and value:
            return value
        if isinstance(value, dict) and isinstance(value.get("error"), str):  # DeepInfra
            return str(value["error"])
        if isinstance(value, list | dict) and value:
            return orjson.dumps(value).decode()
    return ""


def load_json(body: bytes) -> Any:
    """Read JSON as UTF-8, with or without a byte order mark, as UTF-16 with one, else as Latin-1.

    Raises:
        orjson.JSONDecodeError: if it is none.
    """
    if body.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return orjson.loads(body.decode("utf-16", "replace"))
    body = body.removeprefix(codecs.BOM_UTF8)
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        if body.isascii() or _is_utf8(body):
            raise
        return orjson.loads(body.decode("latin-1"))


def _is_utf8(body: bytes) -> bool:
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return True


def _wordless(status: int, text: str) -> str:
    return f"HTTP {status}: {text}" if text.strip() else f"HTTP {status} with an empty body"


def _plain(text: str) -> str:
    """A proxy's HTML page as words."""
    return re.sub(r"<(script|style).*?</\1>|<[^>]*>", " ", text, flags=re.DOTALL | re.IGNORECASE).strip()


def rate_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """The headers that the limiter reads: limits, what remains, resets, and how long to wait."""
    return {
        name: value
        for name, value in headers.items()
        if "ratelimit" in name or name.startswith(("retry-after", "x-tokenlimit"))
    }

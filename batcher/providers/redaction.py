"""Takes keys out of vendors' words before they reach a log, a row or a screen."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

_HIDDEN: Final = "[key]"
_LIKE_A_KEY: Final = re.compile(
    r"""(?ix)
    (?: \b(?:proxy-)?authorization ["']? \s*[:=]\s* ["']? (?:bearer|basic|token)? \s* [^\s"',}]+
    | \bbearer \s+ [\w.~+/=*-]{6,}
    | \b(?:x-)?api[-_ ]?key ["']? \s*[:=]\s* ["']? [^\s"',}]+
    | (?<=key\ provided:\ ) [^\s"',}]+
    | (?<![\w-]) (?:sk|pk|rk|gsk|xai|tgp|fw|key|nvapi|hf) [-_] [\w*-]{8,}
    | (?<![\w-]) AIza [\w-]{20,}
    | (?<!\S) [\w-]* \*{3,} [\w*-]*
    )"""
)
_LEAST_SECRET_LENGTH: Final = 6


def redact(text: str, secrets: Sequence[str], *, limit: int = 500) -> str:
    """Hide every known secret and whatever looks like one, then cut to ``limit`` characters.

    Cutting comes last: half a key would no longer be recognised.
    """
    for secret in secrets:
        if len(secret) >= _LEAST_SECRET_LENGTH:
            text = text.replace(secret, _HIDDEN)
    text = _LIKE_A_KEY.sub(_HIDDEN, text)
    text = " ".join(text.split())
    return text if len(text) <= limit else text[: limit - 1] + "…"

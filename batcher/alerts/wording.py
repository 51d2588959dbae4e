"""Makes the words of alerts harmless: names of files and words of vendors come from others.

What is left is plain text that no channel takes for anything else: no line feed that begins a mail header,
no tag or link of HTML, Slack or Markdown, no mention that calls a whole channel, nothing that turns the
direction of writing.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final

TITLE_LENGTH: Final = 150
LINE_LENGTH: Final = 400
BODY_LINES: Final = 40
BODY_LENGTH: Final = 3_000
"""Characters at most. Where a channel takes less, apprise cuts."""

_OPEN: Final = "\N{SINGLE LEFT-POINTING ANGLE QUOTATION MARK}"
_CLOSE: Final = "\N{SINGLE RIGHT-POINTING ANGLE QUOTATION MARK}"
_LOOKALIKES: Final = str.maketrans({"<": _OPEN, ">": _CLOSE, "`": "'"})
_CALLS: Final = re.compile(r"@(?=everyone|here|channel|all\b)", re.IGNORECASE)
_LINK: Final = re.compile(r"\]\s*(?=[(\[])")


def one_line(text: str, length: int = TITLE_LENGTH) -> str:
    """Text as one harmless line of at most so many characters."""
    # Every character of a class that begins with C or Z, but for the plain space, controls or separates.
    spaced = "".join(char if unicodedata.category(char)[0] not in "CZ" else " " for char in text)
    plain = _LINK.sub("] ", _CALLS.sub("(at)", spaced.translate(_LOOKALIKES)))
    plain = " ".join(plain.split())
    return plain if len(plain) <= length else plain[: length - 1].rstrip() + "…"


def bounded_lines(text: str) -> str:
    """Text as at most 40 harmless lines, 3,000 characters in all."""
    lines = [one_line(line, LINE_LENGTH) for line in text.splitlines()[:BODY_LINES]]
    body = "\n".join(lines).strip("\n")
    return body if len(body) <= BODY_LENGTH else body[: BODY_LENGTH - 1].rstrip() + "…"

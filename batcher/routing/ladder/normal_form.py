"""When two answers are the same answer."""

from __future__ import annotations

from collections.abc import Iterable

_AT_THE_ENDS = " \t\r\n.,;:!?\"'`*()[]"


def normal_form(answer: str, classes: Iterable[str] = ()) -> str:
    """The form in which answers are compared: no capitals, no repeated blanks, no punctuation at the ends.

    Args:
        answer: as the model gave it.
        classes: normal forms of the task's possible answers, where these are few. An answer that begins with
            one and goes on after it ("no, because ...") is that one.
    """
    plain = " ".join(answer.casefold().split()).strip(_AT_THE_ENDS)
    if not plain or plain in (known := frozenset(classes)):
        return plain
    begun = [one for one in known if plain.startswith(one) and not plain[len(one)].isalnum()]
    return max(begun, key=len, default=plain)

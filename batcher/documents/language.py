"""In which language a text is written: py3langid (extra ``language``), 140 languages, under a millisecond."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from functools import cache
from typing import Final, cast

from batcher.errors import ConfigurationError

_READ_CHARS: Final = 2_000
"""So much of a text tells its language."""

_SURE: Final = 0.5
"""A guess that is less likely is none: one or two words, numbers, tables."""


def check_languages() -> None:
    """See that languages can be told on this machine.

    Raises:
        ConfigurationError: naming what to install.
    """
    if importlib.util.find_spec("py3langid") is None:
        raise ConfigurationError(
            "The task's rules ask for the language of documents, which needs one more package. Run: "
            "pip install 'batcher[language]'"
        )


def language_of(text: str) -> str | None:
    """The language of a text, ISO 639-1, or None if its beginning does not tell.

    Raises:
        ConfigurationError: if the extra ``language`` is not installed.
    """
    language, confidence = _classifier()(text[:_READ_CHARS])
    return language if confidence >= _SURE else None


@cache
def _classifier() -> Callable[[str], tuple[str, float]]:
    check_languages()
    from py3langid.langid import MODEL_FILE, LanguageIdentifier  # type: ignore[import-untyped]

    identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    return cast("Callable[[str], tuple[str, float]]", identifier.classify)

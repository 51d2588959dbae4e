"""A batcher.toml whose models answer as fast as they can."""

from __future__ import annotations

from typing import Final

_MODELS: Final = """
[models.gpt-4o-mini]
rpm = 1000000
tpm = 1000000000

[models.gpt-4o]
rpm = 1000000
tpm = 1000000000
"""

ONE_TIER: Final = f"""
[tiers]
economy = ["gpt-4o-mini"]
{_MODELS}"""
"""One tier of one model."""

TWO_TIERS: Final = f"""
[tiers]
economy = ["gpt-4o-mini"]
premium = ["gpt-4o"]
{_MODELS}"""
"""Two tiers of one model each."""

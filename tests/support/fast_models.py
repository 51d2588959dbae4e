"""A batcher.toml whose models answer as fast as they can."""

from __future__ import annotations

from typing import Final

TWO_TIERS: Final = """
[tiers]
economy = ["gpt-4o-mini"]
premium = ["gpt-4o"]

[models.gpt-4o-mini]
rpm = 1000000
tpm = 1000000000

[models.gpt-4o]
rpm = 1000000
tpm = 1000000000
"""
"""Two tiers of one model each."""

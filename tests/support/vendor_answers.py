"""The simulator's answers and schema rules, under the names that tests know."""

from __future__ import annotations

from batcher.simulator.answers import fitting_json
from batcher.simulator.schema_rules import claude_schema_fault, strict_schema_fault

__all__ = ["claude_schema_fault", "fitting_json", "strict_schema_fault"]

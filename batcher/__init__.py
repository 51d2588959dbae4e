"""Batch runner for documents and language models: capped spend, durable results, measured accuracy."""

from __future__ import annotations

__version__ = "0.1.0"

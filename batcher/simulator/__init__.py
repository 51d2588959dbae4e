"""A provider of language models on loopback: wire formats, limits, faults, latency, and a bill of its own.

It imports nothing of batcher but its errors: what checks batcher's arithmetic must not share it.
"""

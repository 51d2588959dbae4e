"""What a run says that it waits for."""

from __future__ import annotations

from batcher.engine.progress import Progress


async def test_of_several_items_that_back_off_the_one_that_waits_longest_is_named() -> None:
    progress = Progress()
    progress.item_waits("retrying openai after transient (broke)", 60.0)
    progress.item_waits("retrying openai after rate_limited (slow down)", 1.0)
    assert progress.waiting_reason({}) == "retrying openai after transient (broke): 60 s"
    progress.attempt_sent()
    assert progress.waiting_reason({}) is None, "a call is on its way"


async def test_each_wait_names_its_model_and_not_its_account() -> None:
    waits = {
        "gpt-4o-mini#3f9a": "rate limit: 30,000 tokens/min",
        "gpt-4.1#3f9a": "cooling down 4 s: openai 429",
    }
    assert Progress().waiting_reason(waits) == (
        "gpt-4.1: cooling down 4 s: openai 429; gpt-4o-mini: rate limit: 30,000 tokens/min"
    )

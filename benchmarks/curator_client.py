"""curator as its README shows it, in an environment of its own: ``curator_client.py --base-url URL ...``.

Only the part in which it calls and stores is measured, as with batcher: writing its request file before and
its dataset afterwards are left out.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import tempfile
from pathlib import Path
from typing import Any, Final

from measuring import WARM_UP_CALLS, Stopwatch, allow_open_files, documents, peak_rss_mb, report

MAX_TOKENS: Final = 600
UNREACHED_PER_MINUTE: Final = 60_000_000

os.environ |= {
    "OPENAI_API_KEY": "loopback",
    "TELEMETRY_ENABLED": "false",
    "CURATOR_VIEWER": "0",
    "CURATOR_DISABLE_RICH_DISPLAY": "1",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "HF_HUB_OFFLINE": "1",
}


def use_bundled_tokenizer() -> None:
    """Let tiktoken find the vocabulary that litellm carries, where it cannot be downloaded."""
    found = importlib.util.find_spec("litellm")
    if found is not None and found.origin is not None:
        folder = Path(found.origin).parent / "litellm_core_utils" / "tokenizers"
        os.environ.setdefault("TIKTOKEN_CACHE_DIR", str(folder))


def measured_phase() -> list[dict[str, float]]:
    """Put a stopwatch around the phase that calls and stores; a list that gets one reading per run."""
    from bespokelabs.curator.request_processor.online import base_online_request_processor

    processor = base_online_request_processor.BaseOnlineRequestProcessor
    inner = processor.process_requests_from_file
    readings: list[dict[str, float]] = []

    async def timed(self: Any, *positional: Any, **named: Any) -> None:
        watch = Stopwatch()
        await inner(self, *positional, **named)
        readings.append(watch.read())

    processor.process_requests_from_file = timed
    return readings


def main() -> None:
    """Run curator once to warm up and once for the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base-url", required=True, help="without /v1")
    parser.add_argument("--docs", type=int, required=True)
    parser.add_argument("--size", type=int, default=4_096, help="characters per document")
    parser.add_argument("--in-flight", type=int, required=True)
    arguments = parser.parse_args()
    allow_open_files(4 * arguments.in_flight + 256)
    use_bundled_tokenizer()
    from bespokelabs import curator

    readings = measured_phase()
    model = curator.LLM(
        model_name="gpt-4o-mini",
        backend="openai",
        generation_params={"max_tokens": MAX_TOKENS},
        backend_params={
            "base_url": f"{arguments.base_url}/v1",
            "max_concurrent_requests": arguments.in_flight,
            "max_requests_per_minute": UNREACHED_PER_MINUTE,
            "max_tokens_per_minute": UNREACHED_PER_MINUTE * 10_000,
            "max_retries": 0,
        },
    )
    with tempfile.TemporaryDirectory(prefix="curator-benchmark-") as folder:
        model(list(documents(WARM_UP_CALLS, arguments.size, seed=1)), working_dir=f"{folder}/warm-up")
        texts = list(documents(arguments.docs, arguments.size, seed=2))
        answered = model(texts, working_dir=f"{folder}/measured")
        if len(answered.dataset) != arguments.docs:
            raise RuntimeError(f"{len(answered.dataset)} of {arguments.docs} documents were answered")
    report(docs=arguments.docs, peak_rss_mb=peak_rss_mb(), **readings[-1])


if __name__ == "__main__":
    main()

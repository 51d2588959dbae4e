"""``batcher simulate``: a provider on this machine to rehearse against."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from batcher.cli.arguments import Finite
from batcher.cli.output import note

if TYPE_CHECKING:
    from batcher.simulator.core import Simulator

DUMMY_KEY: Final = "sk-simulated"
"""Any key will do; this one says what it is."""

VENDOR_PATHS: Final = {
    "OPENAI": "/v1",
    "ANTHROPIC": "",
    "TOGETHER": "/together/v1",
    "GROQ": "/groq/openai/v1",
    "MISTRAL": "/mistral/v1",
}
"""Where each vendor's SDK is to look, by the prefix of its variables."""


@click.command("simulate")
@click.option(
    "--port", type=click.IntRange(0, 65_535), default=0, help="Where to listen; 0 is any free port."
)
@click.option(
    "--latency-scale",
    type=Finite(0),
    default=1.0,
    show_default=True,
    help="Factor on the models' usual times; 0 answers at once.",
)
@click.option("--rpm", type=Finite(0, min_open=True), help="Requests a minute per key and model.")
@click.option("--tpm", type=Finite(0, min_open=True), help="Tokens a minute per key and model.")
@click.option(
    "--faults", type=click.Path(path_type=Path), metavar="FILE", help="A fault script, TOML or JSON."
)
@click.option(
    "--bill",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Append every request that was served, as JSON lines.",
)
@click.option(
    "--prices", type=click.Path(path_type=Path), metavar="FILE", help="Prices to lay over the built-in ones."
)
@click.option(
    "--token-bytes",
    type=Finite(0.25),
    default=4.0,
    show_default=True,
    help="Bytes per token; 1 is the dearest tokenizer there can be.",
)
@click.option("--cache", is_flag=True, help="Cache prompts that begin alike, as the vendors do.")
@click.option("--seed", type=int, default=0, show_default=True, help="The same seed, the same answers.")
def simulate(
    port: int,
    latency_scale: float,
    rpm: float | None,
    tpm: float | None,
    faults: Path | None,
    bill: Path | None,
    prices: Path | None,
    token_bytes: float,
    cache: bool,
    seed: int,
) -> None:
    """Serve all vendors' APIs on loopback, with limits, faults and a bill, until Ctrl-C.

    Prints the variables that lead batcher, or any vendor's SDK, to it. Nothing leaves this machine, and
    nothing costs anything. Limits and faults can be changed while it runs: see docs/simulator.md.
    """
    import asyncio

    from batcher.simulator.core import Simulator, SimulatorConfig
    from batcher.simulator.faults import read_faults
    from batcher.simulator.prices import PriceFile
    from batcher.simulator.rate_limits import Limits
    from batcher.simulator.server import serve

    config = SimulatorConfig(latency_scale=latency_scale, token_bytes=token_bytes, cache=cache, seed=seed)
    simulator = Simulator(config, Limits(rpm=rpm, tpm=tpm), prices=PriceFile.load(prices), bill_path=bill)
    if faults is not None:
        simulator.faults.add(read_faults(faults))
    asyncio.run(serve(simulator, port, _announce))
    _report(simulator)


def _announce(port: int) -> None:
    root = f"http://127.0.0.1:{port}"
    for name, path in VENDOR_PATHS.items():
        click.echo(f"export {name}_BASE_URL={root}{path} {name}_API_KEY={DUMMY_KEY}")
    note(f"Simulating vendors on {root}. The bill so far: {root}/_bill. Stop with Ctrl-C")


def _report(simulator: Simulator) -> None:
    from batcher.money import format_usd

    totals = simulator.bill.totals()
    statuses = ", ".join(f"{count:,} x {status}" for status, count in totals["statuses"].items())
    note(
        f"Served {totals['calls']:,} requests ({statuses or 'none'}), charged {totals['billed']:,} of them"
        f" {format_usd(totals['cost_nusd'])}"
    )
    if totals["unpriced"]:
        note(
            f"{totals['unpriced']:,} requests were for models that the price file does not know: they are not"
            " in that sum. Give their prices with --prices FILE"
        )

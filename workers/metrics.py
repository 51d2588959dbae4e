"""What Prometheus reads from a worker process."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from batcher.dispatch.celery_app import queue_of
from batcher.dispatch.waking import Waker
from batcher.errors import BatcherError
from batcher.money import nusd_to_usd

if TYPE_CHECKING:
    from prometheus_client.core import Metric

    from workers.process import WorkerProcess

_log = logging.getLogger("batcher.metrics")
_DOLLARS: Final = "US dollars"


class ProcessMetrics:
    """Counters of one process's engines; the caps and the queues, which every process sees alike.

    Args:
        process: whose.
        waker: asked for the depths of the queues.
    """

    def __init__(self, process: WorkerProcess, waker: Waker) -> None:
        self._process = process
        self._waker = waker

    def collect(self) -> Iterator[Metric]:
        """Everything, read afresh."""
        yield from _counted(self._process.counters())
        yield from self._waits()
        try:
            yield from self._caps()
            yield from self._queues()
        except BatcherError as error:
            _log.warning("metrics are incomplete: %s", error)

    def _waits(self) -> Iterator[Metric]:
        from prometheus_client.core import GaugeMetricFamily

        engine = self._process.engine
        in_flight = GaugeMetricFamily("batcher_calls_in_flight", "Calls on their way")
        in_flight.add_metric([], engine.progress.in_flight if engine is not None else 0)
        yield in_flight
        waits = GaugeMetricFamily(
            "batcher_limiter_waits",
            "1 for each model whose calls wait now, and why",
            labels=["model", "reason"],
        )
        for key, reason in (self._process.ask_engine(lambda engine: engine.waits()) or {}).items():
            waits.add_metric([key.partition("#")[0], reason.split(" ")[0]], 1)
        yield waits

    def _caps(self) -> Iterator[Metric]:
        from prometheus_client.core import GaugeMetricFamily

        names = ("cap", "spent", "reserved", "left")
        gauges = {
            name: GaugeMetricFamily(f"batcher_budget_{name}_usd", f"{_DOLLARS}, by cap", labels=["scope"])
            for name in names
        }
        ledger = self._process.runtime.ledger
        with self._process.runtime.store.read() as connection:
            balances = ledger.capped(connection, ledger.current_day(connection))
        for balance in balances:
            amounts = (balance.cap_nusd, balance.spent_nusd, balance.reserved_nusd, balance.room_nusd)
            for name, amount in zip(names, amounts, strict=True):
                if amount is not None:
                    gauges[name].add_metric([balance.account.scope], float(nusd_to_usd(amount)))
        yield from gauges.values()

    def _queues(self) -> Iterator[Metric]:
        from prometheus_client.core import GaugeMetricFamily

        depth = GaugeMetricFamily(
            "batcher_queue_messages", "Messages that wait in a tier's queue", labels=["tier"]
        )
        for tier in self._process.tiers:
            depth.add_metric([tier], self._waker.depth(queue_of(tier)))
        yield depth


def serve_metrics(process: WorkerProcess, waker: Waker, port: int) -> None:
    """Answer ``/metrics`` on all interfaces of this host, in a thread of its own.

    A port that is taken is said in the log, and the worker works on.
    """
    from prometheus_client import CollectorRegistry, start_http_server

    registry = CollectorRegistry(auto_describe=False)
    registry.register(ProcessMetrics(process, waker))
    try:
        start_http_server(port, registry=registry)
    except OSError as error:
        _log.error("no metrics on port %d: %s", port, error.strerror)
        return
    _log.info("metrics on port %d", port)


def _counted(counters: Counter[str]) -> Iterator[Metric]:
    from prometheus_client.core import CounterMetricFamily

    documents = CounterMetricFamily(
        "batcher_documents", "Documents that this process brought to an end", labels=["status"]
    )
    documents.add_metric(["done"], counters["done"])
    documents.add_metric(["failed"], counters["failed"])
    yield documents
    attempts = CounterMetricFamily("batcher_attempts", "Calls that ended, by class", labels=["outcome"])
    for name, count in counters.items():
        if name.startswith("outcome:"):
            attempts.add_metric([name.removeprefix("outcome:")], count)
    yield attempts
    tokens = CounterMetricFamily("batcher_tokens", "Tokens as vendors counted them", labels=["direction"])
    tokens.add_metric(["input"], counters["input_tokens"])
    tokens.add_metric(["output"], counters["output_tokens"])
    yield tokens
    spend = CounterMetricFamily("batcher_spend_usd", f"{_DOLLARS} that this process booked")
    spend.add_metric([], float(nusd_to_usd(counters["cost_nusd"])))
    yield spend

"""Whether the metrics that a worker is to show can be shown here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batcher.errors import ConfigurationError

if TYPE_CHECKING:
    from batcher.settings import Settings


def check_metrics(settings: Settings) -> None:
    """Raise ConfigurationError if metrics are asked for, and what shows them is not installed."""
    if settings.metrics_port is None:
        return
    try:
        import prometheus_client  # noqa: F401
    except ImportError:
        raise ConfigurationError(
            f"Metrics on port {settings.metrics_port} need a package that is not installed. Install it: "
            "pip install 'batcher[metrics]', or unset metrics_port (BATCHER_METRICS_PORT)"
        ) from None

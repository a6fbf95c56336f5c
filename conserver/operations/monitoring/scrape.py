"""Renders a scrape as text, in Prometheus's format, or in OpenMetrics if the Accept header asks."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, NamedTuple

from conserver.errors import BootError

if TYPE_CHECKING:
    from prometheus_client.registry import Collector


class Scrape(NamedTuple):
    """The answer to a scrape."""

    body: bytes
    content_type: str


def check_extra() -> None:
    """Raise BootError if the extra `metrics` is not installed. Does not import it."""
    if find_spec("prometheus_client") is None:
        raise BootError(
            "CONSERVER_METRICS_PORT needs the extra `metrics` (pip install 'conserver[metrics]')"
        )


def scrape(collector: Collector, accept: str = "") -> Scrape:
    """Render the families of a collector. Passes the collector's exceptions on.

    Args:
        accept: the Accept header of the request.
    """
    from prometheus_client import CollectorRegistry
    from prometheus_client.exposition import choose_encoder

    registry = CollectorRegistry(auto_describe=False)
    registry.register(collector)
    encode, content_type = choose_encoder(accept)
    return Scrape(encode(registry), content_type)

"""Serves the metrics on CONSERVER_METRICS_PORT; imported only if that setting has a value."""

from __future__ import annotations

from typing import TYPE_CHECKING

from conserver.errors import OperationError
from conserver.operations.connection import redis_client
from conserver.operations.monitoring.host import Host, HostMetrics
from conserver.operations.monitoring.queues import QueueMetrics
from conserver.operations.monitoring.scrape import Scrape, scrape
from conserver.operations.monitoring.server import MetricsServer

if TYPE_CHECKING:
    from conserver.coordinator.ages import Ages
    from conserver.coordinator.host_status import HostStatus
    from conserver.process.boot import Boot

REDIS_TIMEOUT_S = 5.0


class CoordinatorMetrics:
    """Serves /metrics from shared memory, and /metrics/queues with one connection per scrape."""

    def __init__(self, boot: Boot, host_status: HostStatus, ages: Ages) -> None:
        self._boot = boot
        self._host_status = host_status
        self._ages = ages
        self._storages = sorted(boot.config.used_storages)

    async def run(self) -> None:
        """Serve until cancelled."""
        assert self._boot.listener is not None
        pages = {"/metrics": self._host, "/metrics/queues": self._queues}
        await MetricsServer(self._boot.listener, pages).run()

    def _host(self, accept: str) -> Scrape:
        host = Host(
            supervisor=self._host_status.supervisor,
            workers=self._host_status.workers(),
            storages=self._storages,
            redis_up=self._ages.redis_up,
            round_trip_s=self._ages.round_trip_s,
        )
        statuses = [*self._boot.statuses, *self._boot.other_statuses]
        return scrape(HostMetrics(statuses, host), accept)

    def _queues(self, accept: str) -> Scrape:
        """Render /metrics/queues. Raises OperationError if Redis does not answer, or refuses."""
        with redis_client(self._boot.settings, REDIS_TIMEOUT_S) as client:
            try:
                return scrape(QueueMetrics(client, list(self._boot.config.ingress)), accept)
            except ValueError as error:  # Somebody has edited a host's hash.
                raise OperationError(
                    f"what a host tells cannot be read: {error}", "failed"
                ) from None

"""The coordinator: one asyncio process per host. It does all work in Redis except processing items.

Begin with coordinator.py, which starts the duties below and ends them in order.

    registry.py              registers the workers' consumers; returns the items of dead ones
    data_loss.py             notices that Redis came back empty, or older than it was
    host_status.py           the status of this host, which each heartbeat writes to Redis
    list_waiters.py          waits in Redis for the next item of each list (BLMOVE)
    idle_workers.py          which workers are idle; wakes one of them
    suspects.py              orders a worker to finish its items, so that a suspect can run alone
    housekeeping.py          requeues parked items that are due; expires old dead-letter reasons
    history_recorder.py      records depth, rate and duration of each list every ten seconds
    chain_counts.py          adds up the workers' counts per chain and link
    metrics.py               serves the metrics, if a port is set
    ages.py                  samples the age of the oldest waiting item of each list
    schedules.py             fires the schedules of the configuration when they are due
    schedule_run.py          the child process for a schedule's long action
    reaper.py                detects dead hosts and returns the items of their workers
    orphans.py               ends the workers after the supervisor was killed
    boot_check.py            the first contact with Redis: a bounded wait, a clear error
    connections.py           connections to Redis; commands are repeated until they are answered

An unhandled error in any duty ends the process, and the supervisor starts a new coordinator.
Workers go on meanwhile. While Redis is away, every duty waits for it.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from conserver.process.boot import Boot


def main(boot: Boot) -> None:
    """Run the coordinator until the supervisor orders it to drain, or is gone.

    Raises:
        BootError: Redis cannot be used.
    """
    from conserver.coordinator.coordinator import Coordinator

    asyncio.run(Coordinator(boot).run())

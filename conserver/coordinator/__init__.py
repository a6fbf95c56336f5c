"""The coordinator: one asyncio process per host for all work in Redis that is not processing items.

Begin with coordinator.py: it starts the duties below as tasks of one group and ends them in order.

    registry.py              registers the workers' consumers; returns the items of dead ones
    data_loss.py             notices that Redis came back empty, or older than it was
    host_status.py           what a heartbeat writes about this host, for status and API
    list_waiters.py          waits in Redis for the next item of each list (BLMOVE)
    idle_workers.py          which workers are idle; wakes one of them
    suspects.py              has a worker finish its items when suspects wait, which must run alone
    housekeeping.py          requeues parked items that are due; expires old dead-letter reasons
    history.py               writes down how much waits and is done, every ten seconds
    chain_counts.py          what the workers have counted per chain, for that
    metrics.py               serves the metrics, where they have a port
    ages.py                  looks how old the oldest waiting item of each list is
    schedules.py             fires what the configuration wants at fixed times
    schedule_run.py          the process of an action that takes longer than a script
    reaper.py                detects dead hosts and returns the items of their workers
    orphans.py               waits for the workers when the supervisor was killed, then kills them
    boot_check.py            the first contact with Redis: a bounded wait, a clear error
    retrying_connection.py   connections to Redis; commands are repeated until they are answered

An error that no duty handles ends the process; the supervisor starts another one, and workers go
on meanwhile. While Redis is away every duty waits for it, and the coordinator still shows that it
is alive.
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

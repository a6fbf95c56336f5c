"""The coordinator: one asyncio process per host that keeps house in Redis, so that workers only
work.

1. Registers the supervisor's workers, and gives back what dead ones held     registry.py
2. Beats, and says with it what the status shows                              status.py
3. Holds the bells: an idle worker hears of an item the moment it is pushed    bells.py, roster.py
4. Empties a worker when suspects wait, each of which must run alone           suspects.py
5. Sends due parked items back to work, and sweeps old reasons                 chores.py
6. Watches the other hosts, and returns what a dead one held                   reaper.py
7. Outlives a killed supervisor just long enough to leave nothing behind       survivors.py

coordinator.py lets these duties live and end together. An error that none of them expects ends the
process: the supervisor replaces it, and workers go on meanwhile. While Redis is away every duty
waits for it (line.py), and the page is stamped all the same.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from conserver.process.boot import Boot


def main(boot: Boot) -> None:
    """Keep house until the supervisor says drain, or is gone.

    Raises:
        BootError: Redis cannot be used.
    """
    from conserver.coordinator.coordinator import Coordinator

    asyncio.run(Coordinator(boot).run())

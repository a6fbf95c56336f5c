"""Orphans: the workers of a supervisor that was killed. They end by themselves, or are killed.

Every worker notices the end of its supervisor, releases the items that it has not started, and
exits. A worker that is stuck in a link is killed after ORPHAN_TIMEOUT_S, so that no orphan works
on. A worker is gone if its pidfd says so or its socket has ended: the supervisor held the worker's
end of that socket too, so its end means that both are gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import signal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from conserver.coordinator.idle_workers import IdleWorkers
    from conserver.process.messages import Message
    from conserver.telemetry.log import Logger

ORPHAN_TIMEOUT_S = 2.0
KILL_TIMEOUT_S = 1.0
"""How long a killed process may take to be gone. It takes longer only if the kernel holds it."""
_POLL_EVERY_S = 0.01


class Orphans:
    """The worker processes, as the supervisor's state messages name them."""

    def __init__(self, idle_workers: IdleWorkers, log: Logger) -> None:
        self._idle_workers = idle_workers
        self._log = log
        self._pidfds: dict[int, tuple[int, int]] = {}  # slot -> (pid, pidfd)

    def read_state(self, message: Message) -> None:
        """Learn from the supervisor's state message which process is in which slot.

        The pidfd is opened now, while the process lives and its pid cannot be another's.
        """
        for worker in message.get("workers", ()):
            slot, pid = worker["slot"], worker["pid"]
            known = self._pidfds.get(slot)
            if known is not None and known[0] == pid:
                continue
            if known is not None:
                os.close(known[1])
                del self._pidfds[slot]
            if pid:
                with contextlib.suppress(ProcessLookupError):
                    self._pidfds[slot] = (pid, os.pidfd_open(pid))

    async def end(self) -> None:
        """Wait until all workers are gone; kill those that are left after ORPHAN_TIMEOUT_S."""
        if await self._gone_within(ORPHAN_TIMEOUT_S):
            return
        for slot, (pid, pidfd) in self._left().items():
            self._log.warning("orphan_killed", worker=slot, pid=pid)
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        if not await self._gone_within(KILL_TIMEOUT_S):
            self._log.error("orphans_left", workers=sorted(self._left()))

    def close(self) -> None:
        """Close all pidfds."""
        for _, pidfd in self._pidfds.values():
            os.close(pidfd)
        self._pidfds.clear()

    async def _gone_within(self, timeout_s: float) -> bool:
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + timeout_s
        while self._left():
            if loop.time() >= deadline_s:
                return False
            await asyncio.sleep(_POLL_EVERY_S)
        return True

    def _left(self) -> dict[int, tuple[int, int]]:
        return {
            slot: (pid, pidfd)
            for slot, (pid, pidfd) in self._pidfds.items()
            if slot not in self._idle_workers.gone and not _has_ended(pidfd)
        }


def _has_ended(pidfd: int) -> bool:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(0))

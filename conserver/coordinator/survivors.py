"""The survivors of a killed supervisor: they end by themselves, or are ended.

Every worker sees the end of the supervisor as the coordinator does, gives back what it had not
begun,
and ends. One that hangs in a link is killed when its time is up, so that no orphan works on. A
worker's pidfd tells that it is gone, or its socket: the supervisor held the other end too, so the
end of that socket means that both are gone.
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

PATIENCE_S = 2.0
BURIAL_S = 1.0
"""How long a killed process may take to be gone; longer only if the kernel holds it."""
_POLL_S = 0.01


class Survivors:
    """The workers' processes, known from the supervisor's state messages."""

    def __init__(self, idle_workers: IdleWorkers, log: Logger) -> None:
        self._idle_workers = idle_workers
        self._log = log
        self._pidfds: dict[int, tuple[int, int]] = {}  # slot -> (pid, pidfd)

    def hear(self, message: Message) -> None:
        """The supervisor's state message: which process sits in which slot.

        The pidfd is opened now, while the process is alive and its number is its own.
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
        """Wait until all are gone, kill what is left when their time is up."""
        if await self._gone_within(PATIENCE_S):
            return
        for slot, (pid, pidfd) in self._left().items():
            self._log.warning("orphan_killed", worker=slot, pid=pid)
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        if not await self._gone_within(BURIAL_S):
            self._log.error("orphans_left", workers=sorted(self._left()))

    def close(self) -> None:
        """Give the descriptors back."""
        for _, pidfd in self._pidfds.values():
            os.close(pidfd)
        self._pidfds.clear()

    async def _gone_within(self, timeout_s: float) -> bool:
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + timeout_s
        while self._left():
            if loop.time() >= deadline_s:
                return False
            await asyncio.sleep(_POLL_S)
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

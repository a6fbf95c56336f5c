"""Orphans: the children of a supervisor that was killed. They end by themselves, or are killed.

A worker releases the items that it has not started, and exits. If it is stuck in a link, the
coordinator kills it after ORPHAN_TIMEOUT_S. A worker is gone if its pidfd says so, or if its socket
was closed (IdleWorkers.gone).

A service (the API, a transcriber) finishes its requests, and exits. If it is stuck, the coordinator
kills it after the time that a stop would give it, because it would keep its port.
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
"""How long a killed process may take to end. It takes longer only if it hangs in the kernel."""
_POLL_EVERY_S = 0.01


Processes = dict[int | str, tuple[int, int]]
"""Slot of a worker or name of a service -> (pid, pidfd)."""


class Orphans:
    """The supervisor's child processes, which its state messages name."""

    def __init__(self, idle_workers: IdleWorkers, log: Logger) -> None:
        self._idle_workers = idle_workers
        self._log = log
        self._workers: Processes = {}
        self._services: Processes = {}

    def read_state(self, message: Message) -> None:
        """Learn from the supervisor's state message which process is in which slot.

        The pidfds are opened while the processes live, so that no pid belongs to another process.
        """
        for worker in message.get("workers", ()):
            _learn(self._workers, worker["slot"], worker["pid"])
        services = {one["name"]: one["pid"] for one in message.get("services", ())}
        for name in self._services.keys() | services.keys():
            _learn(self._services, name, services.get(name, 0))

    async def end(self) -> None:
        """Wait until all workers are gone; kill those that are left after ORPHAN_TIMEOUT_S."""
        await self._end(self._workers, ORPHAN_TIMEOUT_S)

    async def end_services(self, timeout_s: float) -> None:
        """Wait until all services are gone; kill those that are left after `timeout_s`."""
        await self._end(self._services, timeout_s)

    def close(self) -> None:
        """Close all pidfds."""
        for known in (self._workers, self._services):
            for _, pidfd in known.values():
                os.close(pidfd)
            known.clear()

    async def _end(self, known: Processes, timeout_s: float) -> None:
        for name, (pid, pidfd) in (await self._left_after(known, timeout_s)).items():
            self._log.warning("orphan_killed", child=_shown(name), pid=pid)
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        if left := await self._left_after(known, KILL_TIMEOUT_S):
            self._log.error("orphans_left", children=[_shown(name) for name in left])

    async def _left_after(self, known: Processes, timeout_s: float) -> Processes:
        """Wait until all of these processes are gone. Returns those that are left after
        `timeout_s`.
        """
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + timeout_s
        while left := {
            name: process
            for name, process in known.items()
            if name not in self._idle_workers.gone and not _has_ended(process[1])
        }:
            if loop.time() >= deadline_s:
                break
            await asyncio.sleep(_POLL_EVERY_S)
        return left


def _learn(known: Processes, name: int | str, pid: int) -> None:
    """Note the process of a slot or service; pid 0: it has no process now."""
    before, pidfd = known.get(name, (0, -1))
    if before == pid:
        return
    if before:
        os.close(pidfd)
        del known[name]
    if pid:
        with contextlib.suppress(ProcessLookupError):
            known[name] = (pid, os.pidfd_open(pid))


def _shown(name: int | str) -> str:
    return f"worker {name}" if isinstance(name, int) else name


def _has_ended(pidfd: int) -> bool:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(0))

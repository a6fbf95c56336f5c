"""What the children of one supervisor share: made before the first of them, one set per slot.

A slot is a place, not a person: its page and its sockets stay while the children in it come and
go, so a replacement needs nothing new, and nobody else has to be told of new descriptors. The
lifeline is a pipe whose other end only the supervisor holds: it ends when the supervisor does, and
everybody sees that.
"""

from __future__ import annotations

import os
import socket

from conserver.config.model import Config
from conserver.config.settings import Settings
from conserver.process.boot import Boot
from conserver.process.messages import discard, pair
from conserver.process.shared_status import SharedStatus


class Slot:
    """The place of one child: its page, and both ends of its sockets."""

    def __init__(self, number: int, worker_end: socket.socket | None = None) -> None:
        """
        Args:
            number: 1..N for a worker, 0 for the coordinator.
            worker_end: a worker's end of the sockets to the coordinator.
        """
        self.number = number
        self.status = SharedStatus.create(f"page-{number}")
        self.ours, self.theirs = pair()
        self.worker_end = worker_end

    def renew(self) -> None:
        """Make it as new for the next child: what was meant for the dead one is thrown away."""
        self.status.reset()
        discard(self.theirs)
        if self.worker_end is not None:
            discard(self.worker_end)

    def close(self) -> None:
        """Give everything back."""
        self.status.close()
        for end in (self.ours, self.theirs, self.worker_end):
            if end is not None:
                end.close()


class SharedResources:
    """All slots of one supervisor, its lifeline, and the id under which Redis knows it."""

    def __init__(self, workers: int) -> None:
        self.host = os.urandom(8).hex()
        lines = [pair() for _ in range(workers)]
        self._coordinator_ends = [coordinator_end for coordinator_end, _ in lines]
        self.workers = [Slot(number, line[1]) for number, line in enumerate(lines, 1)]
        self.coordinator = Slot(0)
        self._lifeline, self._lifeline_end = os.pipe2(os.O_CLOEXEC)

    @property
    def statuses(self) -> tuple[SharedStatus, ...]:
        """Every page."""
        return (self.coordinator.status, *(slot.status for slot in self.workers))

    def boot(self, slot: Slot, consumer: str, config: Config, settings: Settings) -> Boot:
        """What the next child in this slot gets; `consumer` is empty for the coordinator."""
        is_coordinator = slot is self.coordinator
        return Boot(
            role="coordinator" if is_coordinator else "worker",
            slot=slot.number,
            workers=len(self.workers),
            host=self.host,
            consumer=consumer,
            config=config,
            settings=settings,
            orders=slot.theirs,
            coordinator=slot.worker_end,
            worker_ends=list(self._coordinator_ends) if is_coordinator else [],
            status=slot.status,
            statuses=[worker.status for worker in self.workers] if is_coordinator else [],
            lifeline=self._lifeline,
        )

    def cut_lifeline(self) -> None:
        """Let the children see the end of the supervisor."""
        if self._lifeline_end >= 0:
            os.close(self._lifeline_end)
            self._lifeline_end = -1

    def close(self) -> None:
        """Give everything back; no child is left."""
        self.cut_lifeline()
        os.close(self._lifeline)
        for slot in (self.coordinator, *self.workers):
            slot.close()
        for end in self._coordinator_ends:
            end.close()

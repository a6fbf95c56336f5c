"""What the children of one supervisor share: made before the first of them, one set per slot.

A slot is a place, not a person: its page and its sockets stay while the children in it come and
go, so a replacement needs nothing new, and nobody else has to be told of new descriptors. The
lifeline is a pipe whose other end only the supervisor holds: it ends when the supervisor does, and
everybody sees that.
"""

from __future__ import annotations

import os
import socket

from conserver.boot import Boot, discard, pair
from conserver.config import Config
from conserver.page import Page
from conserver.settings import Settings


class Slot:
    """The place of one child: its page, and both ends of its sockets."""

    def __init__(self, number: int, worker_end: socket.socket | None = None) -> None:
        """
        Args:
            number: 1..N for a worker, 0 for the steward.
            worker_end: a worker's end of the sockets to the steward.
        """
        self.number = number
        self.page = Page.create(f"page-{number}")
        self.ours, self.theirs = pair()
        self.worker_end = worker_end

    def renew(self) -> None:
        """Make it as new for the next child: what was meant for the dead one is thrown away."""
        self.page.reset()
        discard(self.theirs)
        if self.worker_end is not None:
            discard(self.worker_end)

    def close(self) -> None:
        """Give everything back."""
        self.page.close()
        for end in (self.ours, self.theirs, self.worker_end):
            if end is not None:
                end.close()


class Household:
    """All slots of one supervisor, its lifeline, and the id under which Redis knows it."""

    def __init__(self, workers: int) -> None:
        self.host = os.urandom(8).hex()
        lines = [pair() for _ in range(workers)]
        self._steward_ends = [steward_end for steward_end, _ in lines]
        self.workers = [Slot(number, line[1]) for number, line in enumerate(lines, 1)]
        self.steward = Slot(0)
        self._lifeline, self._lifeline_end = os.pipe2(os.O_CLOEXEC)

    @property
    def pages(self) -> tuple[Page, ...]:
        """Every page."""
        return (self.steward.page, *(slot.page for slot in self.workers))

    def boot(self, slot: Slot, consumer: str, config: Config, settings: Settings) -> Boot:
        """What the next child in this slot gets; `consumer` is empty for the steward."""
        is_steward = slot is self.steward
        return Boot(
            role="steward" if is_steward else "worker",
            slot=slot.number,
            workers=len(self.workers),
            host=self.host,
            consumer=consumer,
            config=config,
            settings=settings,
            orders=slot.theirs,
            steward=slot.worker_end,
            worker_ends=list(self._steward_ends) if is_steward else [],
            page=slot.page,
            pages=[worker.page for worker in self.workers] if is_steward else [],
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
        for slot in (self.steward, *self.workers):
            slot.close()
        for end in self._steward_ends:
            end.close()

"""Checkpoints: an item's document and progress are written to Redis before all its links have run.

The next attempt begins with the document of the checkpoint, and with the first link that was not
done. A chain thread makes a checkpoint when a link asks for one, and after every link that is
costly or took over a second, unless that link is the chain's last:

    chain thread    WorkerInbox.checkpoint queues a Checkpoint and blocks
    worker loop     Outbox.write_checkpoint writes it and calls finish()
    chain thread    goes on, or raises the error that finish() was given
"""

from __future__ import annotations

import threading

from conserver.worker.item import Item


class StartAnew(BaseException):
    """A checkpoint found another document in Redis, and the item must start anew from it (see
    conflicts.py).

    This is a BaseException, so that a link that catches every Exception does not go on with the old
    document.
    """


class TakenAway(BaseException):
    """A checkpoint found that another consumer has the item. A BaseException like StartAnew."""


class Checkpoint:
    """A chain thread's request for a write. The thread blocks until the loop calls finish()."""

    __slots__ = ("error", "finished", "item")

    def __init__(self, item: Item) -> None:
        self.item = item
        self.finished = threading.Event()
        self.error: BaseException | None = None

    def finish(self, error: BaseException | None = None) -> None:
        """Let the chain thread go on, or raise `error` in it."""
        self.error = error
        self.finished.set()

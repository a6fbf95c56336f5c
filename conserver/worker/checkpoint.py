"""Checkpoints: an item's document and progress, written to Redis while its links still run.

What a checkpoint has saved is not repeated by the next attempt, whatever happens to this one. There
is one after every link that is costly or took over a second, and wherever a link asks for one:

    chain thread    WorkerInbox.checkpoint queues a Checkpoint and blocks
    worker loop     Outbox.write_checkpoint writes it and calls finish()
    chain thread    goes on, or raises the error that finish() was given
"""

from __future__ import annotations

import threading

from conserver.worker.item import Item


class StartAnew(BaseException):
    """A checkpoint met a newer document of the same chain: the item starts again from that one.

    It is no subclass of Exception, so that a link which catches every Exception does not go on with
    the old document.
    """


class TakenAway(BaseException):
    """A checkpoint found that another consumer has the item now. A BaseException as above."""


class Checkpoint:
    """One request of a chain thread, which is blocked until the worker loop calls finish()."""

    __slots__ = ("error", "finished", "item")

    def __init__(self, item: Item) -> None:
        self.item = item
        self.finished = threading.Event()
        self.error: BaseException | None = None

    def finish(self, error: BaseException | None = None) -> None:
        """Let the chain thread go on, or raise `error` in it."""
        self.error = error
        self.finished.set()

"""ChainPool: the threads that run items through the links of their chains.

A thread appends its finished item to a queue and takes the next item. It wakes the worker loop only
for the first item that finishes after a collect(), and if there is no item to take: a switch
between threads costs half as much CPU time as a whole item.
"""

from __future__ import annotations

import threading
import time
from collections import deque

from conserver.worker.chain import ChainRunner
from conserver.worker.inbox import WorkerInbox
from conserver.worker.item import Item
from conserver.worker.work_queue import WorkQueue


class ChainPool:
    """A fixed number of threads that run the items of a WorkQueue."""

    def __init__(
        self, threads: int, queue: WorkQueue, runner: ChainRunner, inbox: WorkerInbox
    ) -> None:
        self.queue = queue
        self._runner = runner
        self._inbox = inbox
        self._finished: deque[Item] = deque()
        self._loop_woken = False  # whether the loop was woken since the last collect()
        # Per thread: when it started its item (0.0 while it waits), and the item's chain.
        self._started: list[tuple[float, str]] = [(0.0, "")] * threads
        self._threads = [
            threading.Thread(target=self._work, args=(index,), name=f"chain-{index}", daemon=True)
            for index in range(threads)
        ]

    def __len__(self) -> int:
        return len(self._threads)

    def start(self) -> None:
        """Start the threads."""
        for thread in self._threads:
            thread.start()

    def collect(self) -> list[Item]:
        """Take the finished items; called by the worker loop."""
        self._loop_woken = False
        finished: list[Item] = []
        while self._finished:
            finished.append(self._finished.popleft())
        return finished

    @property
    def finished(self) -> int:
        """How many finished items wait for `collect`."""
        return len(self._finished)

    def busy_longer_than(self, seconds: float) -> list[str]:
        """The chain of each item that a thread has been running for longer than `seconds`."""
        before_s = time.monotonic() - seconds
        return [chain for started_s, chain in self._started if 0.0 < started_s < before_s]

    def all_busy_longer_than(self, seconds: float) -> bool:
        """Whether each thread has been running one item for longer than `seconds`."""
        return len(self.busy_longer_than(seconds)) == len(self)

    def _work(self, index: int) -> None:
        finished: str | None = None
        while True:
            finished = self._run_next(index, finished)

    def _run_next(self, index: int, finished: str | None) -> str:
        """Wait for an item, run it and hand it back. Returns the item's chain.

        This is a separate function so that an idle thread keeps no reference to a document.
        """
        self._started[index] = (0.0, "")
        item, waited = self.queue.take(finished)
        chain = item.route.name
        self._started[index] = (time.monotonic(), chain)
        if not waited and not self._loop_woken:
            self._loop_woken = True
            self._inbox.wake()
        self._runner.run(item)
        self._finished.append(item)
        return chain

"""WorkQueue: claimed items that wait for a chain thread, with a concurrency limit per chain."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable

from conserver.process.shared_status import Phase
from conserver.worker.inbox import WorkerInbox
from conserver.worker.item import Item


class WorkQueue:
    """All methods may be called from any thread.

    threads: chain -> how many threads may run its items at once. running: chain -> how many run one
    now. Callers only read both.
    """

    def __init__(self, threads: dict[str, int], inbox: WorkerInbox) -> None:
        self._inbox = inbox
        self.threads = threads
        self.running = dict.fromkeys(threads, 0)
        self._queued: dict[str, deque[Item]] = {name: deque() for name in threads}
        self._order: deque[str] = deque()  # chains with queued items, first claimed first
        self._lock = threading.Condition(threading.Lock())
        self._size = 0
        self._idle = 0  # threads that wait and have not been notified yet

    def __len__(self) -> int:
        return self._size

    @property
    def idle_threads(self) -> int:
        """How many threads wait for an item and have not been notified of one."""
        return self._idle

    def queued(self, chain: str) -> int:
        """How many items of the chain are queued."""
        return len(self._queued[chain])

    @property
    def total_running(self) -> int:
        """How many items the threads have taken and not finished."""
        return sum(self.running.values())

    def put(self, items: Iterable[Item]) -> None:
        """Append items: new ones, and those that are to run again.

        An item that waits in this queue is not blamed if the worker dies.
        """
        with self._lock:
            for item in items:
                self._inbox.status.set_phase(item.status_slot, Phase.QUEUED)
                name = item.route.name
                if not self._queued[name]:
                    self._order.append(name)
                self._queued[name].append(item)
                self._size += 1
                self._notify_one()

    def take(self, finished: str | None) -> tuple[Item, bool]:
        """Block until there is an item that may run.

        Args:
            finished: the chain of the item that this thread has just finished.

        Returns:
            The item, and whether the thread had to wait for it.
        """
        waited = False
        with self._lock:
            if finished is not None:
                self.running[finished] -= 1
                if self._size:
                    # An idle thread may run an item that this chain's limit has held back.
                    self._notify_one()
            while True:
                item = self._next()
                if item is not None:
                    return item, waited
                waited = True
                self._idle += 1
                self._inbox.wake()  # After counting, so that the worker loop sees an idle thread.
                self._lock.wait()

    def _notify_one(self) -> None:
        if self._idle:
            self._idle -= 1
            self._lock.notify()

    def _next(self) -> Item | None:
        for _ in range(len(self._order)):
            name = self._order[0]
            if self.running[name] < self.threads[name]:
                queued = self._queued[name]
                item = queued.popleft()
                if not queued:
                    self._order.popleft()
                self.running[name] += 1
                self._size -= 1
                return item
            self._order.rotate(-1)
        return None

    def take_back(self, claimed_before_s: float, *, begun: bool = False) -> list[Item]:
        """Remove and return the items that were claimed before this time, the last claimed first.

        A release puts each item at the head of its list, so this order keeps that of the list.

        Args:
            begun: also those whose links go on (Item.goes_on). A release would lose their progress.
        """
        if not self._size:
            return []
        removed: list[Item] = []
        with self._lock:
            for name, queued in self._queued.items():
                stay: deque[Item] = deque()
                for item in queued:
                    leaves = item.claimed_at_s < claimed_before_s and (begun or not item.goes_on)
                    (removed if leaves else stay).append(item)
                self._queued[name] = stay
                if queued and not stay:
                    self._order.remove(name)
            self._size -= len(removed)
        removed.reverse()
        return removed

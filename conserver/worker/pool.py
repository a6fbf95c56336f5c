"""The worker's chain threads, and the backlog that they take from.

1. Backlog: claimed items that nobody has begun, per chain; a chain's `concurrency` caps how many of
   its items run at once. What waits too long is taken out again and given back to Redis.
2. ChainPool: threads that run items and hand them back. They hand over what is finished, never wake
   the keeper for each: a hand-over between threads costs half of an item's budget. The keeper is
   woken for the first finished item of a batch (it then looks again within milliseconds) and when a
   thread has nothing left to do.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable

from conserver.worker.chain import ChainRunner
from conserver.worker.item import Item


class Backlog:
    """Items that wait for a thread. All methods may be called from any thread.

    caps: chain -> most items of it at once; at_work: chain -> items that a thread has. To read.
    """

    def __init__(self, caps: dict[str, int], ring: Callable[[], None]) -> None:
        """caps: chain -> most items of it at once. ring: called when a thread has nothing left to
        do.
        """
        self._ring = ring
        self.caps = caps
        self.at_work = dict.fromkeys(caps, 0)
        self._waiting: dict[str, deque[Item]] = {name: deque() for name in caps}
        self._order: deque[str] = deque()  # chains that have items, in the order of their claims
        self._lock = threading.Condition(threading.Lock())
        self._size = 0
        self._idle = 0  # threads that wait and have not been called: whoever calls one takes it off

    def __len__(self) -> int:
        return self._size

    @property
    def idle_threads(self) -> int:
        """Threads that wait for an item and have not been called for one."""
        return self._idle

    def waiting(self, chain: str) -> int:
        """Items of one chain that nobody has begun."""
        return len(self._waiting[chain])

    @property
    def running(self) -> int:
        """Items that a thread has taken and not yet given back."""
        return sum(self.at_work.values())

    def put(self, items: Iterable[Item]) -> None:
        """Add claimed items behind those that wait."""
        with self._lock:
            for item in items:
                name = item.route.name
                if not self._waiting[name]:
                    self._order.append(name)
                self._waiting[name].append(item)
                self._size += 1
                self._call_one()

    def take(self, finished: str | None) -> tuple[Item, bool]:
        """Wait for the next item that may run; whether it was waited for. `finished` is the chain
        of the item that this thread has done: its place is free.
        """
        waited = False
        with self._lock:
            if finished is not None:
                self.at_work[finished] -= 1
                if self._size:
                    # Another thread may run what the cap of this chain has held back.
                    self._call_one()
            while True:
                item = self._next()
                if item is not None:
                    return item, waited
                waited = True
                self._idle += 1
                self._ring()  # only now: whoever is woken by it finds this thread counted as idle
                self._lock.wait()

    def _call_one(self) -> None:
        if self._idle:
            self._idle -= 1
            self._lock.notify()

    def _next(self) -> Item | None:
        for _ in range(len(self._order)):
            name = self._order[0]
            if self.at_work[name] < self.caps[name]:
                waiting = self._waiting[name]
                item = waiting.popleft()
                if not waiting:
                    self._order.popleft()
                self.at_work[name] += 1
                self._size -= 1
                return item
            self._order.rotate(-1)
        return None

    def take_back(self, claimed_before_s: float) -> list[Item]:
        """Remove what was claimed before that moment and has not begun; the last of a list comes
        first.
        """
        if not self._size:
            return []
        removed: list[Item] = []
        with self._lock:
            for name, waiting in self._waiting.items():
                stay = deque(item for item in waiting if item.claimed_at_s >= claimed_before_s)
                removed += [item for item in waiting if item.claimed_at_s < claimed_before_s]
                self._waiting[name] = stay
                if waiting and not stay:
                    self._order.remove(name)
            self._size -= len(removed)
        removed.reverse()
        return removed


class ChainPool:
    """A fixed number of threads that run items from a backlog."""

    def __init__(
        self, threads: int, backlog: Backlog, runner: ChainRunner, ring: Callable[[], None]
    ) -> None:
        self.backlog = backlog
        self._runner = runner
        self._ring = ring
        self._finished: deque[Item] = deque()
        self._told = False
        # What each thread is at: since when, and an item of which chain; 0 while it waits.
        self._at: list[tuple[float, str]] = [(0.0, "")] * threads
        self._threads = [
            threading.Thread(target=self._work, args=(index,), name=f"chain-{index}", daemon=True)
            for index in range(threads)
        ]

    def start(self) -> None:
        """Start the threads."""
        for thread in self._threads:
            thread.start()

    def collect(self) -> list[Item]:
        """Take what is finished; called by the keeper."""
        self._told = False
        finished: list[Item] = []
        while self._finished:
            finished.append(self._finished.popleft())
        return finished

    @property
    def waiting(self) -> int:
        """How many finished items wait to be collected."""
        return len(self._finished)

    def stuck(self) -> list[str]:
        """The chain of each item that a thread has been at for longer than the horizon of a
        claim.
        """
        before_s = time.monotonic() - RateMeter.HORIZON_S
        return [chain for began_s, chain in self._at if 0.0 < began_s < before_s]

    def _work(self, index: int) -> None:
        chain: str | None = None  # of the item that it has finished, which is the keeper's again
        while True:
            chain = self._turn(index, chain)

    def _turn(self, index: int, finished: str | None) -> str:
        """Wait for an item, run it and hand it back. Answers its chain."""
        self._at[index] = (0.0, "")
        item, waited = self.backlog.take(finished)
        chain = item.route.name
        self._at[index] = (time.monotonic(), chain)
        if not waited and not self._told:
            self._told = True
            self._ring()
        self._runner.run(item)
        self._finished.append(item)
        return chain


class RateMeter:
    """How long one item of a chain takes, as a moving average; bounds what is claimed at once."""

    HORIZON_S = 0.1

    def __init__(self) -> None:
        self._per_item_s: dict[str, float] = {}

    def add(self, chain: str, took_s: float) -> None:
        """Count one finished item. A slow one is believed at once, fast ones little by little."""
        known = self._per_item_s.get(chain, took_s)
        weight = 0.5 if took_s > known else 0.1
        self._per_item_s[chain] = known + (took_s - known) * weight

    def is_quick(self, within_s: float) -> bool:
        """Whether any chain's items take no longer than that: so that waiting for some is worth
        it.
        """
        return any(per_item_s <= within_s for per_item_s in self._per_item_s.values())

    def most(self, chain: str, threads: int) -> int:
        """How many items of `chain` the threads finish within the horizon; 1 while nothing is
        known.
        """
        per_item_s = self._per_item_s.get(chain)
        if per_item_s is None:
            return 1
        return max(1, int(self.HORIZON_S * threads / max(per_item_s, 1e-6)))

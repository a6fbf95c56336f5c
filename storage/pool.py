"""Sends the requests of storages without a bulk write from several threads.

Every document is one request. The calling thread sends requests, too, so that a single document is
never handed to another thread. The pool measures how many more threads help: a thread helps only if
a request waits for longer than it computes, as across a network.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from queue import SimpleQueue

from storage.contract import Document, Outcome, Unavailable

# Upper estimate of the time for which one request holds the interpreter lock.
_COMPUTING_S = 0.001
# After so many broken connections the remaining documents of a batch are not tried.
_FAILURE_LIMIT = 3


class Pool:
    """Sends at most `limit` requests at the same time, the caller's own included.

    Only one thread at a time may call `run`. The pool's threads are daemon threads, so that a
    hanging request does not keep the process alive.
    """

    def __init__(self, name: str, limit: int, broken: tuple[type[Exception], ...]) -> None:
        """`broken`: the exceptions by which a request says that the connection failed."""
        self._name = name
        self._limit = limit
        self._broken = broken
        self._useful = limit
        self._helper_count = 0
        self._orders: SimpleQueue[_Batch | None] = SimpleQueue()

    def run(
        self,
        documents: Sequence[Document],
        save: Callable[[Document, float], Outcome],
        timeout_s: float,
    ) -> list[Outcome]:
        """Calls `save(document, deadline)` for each document; returns the outcomes in their order.

        `deadline` is a moment of time.monotonic, `timeout_s` from now for all of them.
        """
        batch = _Batch(documents, save, time.monotonic() + timeout_s, self._broken)
        helper_count = max(0, min(self._useful, len(documents)) - 1)
        for number in range(helper_count):
            if number >= self._helper_count:
                self._start_helper()
            self._orders.put(batch)
        batch.work()
        for _ in range(helper_count):
            batch.done.get()
        if batch.fault is not None:
            raise batch.fault
        if batch.fastest_s is not None:
            self._useful = min(self._limit, 1 + int(batch.fastest_s / _COMPUTING_S))
        return batch.outcomes

    def close(self) -> None:
        """Ends the threads; a thread that is inside a request ends after that request."""
        for _ in range(self._helper_count):
            self._orders.put(None)
        self._helper_count = 0

    def _start_helper(self) -> None:
        self._helper_count += 1
        name = f"storage-{self._name}-{self._helper_count}"
        threading.Thread(target=_help, args=(self._orders,), name=name, daemon=True).start()


def _help(orders: SimpleQueue[_Batch | None]) -> None:
    """A helper thread: works on batches until it gets None."""
    while (batch := orders.get()) is not None:
        try:
            batch.work()
        finally:
            batch.done.put(None)
        del batch  # Else this thread would keep the documents in memory until the next batch.


class _Batch:
    """The documents of one call of `run`, and their outcomes. Several threads take from it."""

    def __init__(
        self,
        documents: Sequence[Document],
        save: Callable[[Document, float], Outcome],
        deadline: float,
        broken: tuple[type[Exception], ...],
    ) -> None:
        self.outcomes: list[Outcome] = [Unavailable("not tried")] * len(documents)
        # Each helper thread puts one entry here when it has finished.
        self.done: SimpleQueue[None] = SimpleQueue()
        # An unexpected error of a request, which `run` raises in the caller's thread.
        self.fault: Exception | None = None
        # The time of the fastest request. Slower ones may have waited for the interpreter lock.
        self.fastest_s: float | None = None
        self._waiting = deque(enumerate(documents))
        self._save = save
        self._deadline = deadline
        self._broken = broken
        self._failures = 0

    def work(self) -> None:
        """Saves one document after the other until none is left. Every thread runs this."""
        while (taken := self._take()) is not None:
            index, document = taken
            began = time.monotonic()
            try:
                self.outcomes[index] = self._save(document, self._deadline)
            except self._broken as error:
                self._give_up(index, Unavailable(f"{type(error).__name__}: {error}"))
                continue
            except Exception as error:  # noqa: BLE001 (raised again by the caller's thread)
                self.fault = error
                self._waiting.clear()
                return
            took_s = time.monotonic() - began
            if self.fastest_s is None or took_s < self.fastest_s:
                self.fastest_s = took_s

    def _take(self) -> tuple[int, Document] | None:
        try:
            return self._waiting.popleft()
        except IndexError:
            return None

    def _give_up(self, index: int, outcome: Unavailable) -> None:
        self.outcomes[index] = outcome
        self._failures += 1
        if self._failures >= _FAILURE_LIMIT:
            while (taken := self._take()) is not None:
                self.outcomes[taken[0]] = outcome

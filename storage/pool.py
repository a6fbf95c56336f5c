"""Runs the requests of storages without a bulk write in several threads.

Every document is a request. The calling thread takes part, so that a single document is never
handed to another thread. The number of further threads is measured: a thread pays only if a request
waits for longer than it computes, as across a network, but not with a server on the same host.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from queue import SimpleQueue

from storage.contract import Document, Outcome, Unavailable

# A document's own share of the interpreter, generously.
_COMPUTING_S = 0.001
# So many broken connections show that the rest of a batch is not worth trying.
_FAILURE_LIMIT = 3


class Pool:
    """At most `limit` requests at the same time, the caller's among them. One caller at a time.

    The threads are daemons, so that one that hangs in a request does not hold the process.
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
        """Ends the threads; one that is inside a request ends after it."""
        for _ in range(self._helper_count):
            self._orders.put(None)
        self._helper_count = 0

    def _start_helper(self) -> None:
        self._helper_count += 1
        name = f"storage-{self._name}-{self._helper_count}"
        threading.Thread(target=_help, args=(self._orders,), name=name, daemon=True).start()


def _help(orders: SimpleQueue[_Batch | None]) -> None:
    """Works for batches until it is told to end."""
    while (batch := orders.get()) is not None:
        try:
            batch.work()
        finally:
            batch.done.put(None)
        # While it waits for the next one, the documents are not its to hold.
        del batch


class _Batch:
    """Documents that several threads take from, and what became of each."""

    def __init__(
        self,
        documents: Sequence[Document],
        save: Callable[[Document, float], Outcome],
        deadline: float,
        broken: tuple[type[Exception], ...],
    ) -> None:
        self.outcomes: list[Outcome] = [Unavailable("not tried")] * len(documents)
        # One entry from each helper that has finished; and an error that is no document's fault.
        self.done: SimpleQueue[None] = SimpleQueue()
        self.fault: Exception | None = None
        # Of the fastest document, as the others may have waited for the interpreter.
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

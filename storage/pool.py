"""Threads for the storages that have no bulk write: every document is a request of its own.

The thread that calls takes its share, so that a single document is never handed over. How many
others help is measured: a thread is worth its while only where a request waits for longer than it
computes, which is so across a network and not beside a server on the same host.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from storage.contract import Document, Outcome, Unavailable

# A document's own share of the interpreter, generously.
_COMPUTING_S = 0.001
# So many broken connections show that the rest of a batch is not worth trying.
_FAILURE_LIMIT = 3


class Pool:
    """At most `limit` requests at the same time, the caller's among them."""

    def __init__(self, name: str, limit: int, broken: tuple[type[Exception], ...]) -> None:
        """`broken`: the exceptions by which a request says that the connection failed."""
        self._limit = limit
        self._broken = broken
        self._useful = limit
        self._threads = ThreadPoolExecutor(limit, f"storage-{name}")

    def run(
        self,
        documents: Sequence[Document],
        save: Callable[[Document, float], Outcome],
        timeout_s: float,
    ) -> list[Outcome]:
        """What `save(document, deadline)` says of each; the deadline is one of time.monotonic."""
        batch = _Batch(documents, save, time.monotonic() + timeout_s, self._broken)
        helper_count = min(self._useful, len(documents)) - 1
        helpers = [self._threads.submit(batch.work) for _ in range(helper_count)]
        batch.work()
        for helper in helpers:
            helper.result()
        if batch.fastest_s is not None:
            self._useful = min(self._limit, 1 + int(batch.fastest_s / _COMPUTING_S))
        return batch.outcomes

    def close(self) -> None:
        """Lets the threads end; one that is inside a request ends with it."""
        self._threads.shutdown(wait=False, cancel_futures=True)


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
        # Of the fastest document, as the others may have waited for the interpreter.
        self.fastest_s: float | None = None
        self._waiting = deque(enumerate(documents))
        self._save = save
        self._deadline = deadline
        self._broken = broken
        self._failures = 0

    def work(self) -> None:
        """What every thread does: one document after the other, until none is left."""
        while (taken := self._take()) is not None:
            index, document = taken
            began = time.monotonic()
            try:
                self.outcomes[index] = self._save(document, self._deadline)
            except self._broken as error:
                self._give_up(index, Unavailable(f"{type(error).__name__}: {error}"))
                continue
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

"""Writing to storages: one thread per storage, all that waits in one bulk, an answer for every
item.

1. A Writer takes items from the keeper, bounded by count and bytes, hands its storage one row per
   uuid (the highest revision), sorted by uuid so that several writers never lock rows crosswise,
   and answers for each item separately.
2. It opens its storage in its own thread and opens it again after an error. Its breaker answers for
   a storage that is away without asking it, so that healthy storages are not held back.
3. A storage that hangs is abandoned with its thread and client when its timeout has passed: its
   items are unavailable, and a new lane goes on. What an abandoned lane says later is not heard.
4. It looks up documents that are missing in Redis.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

from conserver import log
from conserver.breaker import Breaker
from conserver.item import Item
from conserver.plugins import LoadedStorage
from storage.contract import Document, Outcome, Storage, Stored, Unavailable

BATCH_ITEMS = 256
BATCH_BYTES = 8 * 1024 * 1024
LOOK_S = 1.0

Answers = list[tuple[Item, Outcome]]


class Report(NamedTuple):
    """What a writer tells the keeper: answers for items, or a document that it looked up (None: not
    there).
    """

    storage: str
    answers: Answers
    looked_up: Item | None = None
    found: bytes | None = None


class Writer:
    """The keeper's side of one storage."""

    def __init__(self, loaded: LoadedStorage, report: Callable[[Report], None]) -> None:
        self.name = loaded.name
        self._loaded = loaded
        self._report = report
        self._breaker = Breaker(BATCH_ITEMS)
        self._log = log.get_logger(storage=loaded.name)
        self._lane = self._new_lane()
        self._looked_s = time.monotonic()

    @property
    def is_open(self) -> bool:
        """Whether the breaker holds items back."""
        return self._breaker.is_open

    def put(self, items: Sequence[Item]) -> None:
        """Store these items' documents; the answers come as a Report."""
        self._lane.add(items)

    def look_up(self, item: Item) -> None:
        """Ask the storage for the item's document; the answer comes as a Report."""
        self._lane.add([item], lookup=True)

    def watch(self) -> None:
        """Abandon a lane whose call has taken longer than the storage's timeout. Called about once
        a second.

        The clock is counted, at most a second a look: a host that was paused charges no storage.
        """
        now_s = time.monotonic()
        passed_s = min(now_s - self._looked_s, LOOK_S)
        self._looked_s = now_s
        lane = self._lane
        if lane.busy_since_s is None:
            return
        lane.waited_s += passed_s
        # The storage's own timeouts come first; this is for the clients that have none.
        if lane.waited_s < self._loaded.timeout_s + LOOK_S:
            return
        answers, left = lane.abandon()
        reason = f"no answer for {self._loaded.timeout_s:.0f} s"
        self._breaker.failed(now_s, reason)
        self._log.error("storage_hangs", reason=reason, items=len(answers), what="client replaced")
        self._lane = self._new_lane()
        self._lane.jobs.extend(left)
        self._lane.wake()
        after_s = self._breaker.retry_after_s(now_s)
        self._report(Report(self.name, [(item, Unavailable(reason, after_s)) for item in answers]))

    def _new_lane(self) -> _Lane:
        lane = _Lane(self._loaded, self._breaker, self._report, self._log)
        lane.start()
        return lane


class _Job(NamedTuple):
    item: Item
    lookup: bool


class _Lane:
    """One thread with one client. After `abandon` it ends as soon as its call comes back."""

    def __init__(
        self,
        loaded: LoadedStorage,
        breaker: Breaker,
        report: Callable[[Report], None],
        logger: log.Logger,
    ) -> None:
        self._loaded = loaded
        self._breaker = breaker
        self._report = report
        self._log = logger
        self._storage: Storage | None = None
        self._lock = threading.Condition(threading.Lock())
        self._abandoned = False
        self._current: list[Item] = []
        self.jobs: deque[_Job] = deque()
        self.busy_since_s: float | None = None
        self.waited_s = 0.0

    def start(self) -> None:
        threading.Thread(target=self._work, name=f"writer-{self._loaded.name}", daemon=True).start()

    def add(self, items: Sequence[Item], lookup: bool = False) -> None:
        with self._lock:
            self.jobs.extend(_Job(item, lookup) for item in items)
            self._lock.notify()

    def wake(self) -> None:
        with self._lock:
            self._lock.notify()

    def abandon(self) -> tuple[list[Item], list[_Job]]:
        """End this lane. Answers the items of the call that hangs, and the jobs that it had not
        begun.
        """
        with self._lock:
            self._abandoned = True
            left = list(self.jobs)
            self.jobs.clear()
            return self._current, left

    def _work(self) -> None:
        while True:
            with self._lock:
                while not self.jobs and not self._abandoned:
                    self._lock.wait()
                if self._abandoned:
                    return
                lookup, items = self._batch()
                self._current = items
                self.waited_s, self.busy_since_s = 0.0, time.monotonic()
            report = self._look_up(items[0]) if lookup else self._save(items)
            if not self._came_back():
                return
            self._report(report)

    def _came_back(self) -> bool:
        """The call is back. False: too late, its items were answered for."""
        with self._lock:
            self.busy_since_s, self._current = None, []
            return not self._abandoned

    def _batch(self) -> tuple[bool, list[Item]]:
        """What goes in the next call: a look-up alone, or as many documents as the bounds allow."""
        first = self.jobs.popleft()
        if first.lookup:
            return True, [first.item]
        items, size = [first.item], len(first.item.text)
        while self.jobs and not self.jobs[0].lookup and len(items) < BATCH_ITEMS:
            size += len(self.jobs[0].item.text)
            if size > BATCH_BYTES:
                break
            items.append(self.jobs.popleft().item)
        return False, items

    def _save(self, items: list[Item]) -> Report:
        answers: Answers = []
        while items:
            allowed = self._breaker.allowed(time.monotonic())
            if not allowed:
                answers += self._all(items, Unavailable(self._breaker.reason))
                break
            answers += self._save_some(items[:allowed])
            items = items[allowed:]
        return Report(self._loaded.name, answers)

    def _save_some(self, items: list[Item]) -> Answers:
        rows: dict[str, Document] = {}
        for item in items:
            document = self._document(item)
            known = rows.get(document.uuid)
            if known is None or known.revision < document.revision:
                rows[document.uuid] = document
        documents = [rows[uuid] for uuid in sorted(rows)]
        try:
            storage = self._opened()
            outcomes = storage.save_many(documents)
        except Exception as error:  # noqa: BLE001 - whatever a client raises: it did not answer
            return self._failed(items, error)
        found = dict(zip((document.uuid for document in documents), outcomes, strict=True))
        away = [outcome for outcome in outcomes if isinstance(outcome, Unavailable)]
        if len(away) == len(outcomes):
            self._opened_breaker(away[0].reason, away[0].after_s)
            return self._all(items, away[0])
        if self._breaker.succeeded():
            self._log.warning("storage_back")
        return [(item, found[item.uuid]) for item in items]

    def _document(self, item: Item) -> Document:
        etag = item.progress.etags.get(self._loaded.name) or item.claimed.etags.get(
            self._loaded.name
        )
        parsed = item.vcon.view if item.vcon is not None and not item.vcon.changed else None
        return Document(item.uuid, item.text, item.revision, etag, parsed)

    def _opened(self) -> Storage:
        if self._storage is None:
            storage = self._loaded.make()
            storage.open()
            self._storage = storage
        return self._storage

    def _failed(self, items: list[Item], error: Exception) -> Answers:
        reason = f"{type(error).__name__}: {error}".strip()
        self._opened_breaker(reason, None)
        if self._storage is not None:
            storage, self._storage = self._storage, None
            try:
                storage.close()
            except Exception as second:  # noqa: BLE001 - it is broken anyway
                self._log.info("storage_close_failed", error=str(second))
        return self._all(items, Unavailable(reason))

    def _opened_breaker(self, reason: str, after_s: float | None) -> None:
        if self._breaker.failed(time.monotonic(), reason, after_s):
            self._log.error(
                "storage_away", reason=reason, what="its items are parked until it answers"
            )

    def _all(self, items: list[Item], outcome: Unavailable) -> Answers:
        now_s = time.monotonic()
        return [
            (item, Unavailable(outcome.reason, self._breaker.retry_after_s(now_s)))
            for item in items
        ]

    def _look_up(self, item: Item) -> Report:
        found: bytes | None = None
        try:
            found = self._opened().get(item.uuid)
        except Exception as error:  # noqa: BLE001 - whatever a client raises: it did not answer
            reason = f"{type(error).__name__}: {error}"
            self._opened_breaker(reason, None)
            return Report(self._loaded.name, [(item, Unavailable(reason))], item)
        return Report(self._loaded.name, [(item, Stored())], item, found)

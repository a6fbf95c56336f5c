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
from typing import NamedTuple, TypeVar

from conserver import failpoints
from conserver.plugins.loader import LoadedStorage
from conserver.telemetry import log
from conserver.worker.breaker import Breaker
from conserver.worker.item import Item
from storage.contract import Document, Outcome, Storage, Unavailable

BATCH_ITEMS = 256
BATCH_BYTES = 8 * 1024 * 1024
LOOK_S = 1.0
HUNG_MOST = 8
"""Threads that hang in calls of one storage, each with its client, before the process has had
enough of them.
"""

Answers = list[tuple[Item, Outcome]]
_Answer = TypeVar("_Answer")


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

    def __init__(
        self,
        loaded: LoadedStorage,
        report: Callable[[Report], None],
        hung_most: int = HUNG_MOST,
    ) -> None:
        self.name = loaded.name
        self._hung_most = hung_most
        self._loaded = loaded
        self._report = report
        self._breaker = Breaker(BATCH_ITEMS)
        self._log = log.get_logger(storage=loaded.name)
        self._lane = self._new_lane()
        self._hung: list[_Lane] = []
        self._looked_s = time.monotonic()

    @property
    def is_spent(self) -> bool:
        """Whether so many calls hang that this process had better be replaced."""
        return sum(lane.is_alive for lane in self._hung) >= self._hung_most

    @property
    def hangs(self) -> bool:
        """Whether an abandoned call is still under way: it may yet take the process down."""
        return any(lane.is_alive for lane in self._hung)

    @property
    def is_away(self) -> bool:
        """Whether the storage failed when it was asked last: its breaker is open."""
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
        self._hung = [lane for lane in self._hung if lane.is_alive]
        # The storage's own timeouts come first; this is for the clients that have none.
        job = self._lane.judge(passed_s, self._loaded.timeout_s + LOOK_S)
        if job is None:
            return
        lookup, items = job
        reason = f"no answer for {self._loaded.timeout_s:.0f} s"
        self._breaker.failed(now_s, reason)
        self._log.error("storage_hangs", reason=reason, items=len(items), what="client replaced")
        self._hung.append(self._lane)
        jobs, self._lane = self._lane.jobs, self._new_lane()
        for left in jobs:
            self._lane.add([left.item], left.lookup)
        after_s = self._breaker.retry_after_s(now_s)
        answers: Answers = [(item, Unavailable(reason, after_s)) for item in items]
        self._report(Report(self.name, answers, items[0] if lookup else None))

    def _new_lane(self) -> _Lane:
        lane = _Lane(self._loaded, self._breaker, self._report, self._log)
        lane.start()
        return lane


class _Job(NamedTuple):
    item: Item
    lookup: bool


class _TooLate(BaseException):
    """A call came back after its lane was abandoned. No Exception: it is no fault of a storage."""


class _Lane:
    """One thread with one client. Once abandoned it ends as soon as its call comes back."""

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
        self._thread = threading.Thread(
            target=self._work, name=f"writer-{loaded.name}", daemon=True
        )
        self._abandoned = False
        self._current: tuple[bool, list[Item]] | None = None  # what its thread is busy with
        self._waited_s = 0.0  # for the call under way
        self.jobs: deque[_Job] = deque()

    @property
    def is_alive(self) -> bool:
        """Whether its thread has not ended."""
        return self._thread.is_alive()

    def start(self) -> None:
        self._thread.start()

    def add(self, items: Sequence[Item], lookup: bool = False) -> None:
        with self._lock:
            self.jobs.extend(_Job(item, lookup) for item in items)
            self._lock.notify()

    def judge(self, passed_s: float, limit_s: float) -> tuple[bool, list[Item]] | None:
        """Count the time of the call under way. Past the limit the lane is abandoned: what it is
        busy with is answered (whether it is a look-up, and the items), and `jobs` has the rest.
        """
        with self._lock:
            if self._current is None:
                return None
            self._waited_s += passed_s
            if self._waited_s < limit_s:
                return None
            self._abandoned = True
            return self._current

    def _work(self) -> None:
        try:
            while True:
                self._turn()
        except _TooLate:
            return

    def _turn(self) -> None:
        """Wait for jobs, do one batch of them, and report.

        A method of its own, so that nothing is held while it waits: documents are large.
        """
        with self._lock:
            while not self.jobs:
                self._lock.wait()
            self._current = lookup, items = self._batch()
        report = self._look_up(items[0]) if lookup else self._save(items)
        with self._lock:
            if self._abandoned:
                raise _TooLate
            self._current = None
        self._report(report)

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
        failpoints.at("before-store")
        try:
            outcomes = self._ask(lambda storage: _checked(storage.save_many(documents), documents))
            failpoints.at("after-store")
        except Exception as error:  # noqa: BLE001 - whatever a client raises: it did not answer
            return self._all(items, self._broke(error))
        away = [outcome for outcome in outcomes.values() if isinstance(outcome, Unavailable)]
        if len(away) == len(outcomes):
            self._went_away(away[0].reason, away[0].after_s)
            return self._all(items, away[0])
        self._answered()
        return [(item, outcomes[item.uuid]) for item in items]

    def _document(self, item: Item) -> Document:
        name = self._loaded.name
        etag = item.progress.etags.get(name) or item.claimed.etags.get(name)
        vcon = item.vcon if item.draft is None else None
        parsed = None if vcon is None else vcon.view
        return Document(item.uuid, item.text, item.revision, etag, parsed)

    def _look_up(self, item: Item) -> Report:
        name = self._loaded.name
        if not self._breaker.allowed(time.monotonic()):
            return Report(name, self._all([item], Unavailable(self._breaker.reason)), item)
        try:
            found = self._ask(lambda storage: storage.get(item.uuid))
        except Exception as error:  # noqa: BLE001 - whatever a client raises: it did not answer
            return Report(name, self._all([item], self._broke(error)), item)
        self._answered()
        return Report(name, [], item, found)

    # ---- its client and its breaker --------------------------------------------------------------

    def _ask(self, call: Callable[[Storage], _Answer]) -> _Answer:
        """One call to the storage, which is made and opened first if need be.

        A client that an error came from is closed. Raises what the call raises, and _TooLate.
        """
        with self._lock:
            self._waited_s = 0.0
        try:
            if self._storage is None:
                self._storage = self._loaded.make()
                self._storage.open()
            answer = call(self._storage)
        except Exception:
            self._close()
            self._stop_if_late()
            raise
        self._stop_if_late()
        return answer

    def _stop_if_late(self) -> None:
        """Raise _TooLate if others have answered for this call: it must not be judged again."""
        with self._lock:
            late = self._abandoned
        if late:
            self._close()
            raise _TooLate

    def _close(self) -> None:
        storage, self._storage = self._storage, None
        if storage is None:
            return
        try:
            storage.close()
        except Exception as error:  # noqa: BLE001 - it is broken anyway
            self._log.info("storage_close_failed", error=str(error))

    def _broke(self, error: Exception) -> Unavailable:
        reason = f"{type(error).__name__}: {error}".strip()
        self._went_away(reason, None)
        return Unavailable(reason)

    def _went_away(self, reason: str, after_s: float | None) -> None:
        if self._breaker.failed(time.monotonic(), reason, after_s):
            self._log.error(
                "storage_away", reason=reason, what="its items are parked until it answers"
            )

    def _answered(self) -> None:
        if self._breaker.succeeded():
            self._log.warning("storage_back")

    def _all(self, items: list[Item], outcome: Unavailable) -> Answers:
        now_s = time.monotonic()
        return [
            (item, Unavailable(outcome.reason, self._breaker.retry_after_s(now_s)))
            for item in items
        ]


def _checked(outcomes: Sequence[Outcome], documents: Sequence[Document]) -> dict[str, Outcome]:
    """uuid -> outcome. Raises for a storage that does not answer for each document."""
    for outcome in outcomes:
        if not isinstance(outcome, Outcome):
            raise TypeError(f"the storage answered {outcome!r} for a document")
    return {document.uuid: outcome for document, outcome in zip(documents, outcomes, strict=True)}

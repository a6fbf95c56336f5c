"""Writers: one thread per storage saves waiting items in bulk, and reports each item's outcome.

1. A call saves at most SAVE_ITEMS_MAX documents and SAVE_BYTES_MAX bytes, or one larger document.
   If several documents have one uuid, it saves only that of the highest revision. The documents are
   sorted by uuid, so that two workers never lock rows in opposite order.
2. The thread opens the storage's client, and opens a new one after an error. While the breaker is
   open (breaker.py), the thread makes no call and reports the items as unavailable. After each
   pause it tries one document.
3. A call that hangs is abandoned a second after its timeout: its items are reported as unavailable,
   and a new thread with a new client continues. The result of an abandoned call is ignored.
4. The same thread looks up documents that Redis lacks.
"""

from __future__ import annotations

import re
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias, TypeVar

from conserver.plugins.loader import LoadedStorage
from conserver.process import failpoints
from conserver.telemetry import log
from conserver.telemetry.redact import redact_text
from conserver.worker import spans
from conserver.worker.breaker import Breaker
from conserver.worker.inbox import StorageReport, WorkerInbox
from conserver.worker.item import Item
from storage.contract import Document, Outcome, Storage, Unavailable, place_of, with_place

SAVE_ITEMS_MAX = 256
SAVE_BYTES_MAX = 8 * 1024 * 1024
CHECK_INTERVAL_S = 1.0
HUNG_CALLS_MAX = 8
"""A worker is replaced once it has this many hung calls of one storage, because each call keeps a
thread and a client.
"""

_DIGITS = re.compile(r"[0-9]+")  # Reasons that differ only in digits (a port, a time) are the same.

Outcomes: TypeAlias = list[tuple[Item, Outcome]]
_Result = TypeVar("_Result")


class Writer:
    """One storage, as the worker loop uses it. Answers come as a StorageReport in the inbox."""

    def __init__(
        self, loaded: LoadedStorage, inbox: WorkerInbox, hung_calls_max: int = HUNG_CALLS_MAX
    ) -> None:
        self.name = loaded.name
        self._hung_calls_max = hung_calls_max
        self._loaded = loaded
        self._inbox = inbox
        self._breaker = Breaker(SAVE_ITEMS_MAX)
        self._log = log.get_logger(storage=loaded.name)
        self._thread = self._new_thread()
        self._abandoned: list[_WriterThread] = []
        self._checked_s = time.monotonic()

    @property
    def has_hung_calls(self) -> bool:
        """Whether an abandoned call is still running. Such a call may still kill the process."""
        return any(thread.is_alive for thread in self._abandoned)

    @property
    def has_too_many_hung_calls(self) -> bool:
        """Whether the process should be replaced."""
        return sum(thread.is_alive for thread in self._abandoned) >= self._hung_calls_max

    @property
    def is_away(self) -> bool:
        """Whether the last call failed: the breaker is open."""
        return self._breaker.is_open

    @property
    def away_reason(self) -> str:
        """Why the last call failed, with secrets redacted."""
        return redact_text(self._breaker.reason)

    def save(self, items: Sequence[Item]) -> None:
        """Save the documents of these items."""
        self._thread.add(items)

    def look_up(self, item: Item) -> None:
        """Ask the storage for the item's document."""
        self._thread.add([item], look_up=True)

    def check_timeout(self) -> None:
        """Abandon a call that has taken longer than the storage's timeout. Called once a second.

        Each check adds at most CHECK_INTERVAL_S to the time of the call. So time in which the host
        was suspended does not make a call look hung.
        """
        now_s = time.monotonic()
        passed_s = min(now_s - self._checked_s, CHECK_INTERVAL_S)
        self._checked_s = now_s
        self._abandoned = [thread for thread in self._abandoned if thread.is_alive]
        # The timeouts of storage clients are shorter, and end most calls before this.
        call = self._thread.abandon_after(passed_s, self._loaded.timeout_s + CHECK_INTERVAL_S)
        if call is None:
            return
        reason = with_place(f"no answer for {self._loaded.timeout_s:.0f} s", self._thread.place)
        self._breaker.failed(now_s, reason)
        self._log.error(
            "storage_hangs", reason=reason, items=len(call.items), what="client replaced"
        )
        self._abandoned.append(self._thread)
        tasks, self._thread = self._thread.tasks, self._new_thread()
        for task in tasks:
            self._thread.add([task.item], task.look_up)
        after_s = self._breaker.retry_after_s(now_s)
        outcomes: Outcomes = [(item, Unavailable(reason, after_s)) for item in call.items]
        looked_up = call.items[0] if call.look_up else None
        self._inbox.report(StorageReport(self.name, outcomes, looked_up))

    def _new_thread(self) -> _WriterThread:
        thread = _WriterThread(self._loaded, self._breaker, self._inbox, self._log)
        thread.start()
        return thread


class _Task(NamedTuple):
    item: Item
    look_up: bool


class _Call(NamedTuple):
    items: list[Item]
    look_up: bool


class _Abandoned(BaseException):
    """A call has returned after it was abandoned.

    This is a BaseException, so that the `except Exception` for failures of the storage does not
    catch it.
    """


class _WriterThread:
    """A thread with one client. Once abandoned, it ends as soon as its call returns."""

    def __init__(
        self,
        loaded: LoadedStorage,
        breaker: Breaker,
        inbox: WorkerInbox,
        logger: log.Logger,
    ) -> None:
        self._loaded = loaded
        self._breaker = breaker
        self._inbox = inbox
        self._log = logger
        self._storage: Storage | None = None
        self.place = ""
        """The storage's address, for errors (storage.contract.place_of); "" without a client."""
        self._lock = threading.Condition(threading.Lock())
        self._thread = threading.Thread(
            target=self._work, name=f"writer-{loaded.name}", daemon=True
        )
        self._abandoned = False
        self._running: _Call | None = None
        self._waited_s = 0.0  # for the running call
        self.tasks: deque[_Task] = deque()

    @property
    def is_alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def add(self, items: Sequence[Item], look_up: bool = False) -> None:
        """Append tasks."""
        with self._lock:
            self.tasks.extend(_Task(item, look_up) for item in items)
            self._lock.notify()

    def abandon_after(self, passed_s: float, limit_s: float) -> _Call | None:
        """Add `passed_s` to the time of the running call. Abandon this thread if the sum reaches
        the limit.

        Returns:
            The abandoned call, or None. The caller reports the outcomes of its items, and hands the
            thread's remaining `tasks` to another thread.
        """
        with self._lock:
            if self._running is None:
                return None
            self._waited_s += passed_s
            if self._waited_s < limit_s:
                return None
            self._abandoned = True
            return self._running

    def _work(self) -> None:
        try:
            while True:
                self._do_next()
        except _Abandoned:
            return

    def _do_next(self) -> None:
        """Wait for tasks, save or look up what waits, and report the outcomes.

        This is a separate function so that an idle thread keeps no reference to a document.
        """
        with self._lock:
            while not self.tasks:
                self._lock.wait()
            self._running = call = self._next_call()
        report = self._look_up(call.items[0]) if call.look_up else self._save(call.items)
        with self._lock:
            if self._abandoned:
                raise _Abandoned
            self._running = None
        self._inbox.report(report)

    def _next_call(self) -> _Call:
        """The next call: one look-up, or as many saves as the bounds allow."""
        first = self.tasks.popleft()
        items, size_bytes = [first.item], len(first.item.text)
        if first.look_up:
            return _Call(items, look_up=True)
        while self.tasks and not self.tasks[0].look_up and len(items) < SAVE_ITEMS_MAX:
            size_bytes += len(self.tasks[0].item.text)
            if size_bytes > SAVE_BYTES_MAX:
                break
            items.append(self.tasks.popleft().item)
        return _Call(items, look_up=False)

    def _save(self, items: list[Item]) -> StorageReport:
        outcomes: Outcomes = []
        durations: list[float] = []
        while items:
            allowed = self._breaker.documents_allowed(time.monotonic())
            if not allowed:
                outcomes += self._all_unavailable(items, Unavailable(self._breaker.reason))
                break
            began_s = time.monotonic()
            outcomes += self._save_batch(items[:allowed])
            durations.append(time.monotonic() - began_s)
            items = items[allowed:]
        return StorageReport(self._loaded.name, outcomes, durations=durations)

    def _save_batch(self, items: list[Item]) -> Outcomes:
        rows: dict[str, Document] = {}
        for item in items:
            document = self._document(item)
            known = rows.get(document.uuid)
            if known is None or known.revision < document.revision:
                rows[document.uuid] = document
        documents = [rows[uuid] for uuid in sorted(rows)]
        failpoints.at("before-store")
        try:
            outcomes = spans.storage_call(
                "write",
                self._loaded.name,
                items,
                lambda: self._call(
                    lambda storage: _by_uuid(storage.save_many(documents), documents)
                ),
            )
            failpoints.at("after-store")
        except Exception as error:  # noqa: BLE001 - any error of a client means unavailable
            return self._all_unavailable(items, self._call_failed(error))
        outcomes = {uuid: self._placed(outcome) for uuid, outcome in outcomes.items()}
        away = [outcome for outcome in outcomes.values() if isinstance(outcome, Unavailable)]
        if len(away) == len(outcomes):
            self._went_away(away[0].reason, away[0].after_s)
            return self._all_unavailable(items, away[0])
        self._came_back()
        return [(item, outcomes[item.uuid]) for item in items]

    def _placed(self, outcome: Outcome) -> Outcome:
        """The outcome. If it is Unavailable, the storage's address is added to its reason."""
        if isinstance(outcome, Unavailable):
            return Unavailable(with_place(outcome.reason, self.place), outcome.after_s)
        return outcome

    def _document(self, item: Item) -> Document:
        name = self._loaded.name
        etag = item.progress.etags.get(name) or item.claimed.etags.get(name)
        vcon = item.vcon if item.draft is None else None
        parsed = None if vcon is None else vcon.view
        return Document(item.uuid, item.text, item.revision, etag, parsed)

    def _look_up(self, item: Item) -> StorageReport:
        name = self._loaded.name
        if not self._breaker.documents_allowed(time.monotonic()):
            away = Unavailable(self._breaker.reason)
            return StorageReport(name, self._all_unavailable([item], away), item)
        try:
            found = spans.look_up(
                name, item, lambda: self._call(lambda storage: storage.get(item.uuid))
            )
        except Exception as error:  # noqa: BLE001 - any error of a client means unavailable
            away = self._call_failed(error)
            return StorageReport(name, self._all_unavailable([item], away), item)
        self._came_back()
        return StorageReport(name, [], item, found)

    # ---- the client and the breaker --------------------------------------------------------------

    def _call(self, call: Callable[[Storage], _Result]) -> _Result:
        """Make one call. Open the storage's client first if it is not open.

        Raises:
            Exception: the client's error; the client is closed.
            _Abandoned: the call was abandoned meanwhile.
        """
        with self._lock:
            self._waited_s = 0.0
        try:
            if self._storage is None:
                self._storage = self._loaded.make()
                self.place = place_of(self._storage)
                self._storage.open()
            result = call(self._storage)
        except Exception:
            self._close()
            self._raise_if_abandoned()
            raise
        self._raise_if_abandoned()
        return result

    def _raise_if_abandoned(self) -> None:
        """Raise _Abandoned if the call was abandoned. Its outcomes are reported already, and the
        breaker must not count it a second time.
        """
        with self._lock:
            abandoned = self._abandoned
        if abandoned:
            self._close()
            raise _Abandoned

    def _close(self) -> None:
        storage, self._storage = self._storage, None
        if storage is None:
            return
        try:
            storage.close()
        except Exception as error:  # noqa: BLE001 - the client is broken anyway
            self._log.info("storage_close_failed", error=str(error))

    def _call_failed(self, error: Exception) -> Unavailable:
        reason = with_place(f"{type(error).__name__}: {error}".strip(), self.place)
        self._went_away(reason, None)
        return Unavailable(reason)

    def _went_away(self, reason: str, after_s: float | None) -> None:
        other = _DIGITS.sub("", reason) != _DIGITS.sub("", self._breaker.reason)
        if self._breaker.failed(time.monotonic(), reason, after_s):
            self._log.error(
                "storage_away", reason=reason, what="its items are parked until it answers"
            )
        elif other:
            self._log.error("storage_away", reason=reason, what="still away, for another reason")

    def _came_back(self) -> None:
        if self._breaker.succeeded():
            self._log.warning("storage_back")

    def _all_unavailable(self, items: list[Item], outcome: Unavailable) -> Outcomes:
        now_s = time.monotonic()
        return [
            (item, Unavailable(outcome.reason, self._breaker.retry_after_s(now_s)))
            for item in items
        ]


def _by_uuid(outcomes: Sequence[Outcome], documents: Sequence[Document]) -> dict[str, Outcome]:
    """uuid -> outcome.

    Raises:
        TypeError, ValueError: the storage has not returned one outcome per document.
    """
    for outcome in outcomes:
        if not isinstance(outcome, Outcome):
            raise TypeError(f"the storage answered {outcome!r} for a document")
    return {document.uuid: outcome for document, outcome in zip(documents, outcomes, strict=True)}

"""What items in a worker still owe to Redis and to their storages; the keeper's half of their way.

    finished ─▶ write ─▶ storages, all at once ─▶ settle            done
             └▶ settle (with the document)                          done without storages, filtered
             └▶ park | dead-letter                                  failed, later, never

1. Takes items as chain threads and writers hand them back, and decides what comes next.
2. Talks to Redis in batches bounded by bytes, one call at a time, each repeated until it is answered.
3. Meets conflicts: a newer document is merged with, or, if it is this chain's own work, started from anew.

An item leaves a worker in exactly one place here: `_end`, after the answer of the script that took it out of flight.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import orjson

from conserver import log, retry
from conserver.chain import Lost, StartAnew
from conserver.errors import Rejected, Retry
from conserver.item import Item, Outcome
from conserver.merge import merge
from conserver.page import Page
from conserver.queue import calls
from conserver.queue.line import Line
from conserver.queue.record import Progress
from conserver.settings import Settings
from conserver.vcon import Vcon
from conserver.writers import Report, Writer
from storage.contract import Rejected as RefusedByStorage
from storage.contract import Stored, Unavailable

WRONG_TYPE_RETRY_S = 30.0
REWRITES_MOST = 50


class Checkpoint:
    """A chain thread waits for this while the keeper writes its item."""

    __slots__ = ("done", "error")

    def __init__(self) -> None:
        self.done = threading.Event()
        self.error: Exception | None = None  # why it was not written; raised in the link's thread

    def tell(self, error: Exception | None = None) -> None:
        """Let the thread go on, or end there with `error`."""
        self.error = error
        self.done.set()


class _Write(NamedTuple):
    item: Item
    then: Callable[[Item], None]
    checkpoint: Checkpoint | None = None


class _Dead(NamedTuple):
    item: Item
    why: dict[str, Any]


class Outbox:
    """Used by the keeper's thread alone."""

    def __init__(
        self,
        consumer: str,
        line: Line,
        page: Page,
        settings: Settings,
        writers: dict[str, Writer],
        restart: Callable[[Item], None],
        ended: Callable[[Item], None],
    ) -> None:
        """restart: runs an item again from its newer document; ended: it left this worker."""
        self._consumer = consumer
        self._line = line
        self._page = page
        self._settings = settings
        self._writers = writers
        self._restart = restart
        self._ended = ended
        self._log = log.get_logger()
        self._writes: list[_Write] = []
        self._settles: list[Item] = []
        self._parks: list[tuple[Item, float]] = []
        self._dead: list[_Dead] = []
        self._to_store: dict[str, list[Item]] = {}
        self._write_number = 0

    # ---- what comes in -----------------------------------------------------------------------------------------------

    def finished(self, item: Item) -> None:
        """An item comes from its links: decide by its outcome."""
        outcome = item.outcome
        assert outcome is not None
        if outcome.kind == "done":
            if item.route.storages:
                item.progress.owed = list(item.route.storages)
                self._save_then(item, self._store)
            else:
                self._settles.append(item)
        elif outcome.kind == "filtered" or outcome.kind == "cancelled":
            if outcome.kind == "cancelled":
                self._back_to_saved(item)
            self._settles.append(item)
        elif outcome.kind == "anew":
            self._start_anew(item)
        elif outcome.kind == "lost":
            self._end(item, "lost")
        else:
            self._attempt_failed(item, outcome)

    def resumed(self, item: Item) -> None:
        """An item comes back with nothing but storages owed: its links are done."""
        item.outcome = Outcome("done")
        if item.progress.owed:
            self._store(item)
        else:
            self._settles.append(item)

    def rejected(self, item: Item, reason: str) -> None:
        """An item that cannot even begin."""
        item.outcome = Outcome("rejected", reason)
        self.finished(item)

    def checkpoint(self, item: Item, checkpoint: Checkpoint) -> None:
        """A chain thread waits until the item's document and progress are written."""
        self._writes.append(_Write(item, lambda _: None, checkpoint))

    def reported(self, report: Report) -> None:
        """A writer answered for its items."""
        for item, outcome in report.answers:
            item.waiting.discard(report.storage)
            if isinstance(outcome, Stored):
                if outcome.etag:
                    item.progress.etags[report.storage] = outcome.etag
                if item.progress.owed is not None:
                    item.progress.owed.remove(report.storage)
            elif isinstance(outcome, Unavailable):
                item.missed[report.storage] = outcome.reason
                item.after_s = max(item.after_s, outcome.after_s or 1.0)
            elif isinstance(outcome, RefusedByStorage):
                item.refused[report.storage] = outcome.reason
            if not item.waiting:
                self._answered(item)

    def release(self, items: Sequence[Item], reason: str) -> None:
        """Give back items that nobody has begun, the last of them first."""
        for batch in _in_batches(items, lambda item: 0):
            moves = [calls.Move(item.token, item.claimed.epoch) for item in batch]
            for item, answer in zip(batch, self._moved(calls.release(self._consumer, moves)), strict=True):
                self._log.debug("released", **item.fields(), reason=reason, answer=answer)
                self._ended(item)

    # ---- decisions ---------------------------------------------------------------------------------------------------

    def _save_then(self, item: Item, then: Callable[[Item], None]) -> None:
        if item.changed:
            self._writes.append(_Write(item, then))
        else:
            then(item)

    def _store(self, item: Item) -> None:
        """Hand the item to all storages that it is owed to, or to the first of them."""
        owed = item.progress.owed or []
        chosen = owed if self._settings.parallel_storage else owed[:1]
        self._page.store(item.slot)
        item.waiting = set(chosen)
        for name in chosen:
            self._to_store.setdefault(name, []).append(item)

    def _answered(self, item: Item) -> None:
        """Every storage that was asked has answered."""
        owed = item.progress.owed or []
        if item.refused:
            name, reason = next(iter(item.refused.items()))
            self._bury(item, "rejected", reason, storage=name)
        elif owed and not item.missed:
            self._store(item)  # one after another, and it is the next one's turn
        elif item.missed:
            item.progress.owed = [name for name in owed if name not in item.refused]
            name, reason = next(iter(item.missed.items()))
            if self._age_s(item) > item.route.config.give_up_s:
                self._bury(item, "unavailable", reason, storage=name)
            else:
                self._log.info(
                    "parked", **item.fields(), storage=",".join(item.missed), reason=reason,
                    after_s=round(item.after_s, 1),
                )
                self._parks.append((item, item.after_s))
        else:
            self._settles.append(item)

    def _attempt_failed(self, item: Item, outcome: Outcome) -> None:
        """A link failed, asked for later, or never: what it changed since the last write is dropped."""
        self._back_to_saved(item)
        item.progress.attempts += 1
        item.progress.error = outcome.reason[:500]
        config, attempts = item.route.config, item.progress.attempts
        if outcome.kind == "rejected":
            self._save_then(item, lambda i: self._bury(i, "rejected", outcome.reason))
            return
        if outcome.kind == "retry":
            over = self._age_s(item) > config.give_up_s
        else:
            over = attempts > config.retries
        if over:
            self._save_then(item, lambda i: self._bury(i, "failed", outcome.reason))
            return
        after_s = outcome.after_s
        if after_s is None:
            after_s = retry.paced_s(attempts, config.backoff_s, config.backoff_max_s)
        self._log.warning(
            "will be retried", **item.fields(), link=outcome.link, error=outcome.reason,
            attempt=attempts, after_s=round(after_s, 1),
        )
        self._save_then(item, lambda i: self._parks.append((i, after_s)))

    def _back_to_saved(self, item: Item) -> None:
        item.progress = Progress.load(item.saved)
        if item.vcon is not None and item.vcon.changed:
            item.vcon = None if not item.unsaved else Vcon.parse(item.text)

    def _age_s(self, item: Item) -> float:
        return time.time() - item.claimed.first_seen_ms / 1000

    def _bury(self, item: Item, reason: str, error: str, storage: str = "") -> None:
        outcome = item.outcome or Outcome("rejected")
        why: dict[str, Any] = {
            "time_ms": int(time.time() * 1000),
            "reason": reason,
            "error": error,
            "list": item.claimed.list,
            "chain": item.route.name,
            "uuid": item.uuid,
            "token": item.token,
            "attempts": item.progress.attempts,
            "deliveries": item.claimed.deliveries,
        }
        if storage:
            why["storage"] = storage
        elif outcome.link:
            why.update(link=outcome.link, type=outcome.error, traceback=outcome.traceback)
        self._dead.append(_Dead(item, why))

    # ---- what goes out -----------------------------------------------------------------------------------------------

    @property
    def waiting(self) -> int:
        """How many items wait for a call."""
        return len(self._writes) + len(self._settles) + len(self._parks) + len(self._dead)

    def flush(self) -> None:
        """Send all that waits: writes first, because settles may follow from them."""
        if self._writes:
            writes, self._writes = self._writes, []
            for batch in _in_batches(writes, lambda write: len(write.item.text)):
                self._flush_writes(batch)
        if self._to_store:
            waiting, self._to_store = self._to_store, {}
            for name, items in waiting.items():
                self._writers[name].put(items)
        if self._settles:
            settles, self._settles = self._settles, []
            for items in _in_batches(settles, lambda item: len(item.text) if item.changed else 0):
                self._flush_settles(items)
        if self._parks:
            parks, self._parks = self._parks, []
            for parked in _in_batches(parks, lambda _: 0):
                self._flush_parks(parked)
        if self._dead:
            dead, self._dead = self._dead, []
            for buried in _in_batches(dead, lambda _: 16384):
                self._flush_dead(buried)

    def _flush_writes(self, batch: Sequence[_Write]) -> None:
        self._write_number += 1
        bodies: list[bytes] = []
        writes = []
        for write in batch:
            item = write.item
            body, changed = item.body(), item.changed
            state = item.progress.dump()
            bodies.append(body)
            writes.append(
                calls.Write(
                    item.token, item.claimed.epoch, item.uuid if changed else "", item.revision,
                    item.route.name, state, body if changed else b"",
                )
            )
        call = calls.write(self._consumer, self._write_number, writes)
        answers = calls.read_answers(self._line.call(call))
        for write, sent, body, answer in zip(batch, writes, bodies, answers, strict=True):
            item = write.item
            if answer.kind == "written":
                if sent.uuid:
                    item.text, item.revision, item.unsaved = body, answer.revision, False
                    if item.vcon is not None:
                        item.vcon.rebase(body)
                item.saved = sent.state
                if write.checkpoint is not None:
                    write.checkpoint.tell()
                else:
                    write.then(item)
            elif answer.kind == "conflict":
                self._conflict(item, answer, write)
            elif answer.kind == "type":
                self._blocked(item, f"vcon:{item.uuid}", answer.found, write.checkpoint)
            elif write.checkpoint is not None:
                write.checkpoint.tell(Lost())
            else:
                self._end(item, "lost")

    def _flush_settles(self, items: Sequence[Item]) -> None:
        settlements = [self._settlement(item) for item in items]
        answers = calls.read_answers(self._line.call(calls.settle(self._consumer, settlements)))
        for item, sent, answer in zip(items, settlements, answers, strict=True):
            if answer.kind == "settled":
                self._end(item, "settled")
            elif answer.kind == "conflict":
                item.text = sent.body
                self._conflict(item, answer, None)
            elif answer.kind == "type":
                self._blocked(item, answer.key, answer.found, None)
            else:
                self._end(item, "lost")

    def _settlement(self, item: Item) -> calls.Settlement:
        outcome, progress = item.outcome, item.progress
        assert outcome is not None
        pushes = list(progress.pushes)
        if outcome.kind == "done":
            pushes = [(name, item.uuid) for name in item.route.config.egress_lists] + pushes
            write = item.changed
        elif outcome.kind == "filtered":
            # What was pushed whole and only filtered goes without ever having been a key.
            write = item.changed and (not item.unsaved or item.vcon_changed or bool(pushes))
        else:
            pushes, write = [], False
        body = item.body() if write else b""
        return calls.Settlement(
            item.token, item.claimed.epoch, item.uuid, item.revision, item.route.name, body,
            self._expiry_s(item, outcome, bool(pushes)), pushes, progress.etags,
        )

    def _expiry_s(self, item: Item, outcome: Outcome, pushed: bool) -> int:
        """Seconds until Redis may forget the document; 0 keeps it."""
        if item.progress.expire_s is not None:
            return item.progress.expire_s
        if outcome.kind == "done" and item.route.storages:
            return self._settings.vcon_redis_expiry_s
        return 0 if pushed else self._settings.orphan_expiry_s

    def _flush_parks(self, parks: Sequence[tuple[Item, float]]) -> None:
        moves = [
            calls.Move(item.token, item.claimed.epoch, item.progress.dump(), int(after_s * 1000))
            for item, after_s in parks
        ]
        answers = self._moved(calls.park(self._consumer, moves))
        for (item, _after_s), answer in zip(parks, answers, strict=True):
            self._end(item, "parked" if answer == "moved" else "lost")

    def _flush_dead(self, dead: Sequence[_Dead]) -> None:
        moves = [
            calls.Move(e.item.token, e.item.claimed.epoch, e.item.progress.dump(), 0, orjson.dumps(e.why))
            for e in dead
        ]
        call = calls.dead_letter(self._consumer, moves, self._settings.dlq_expiry_s)
        for entry, answer in zip(dead, self._moved(call), strict=True):
            item, why = entry
            if answer == "moved":
                fields = {k: v for k, v in why.items() if k in ("link", "storage", "reason", "error", "attempts")}
                self._log.error("dead letter", **item.fields(), list=item.claimed.list, **fields)
                self._end(item, "dead")
            elif answer == "lost":
                self._end(item, "lost")
            else:
                self._blocked(item, f"DLQ:{item.claimed.list}", answer, None)

    def _moved(self, call: calls.Call) -> list[str]:
        return [answer.decode() for answer in self._line.call(call)]

    # ---- what can go wrong -------------------------------------------------------------------------------------------

    def _conflict(self, item: Item, answer: calls.Answer, write: _Write | None) -> None:
        """Somebody wrote a newer document. Join with it and write again, or start anew if it is our own chain's."""
        text = answer.text
        if text is None:
            text = self._line.command("GET", f"vcon:{item.uuid}") or b""
        checkpoint = write.checkpoint if write is not None else None
        if answer.chain == item.route.name:
            item.text, item.revision = text, answer.revision
            if checkpoint is not None:
                checkpoint.tell(StartAnew())
            else:
                self._start_anew(item)
            return
        item.rewrites += 1
        try:
            assert item.vcon is not None
            merged = merge(item.vcon.base, item.vcon, text)
            if item.rewrites > REWRITES_MOST:
                raise Rejected(f"its document was changed {item.rewrites} times while it was written")
        except Rejected as error:
            if checkpoint is not None:
                checkpoint.tell(error)
            else:
                self._bury(item, "rejected", f"two chains changed the vCon: {error.reason}")
            return
        for note in merged.notes:
            self._log.warning("merged with another chain's work", **item.fields(), note=note)
        item.vcon.become(merged.vcon)
        item.text, item.revision, item.unsaved = text, answer.revision, False
        if write is not None:
            self._writes.append(write)
        else:
            self._settles.append(item)

    def _start_anew(self, item: Item) -> None:
        self._log.info("started anew", **item.fields(), reason="the same chain wrote a newer document")
        item.vcon, item.unsaved, item.outcome = None, False, None
        item.progress = Progress(attempts=item.progress.attempts)
        item.saved = b""
        item.claimed.what = "text"
        item.claimed.payload = item.uuid.encode()
        self._restart(item)

    def _blocked(self, item: Item, key: str, found: str, checkpoint: Checkpoint | None) -> None:
        """A key holds another type than it must. Nothing was done; an operator has to act: wait for that."""
        self._log.error(
            "a key has the wrong type", **item.fields(), key=key, found=found,
            what="the item is parked; rename or delete the key and it goes on",
        )
        if checkpoint is not None:
            checkpoint.tell(Retry(WRONG_TYPE_RETRY_S, f"{key} is a Redis {found}"))
            return
        self._parks.append((item, WRONG_TYPE_RETRY_S * random.uniform(0.8, 1.2)))

    def _end(self, item: Item, how: str) -> None:
        outcome = item.outcome
        if how == "settled" and outcome is not None:
            self._log.info(
                {"filtered": "filtered", "cancelled": "cancelled"}.get(outcome.kind, "done"),
                **item.fields(), list=item.claimed.list,
                duration_ms=round((time.monotonic() - item.claimed_at_s) * 1000, 2),
                links_ms=round(item.links_s * 1000, 2),
            )
            self._page.count(done=1)
        elif how == "dead":
            self._page.count(failed=1)
        elif how == "lost":
            self._log.warning("lost to another worker", **item.fields(), what="nothing was done here")
        self._ended(item)


def _in_batches(entries: Iterable[Any], size: Callable[[Any], int]) -> Iterator[list[Any]]:
    """Split what waits into calls of at most 256 entries and 4 MiB, or one entry."""
    batch: list[Any] = []
    total = 0
    for entry in entries:
        entry_bytes = size(entry)
        if batch and (len(batch) >= 256 or total + entry_bytes > calls.BATCH_BYTES):
            yield batch
            batch, total = [], 0
        batch.append(entry)
        total += entry_bytes
    if batch:
        yield batch

"""Outbox: sends writes, settles, parks, dead letters and releases of items to Redis.

1. flush() sends each kind in batches that are bounded by count and bytes. RetryingConnection
   repeats a call until Redis answers it.
2. An item leaves the worker (departures.py) once the script has answered that it has settled or
   moved the item, or that another consumer has it.
3. A key of the wrong type prevents a call, until an operator renames or deletes the key:

       prevented      what happens to the item
       write, settle  it is parked for 30 s; a checkpoint ends with a Retry of its link
       dead letter    it is parked for 30 s
       park           the worker keeps it, and tries again after 30 s
       release        the worker forgets it; Intake.return_strays returns it later

4. If the document was replaced meanwhile, the write or settle has a conflict: conflicts.py.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import groupby
from typing import Any, NamedTuple, TypeVar

import orjson

from conserver.errors import Rejected, Retry
from conserver.process.boot import Boot
from conserver.queue import calls, keys
from conserver.queue.retrying_connection import RetryingConnection
from conserver.telemetry import log
from conserver.telemetry.redact import redact_texts
from conserver.worker import spans, story
from conserver.worker.chain import outcome_of
from conserver.worker.checkpoint import Checkpoint, StartAnew, TakenAway
from conserver.worker.conflicts import Conflicts, UnfinishedCall
from conserver.worker.departures import Departures
from conserver.worker.document_loader import DocumentLoader
from conserver.worker.item import Item, OutcomeKind
from conserver.worker.settlement import settlement

WRONG_TYPE_RETRY_S = 30.0

_NOT_DONE = ("conflict", "type", "refused")
"""Answers to a write or settle of an item that the worker still holds."""

_Entry = TypeVar("_Entry")


class _Write(NamedTuple):
    item: Item
    then: Callable[[Item], None]
    checkpoint: Checkpoint | None = None


class _Settle(NamedTuple):
    item: Item
    settlement: calls.Settlement


class _Move(NamedTuple):
    """A park, dead letter or release. on_left: called once the item has left the worker."""

    kind: calls.MoveKind
    item: Item
    move: calls.Move
    on_left: Callable[[], None]


class Outbox:
    """Collects what is to be sent, and sends it. Used by the worker loop only."""

    def __init__(
        self,
        boot: Boot,
        redis: RetryingConnection,
        documents: DocumentLoader,
        departures: Departures,
    ) -> None:
        self._consumer = boot.consumer
        self._settings = boot.settings
        self._redis = redis
        self._departures = departures
        self._conflicts = Conflicts(self, redis, documents)
        self._log = log.get_logger()
        self._writes: list[_Write] = []
        self._settles: list[_Settle] = []
        self._moves: list[_Move] = []
        # Parks that failed because a key has the wrong type, each with the time of its next try.
        self._blocked_parks: list[tuple[float, _Move]] = []
        self._write_number = 0
        self.chain_ended: Callable[[Item], None]  # OutcomeHandler sets it to its method.

    # ---- queueing --------------------------------------------------------------------------------

    def write(self, item: Item, then: Callable[[Item], None]) -> None:
        """Write the item's progress, and its document if it has changed. Then call `then`."""
        self._writes.append(_Write(item, then))

    def write_checkpoint(self, checkpoint: Checkpoint) -> None:
        """Write a checkpoint's progress and document, then let its chain thread go on."""
        self._writes.append(_Write(checkpoint.item, lambda _: checkpoint.finish(), checkpoint))

    def settle(self, item: Item) -> None:
        """End an item that is done, filtered or cancelled."""
        self._settles.append(_Settle(item, settlement(item, self._settings)))

    def park(self, item: Item, after_s: float, **waits_for: Any) -> None:
        """Set the item aside in Redis. After `after_s` any worker may claim it again.

        Args:
            waits_for: the cause of the wait. The item's job shows it, and the number of attempts.
        """
        told = {**waits_for, "attempts": item.progress.attempts}
        why = orjson.dumps(redact_texts(told)) if item.claimed.job else b""
        move = _move(item)._replace(after_ms=int(after_s * 1000), why=why)
        on_left = partial(self._departures.parked, item, after_s, waits_for)
        self._moves.append(_Move("park", item, move, on_left))

    def dead_letter(self, item: Item, reason: str, error: str, storage: str = "") -> None:
        """End the item as a dead letter. See Item.dead_letter_reason for the arguments."""
        why = item.dead_letter_reason(reason, error, storage)
        on_left = partial(self._departures.dead_lettered, item, why)
        move = _move(item)._replace(why=orjson.dumps(why))
        self._moves.append(_Move("dead", item, move, on_left))

    def release(self, items: Sequence[Item], reason: str) -> None:
        """Return items that no thread has started to the heads of their lists, at once."""
        for item in items:
            move = calls.Move(item.token, item.claimed.epoch)
            on_left = partial(self._departures.released, item, reason)
            self._moves.append(_Move("release", item, move, on_left))
        self._flush_moves()

    def end_attempt(
        self,
        item: Item,
        checkpoint: Checkpoint | None,
        error: Rejected | Retry | StartAnew | TakenAway,
    ) -> None:
        """End an attempt whose write or settle Redis has not carried out, as if its last link had
        raised the error. If a chain thread waits for the checkpoint, the error is raised there.
        """
        if checkpoint is not None:
            checkpoint.finish(error)
            return
        item.outcome = outcome_of(error)
        item.outcome.write_failed = True
        self.chain_ended(item)

    # ---- sending ---------------------------------------------------------------------------------

    @property
    def waiting(self) -> int:
        """How many writes, settles and moves wait for flush()."""
        return len(self._writes) + len(self._settles) + len(self._moves)

    def flush(self) -> None:
        """Send everything that is queued. Writes go first, because they may queue settles."""
        if self._writes:
            writes, self._writes = self._writes, []
            for batch in _batches(writes, lambda one: _lua_bytes(one.item, len(one.item.body))):
                self._flush_writes(batch)
        if self._settles:
            settles, self._settles = self._settles, []
            for some in _batches(
                settles, lambda one: _lua_bytes(one.item, len(one.settlement.body))
            ):
                self._flush_settles(some)
        if self._blocked_parks:
            self.retry_parks(time.monotonic())
        if self._moves:
            self._flush_moves()

    def _flush_writes(self, batch: Sequence[_Write]) -> None:
        self._write_number += 1
        writes = [_write_call(write.item) for write in batch]
        call = calls.write(self._consumer, self._write_number, writes)
        items = [write.item for write in batch]
        answers = calls.read_answers(spans.redis_call(self._redis, call, items, self._consumer))
        for write, sent, answer in zip(batch, writes, answers, strict=True):
            item = write.item
            if answer.kind == "written":
                if sent.uuid:
                    item.document_written(sent.body, answer.revision)
                item.saved_state = sent.state
                if item.story is not None:
                    story.add(item, "checkpoint")
                write.then(item)
            elif answer.kind in _NOT_DONE:
                again = partial(self._write_again, write)
                self._not_done(UnfinishedCall(item, write.checkpoint, again), answer)
            else:
                self.end_attempt(item, write.checkpoint, TakenAway())

    def _write_again(self, write: _Write) -> None:
        self._writes.append(write)

    def _flush_settles(self, batch: Sequence[_Settle]) -> None:
        call = calls.settle(self._consumer, [settle.settlement for settle in batch])
        repeats = self._redis.repeats
        spans.leave_contexts(
            self._redis,
            [(settle.item, settle.settlement.pushes) for settle in batch],
            self._settings.context_expiry_s,
        )
        items = [settle.item for settle in batch]
        answers = calls.read_answers(spans.redis_call(self._redis, call, items, self._consumer))
        settled: list[Item] = []
        for item, answer in zip(items, answers, strict=True):
            if answer.kind == "settled":
                settled.append(item)
            elif answer.kind in _NOT_DONE:
                self._not_done(UnfinishedCall(item, None, partial(self.settle, item)), answer)
            else:
                self._lost(item, repeats)
        self._departures.settled(settled)

    def _not_done(self, call: UnfinishedCall, answer: calls.Answer) -> None:
        """Handle an item that Redis has not written or settled, and that this worker holds."""
        if answer.kind == "conflict":
            self._conflicts.resolve(call, answer)
        elif answer.kind == "type":
            self._wrong_type(call.item, answer.key, answer.found, call.checkpoint)
        else:  # "refused"
            why = "RedisJSON does not take what the links have made of the document"
            self.end_attempt(call.item, call.checkpoint, Rejected(f"{why}: {answer.found}"))

    def _flush_moves(self) -> None:
        moves, self._moves = sorted(self._moves, key=lambda one: one.kind), []
        for kind, alike in groupby(moves, lambda one: one.kind):
            for batch in _batches(alike, _move_bytes):
                self._send_moves(kind, batch)

    def _send_moves(self, kind: calls.MoveKind, batch: Sequence[_Move]) -> None:
        keep_s, repeats = self._settings.dlq_expiry_s, self._redis.repeats
        call = calls.move(kind, self._consumer, [one.move for one in batch], keep_s)
        items = [one.item for one in batch]
        answers = spans.redis_call(self._redis, call, items, self._consumer)
        for one, answer in zip(batch, answers, strict=True):
            if answer == b"moved":
                one.on_left()
            elif answer == b"lost":
                self._lost(one.item, repeats)
            else:
                self._blocked(one, answer.decode())

    def _blocked(self, one: _Move, answer: str) -> None:
        """Handle a move that a key of the wrong type prevented. answer: "<type> <key>"."""
        if one.kind == "dead":
            found, _, key = answer.partition(" ")
            self._wrong_type(one.item, key, found, None)
        elif one.kind == "park":
            self._log_wrong_type(one.item, answer, "the item stays with its worker")
            self._blocked_parks.append((time.monotonic() + WRONG_TYPE_RETRY_S, one))
        else:
            self._log_wrong_type(one.item, answer, "the item is returned later")
            one.on_left()

    def retry_parks(self, now_s: float) -> None:
        """Queue those blocked parks again that are due."""
        blocked, self._blocked_parks = self._blocked_parks, []
        for due_s, park in blocked:
            if due_s <= now_s:
                self._moves.append(park)
            else:
                self._blocked_parks.append((due_s, park))

    def _lost(self, item: Item, repeats: int) -> None:
        """Drop an item that a call did not find.

        Args:
            repeats: `redis.repeats` before the call. If it has grown, the call was repeated, and
                its first try may have ended the item.
        """
        self._departures.lost(item, repeated=self._redis.repeats > repeats)

    # ---- keys of the wrong type ------------------------------------------------------------------

    def _wrong_type(self, item: Item, key: str, found: str, checkpoint: Checkpoint | None) -> None:
        """Park an item whose call did nothing because `key` has the wrong type, `found`."""
        self._log_wrong_type(item, f"{found} {key}", "the item is parked")
        if checkpoint is not None:
            checkpoint.finish(Retry(WRONG_TYPE_RETRY_S, f"{key} is a Redis {found}"))
            return
        after_s = WRONG_TYPE_RETRY_S * random.uniform(0.8, 1.2)
        done = item.outcome is not None and item.outcome.kind is OutcomeKind.DONE
        if item.needs_write and done and not key.startswith((keys.document(""), keys.revision(""))):
            # The document itself can be written. This keeps the work of the links.
            self.write(item, lambda i: self.park(i, after_s, key=key))
            return
        if item.needs_write or not done:
            # The record must not list a link as done if the document lacks its changes.
            item.revert_to_saved()
        self.park(item, after_s, key=key)

    def _log_wrong_type(self, item: Item, answer: str, what: str) -> None:
        found, _, key = answer.partition(" ")
        self._log.error(
            "wrong_type",
            **item.log_fields(),
            key=key,
            found=found,
            what=f"{what}; rename or delete the key and it goes on",
        )


def _write_call(item: Item) -> calls.Write:
    """The call that writes an item's progress, and its document if that has changed."""
    uuid, body = (item.uuid, item.body) if item.needs_write else ("", b"")
    claimed, state = item.claimed, item.progress.dump()
    return calls.Write(
        claimed.token, claimed.epoch, uuid, item.revision, item.route.name, state, body
    )


def _move(item: Item) -> calls.Move:
    """The move of an item, with its progress. The record of a refused item stays as it is."""
    if item.is_refused:
        return calls.Move(item.token, item.claimed.epoch)
    return calls.Move(item.token, item.claimed.epoch, item.progress.dump(), item.revision)


def _lua_bytes(item: Item, sent_bytes: int) -> int:
    """How many bytes Lua handles for an item: those that are sent, and those of its record. The
    record contains the document if this was pushed inline and is not written yet.
    """
    return sent_bytes + (len(item.claimed.payload) if item.unsaved else 0)


def _move_bytes(one: _Move) -> int:
    item, sent_bytes = one.item, len(one.move.why)
    if not item.is_refused:
        return _lua_bytes(item, sent_bytes)
    # Nothing was written: the record contains the whole payload, also if the claim cut it.
    return sent_bytes + max(item.claimed.length, len(item.claimed.payload))


def _batches(
    entries: Iterable[_Entry], size_bytes: Callable[[_Entry], int]
) -> Iterator[list[_Entry]]:
    """Split entries into batches of at most BATCH_ITEMS entries and SCRIPT_BYTES bytes. A larger
    entry is a batch of its own.
    """
    batch: list[_Entry] = []
    total = 0
    for entry in entries:
        entry_bytes = size_bytes(entry)
        full = len(batch) >= calls.BATCH_ITEMS or total + entry_bytes > calls.SCRIPT_BYTES
        if batch and full:
            yield batch
            batch, total = [], 0
        batch.append(entry)
        total += entry_bytes
    if batch:
        yield batch

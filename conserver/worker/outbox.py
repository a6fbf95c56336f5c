"""Outbox: sends the items' writes to Redis, and removes the items that have ended or were moved.

1. Collects writes, settles, parks and dead letters. flush() sends each kind in batches that are
   bounded by count and bytes; RetryingConnection repeats a call until it is answered.
2. An item leaves the worker only after the script has answered that it is settled, parked,
   dead-lettered or released, or that another consumer has it now.
3. If a key has the wrong type, the item is parked (or kept, if it cannot be) and tried again every
   30 s, until an operator has renamed or deleted the key. A document that was replaced meanwhile
   is a conflict: conflicts.py.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeVar

import orjson

from conserver.errors import Rejected, Retry, with_type
from conserver.process.boot import Boot
from conserver.queue import calls, script
from conserver.queue.retrying_connection import RetryingConnection
from conserver.telemetry import log
from conserver.telemetry.redact import redact_text, redact_texts
from conserver.worker import spans, story
from conserver.worker.checkpoint import Checkpoint, Lost, StartAnew
from conserver.worker.conflicts import Conflict, Conflicts
from conserver.worker.document_loader import DocumentLoader
from conserver.worker.held_items import HeldItems
from conserver.worker.item import ChainOutcome, Item, OutcomeKind
from conserver.worker.meters import Meters
from conserver.worker.settlement import STATUSES, settlement
from conserver.worker.story import Teller
from conserver.worker.work_queue import WorkQueue

WRONG_TYPE_RETRY_S = 30.0
REASON_BYTES = 16384  # of a dead letter, with its traceback
DEAD_LETTER_LOG_FIELDS = ("link", "storage", "reason", "error", "attempts")

_Entry = TypeVar("_Entry")


class _Write(NamedTuple):
    item: Item
    then: Callable[[Item], None]
    checkpoint: Checkpoint | None = None


class _Settle(NamedTuple):
    item: Item
    settlement: calls.Settlement


class _Park(NamedTuple):
    item: Item
    after_s: float
    waits_for: dict[str, Any]


class _DeadLetter(NamedTuple):
    item: Item
    why: dict[str, Any]


class Outbox:
    """Used by the worker loop only."""

    def __init__(
        self,
        boot: Boot,
        redis: RetryingConnection,
        held: HeldItems,
        queue: WorkQueue,
        documents: DocumentLoader,
        teller: Teller,
        meters: Meters | None = None,
    ) -> None:
        self._meters = meters
        self._consumer = boot.consumer
        self._settings = boot.settings
        self._status = boot.status
        self._redis = redis
        self._held = held
        self._queue = queue
        self._teller = teller
        self._conflicts = Conflicts(self, redis, documents)
        # Bound here, because binding once per item would be slow.
        self._log = log.get_logger().bind()
        self._writes: list[_Write] = []
        self._settles: list[_Settle] = []
        self._parks: list[_Park] = []
        self._dead: list[_DeadLetter] = []
        # Parks that failed because a key has the wrong type, each with the time of its next try.
        self._blocked_parks: list[tuple[float, _Park]] = []
        self._write_number = 0

    # ---- what is to be sent ----------------------------------------------------------------------

    def write(self, item: Item, then: Callable[[Item], None]) -> None:
        """Write the item's progress, and its document if that has changed; then call `then`."""
        self._writes.append(_Write(item, then))

    def write_checkpoint(self, checkpoint: Checkpoint) -> None:
        """Write the same for a chain thread that waits: it goes on, or gets the error."""
        self._writes.append(_Write(checkpoint.item, lambda _: checkpoint.finish(), checkpoint))

    def settle(self, item: Item) -> None:
        """End an item that is done, filtered or cancelled."""
        self._settles.append(_Settle(item, settlement(item, self._settings)))

    def park(self, item: Item, after_s: float, **waits_for: Any) -> None:
        """Set the item aside in Redis; some worker claims it again after that many seconds.

        Args:
            waits_for: what the item's job shows as the cause.
        """
        self._parks.append(_Park(item, after_s, waits_for))

    def dead_letter(self, item: Item, reason: str, error: str, storage: str = "") -> None:
        """End the item as a dead letter; the arguments are those of Item.dead_letter_reason."""
        self._dead.append(_DeadLetter(item, item.dead_letter_reason(reason, error, storage)))

    def release(self, items: Sequence[Item], reason: str) -> None:
        """Put items that no thread has started back at the head of their lists, now."""
        for batch in _batches(items, _lua_bytes):
            moves = [calls.Move(item.token, item.claimed.epoch) for item in batch]
            answers = self._call(calls.release(self._consumer, moves))
            for item, answer in zip(batch, answers, strict=True):
                if " " in answer:  # it stays in flight, where the search for strays finds it
                    self._log_wrong_type(item, answer, "the item is returned later")
                self._log.debug("released", **item.log_fields(), reason=reason, answer=answer)
                self._teller.end(item, "released", text=reason)
                self._held.remove(item)

    # ---- what becomes of an item without a call --------------------------------------------------

    def start_anew(self, item: Item) -> None:
        """Run the item from the newer document in `text`, as if it had just been claimed."""
        reason = "its document is another one now"
        self._log.info("started_anew", **item.log_fields(), reason=reason)
        item.start_anew()
        item.claimed.what = "text"
        item.claimed.payload = item.uuid.encode()
        self._queue.put([item])

    def lost(self, item: Item, repeats: int | None = None) -> None:
        """Remove an item that Redis does not have under this consumer any more.

        Args:
            repeats: how many calls the connection had repeated before the call that missed the
                item. If that call was repeated, its first execution has most likely ended the item.
        """
        if repeats is not None and self._redis.repeats > repeats:
            what = "an answer of Redis got lost: it ended then, or somebody else has it"
            self._log.info("unconfirmed", **item.log_fields(), what=what)
        else:
            self._log.warning("item_lost", **item.log_fields(), what="nothing was done here")
            self._teller.end(item, "lost")
        self._leave(item, "lost", "lost", "another consumer has it, or it has ended")

    def end_attempt(
        self,
        item: Item,
        checkpoint: Checkpoint | None,
        error: Rejected | Retry | StartAnew | Lost,
    ) -> None:
        """End the attempt whose write was not carried out. If a chain thread waits for the
        checkpoint, `error` is raised there; else the item is lost, restarted, parked or
        dead-lettered here, as the error says.
        """
        if checkpoint is not None:
            checkpoint.finish(error)
            return
        match error:
            case Lost():
                self.lost(item)
            case StartAnew():
                self.start_anew(item)
            case Rejected():
                item.revert_to_saved()
                self.dead_letter(item, "rejected", error.reason)
            case Retry():
                item.revert_to_saved()
                self.park(item, error.after_s or 0.0, error=str(error))

    # ---- sending ---------------------------------------------------------------------------------

    @property
    def waiting(self) -> int:
        """How many entries wait for flush()."""
        return len(self._writes) + len(self._settles) + len(self._parks) + len(self._dead)

    def flush(self) -> None:
        """Send all that waits: writes first, because settles may follow from them."""
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
        if self._parks:
            parks, self._parks = self._parks, []
            for parked in _batches(parks, lambda one: _lua_bytes(one.item)):
                self._flush_parks(parked)
        if self._dead:
            dead, self._dead = self._dead, []
            for letters in _batches(dead, lambda one: _lua_bytes(one.item, REASON_BYTES)):
                self._flush_dead(letters)

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
                if item.attempt is not None:
                    story.add(item, "checkpoint")
                write.then(item)
            elif answer.kind == "conflict":
                again = partial(self._write_again, write)
                self._conflicts.resolve(Conflict(item, write.checkpoint, again), answer)
            elif answer.kind == "type":
                self._wrong_type(item, answer.key, answer.found, write.checkpoint)
            elif answer.kind == "refused":
                self.end_attempt(item, write.checkpoint, _refused(answer.found))
            else:
                self.end_attempt(item, write.checkpoint, Lost())

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
        for settle, answer in zip(batch, answers, strict=True):
            item = settle.item
            if answer.kind == "settled":
                self._settled(item)
            elif answer.kind == "conflict":
                again = partial(self.settle, item)
                self._conflicts.resolve(Conflict(item, None, again), answer)
            elif answer.kind == "type":
                self._wrong_type(item, answer.key, answer.found, None)
            elif answer.kind == "refused":
                self.end_attempt(item, None, _refused(answer.found))
            else:
                self.lost(item, repeats)
        if self._meters is not None:
            kinds = (answer.kind for answer in answers)
            self._meters.ended(i for i, kind in zip(items, kinds, strict=True) if kind == "settled")

    def _settled(self, item: Item) -> None:
        if item.outcome is not None and self._log.is_enabled_for(logging.INFO):
            outcome = item.outcome
            by = {"link": outcome.link, "reason": redact_text(outcome.reason)}
            self._log.info(
                outcome.kind.value,
                **item.log_fields(),
                **{name: text for name, text in by.items() if text},
                list=item.claimed.list,
                duration_ms=round((time.monotonic() - item.claimed_at_s) * 1000, 2),
                links_ms=round(item.links_s * 1000, 2),
            )
        self._status.count(done=1)
        if item.attempt is not None and item.outcome is not None:
            kind = STATUSES[item.outcome.kind]
            egress = item.route.config.egress_lists if kind == "completed" else ()
            self._teller.end(item, kind, ", ".join(egress), _how(item.outcome))
        if item.notification is not None:
            done = item.outcome is not None and item.outcome.kind is OutcomeKind.DONE
            self._tell(item, b"" if done else b'{"error":"it was cancelled"}')
        self._leave(item, item.outcome.kind.value if item.outcome is not None else "")

    def _tell(self, item: Item, error: bytes = b"") -> None:
        """Show on the job of a notification what became of that."""
        assert item.notification is not None
        event, what = item.notification.event, "failed" if error else "delivered"
        self._redis.call(calls.told(event.job, event.seq, what, error))

    def _flush_parks(self, parks: Sequence[_Park]) -> None:
        moves = [
            _move(park.item)._replace(after_ms=int(park.after_s * 1000), why=_cause(park))
            for park in parks
        ]
        repeats = self._redis.repeats
        answers = self._call(calls.park(self._consumer, moves), [park.item for park in parks])
        for park, answer in zip(parks, answers, strict=True):
            if answer == "moved":
                if self._meters is not None:
                    cause = "storage" if "storages" in park.waits_for else "retry"
                    self._meters.parked(park.item, cause)
                if park.item.attempt is not None:
                    self._teller.end(park.item, "parked", text=_told(park))
                self._leave(park.item, "parked")
            elif answer == "lost":
                self.lost(park.item, repeats)
            else:
                self._log_wrong_type(park.item, answer, "the item stays with its worker")
                self._blocked_parks.append((time.monotonic() + WRONG_TYPE_RETRY_S, park))

    def retry_parks(self, now_s: float) -> None:
        """Queue the blocked parks again whose time has come."""
        blocked, self._blocked_parks = self._blocked_parks, []
        for due_s, park in blocked:
            if due_s <= now_s:
                self._parks.append(park)
            else:
                self._blocked_parks.append((due_s, park))

    def _flush_dead(self, dead: Sequence[_DeadLetter]) -> None:
        moves = [_move(letter.item)._replace(why=orjson.dumps(letter.why)) for letter in dead]
        call = calls.dead_letter(self._consumer, moves, self._settings.dlq_expiry_s)
        repeats = self._redis.repeats
        answers = self._call(call, [letter.item for letter in dead])
        for (item, why), answer in zip(dead, answers, strict=True):
            if answer == "moved":
                fields = {name: why[name] for name in DEAD_LETTER_LOG_FIELDS if name in why}
                fields["error"] = with_type(why.get("type", ""), why["error"])
                self._log.error(
                    "dead_letter", **item.log_fields(), list=item.claimed.list, **fields
                )
                self._status.count(failed=1)
                if self._meters is not None:
                    self._meters.dead_lettered(item.route.name, why["reason"])
                self._teller.end(item, "failed", text=f"{why['reason']}: {fields['error']}")
                if item.notification is not None:
                    self._tell(item, orjson.dumps({"error": why["error"]}))
                self._leave(item, "dead_letter", why["reason"], why["error"])
            elif answer == "lost":
                self.lost(item, repeats)
            else:
                found, _, key = answer.partition(" ")
                self._wrong_type(item, key, found, None)

    def _call(self, call: script.Call, items: Sequence[Item] = ()) -> list[str]:
        answers = spans.redis_call(self._redis, call, items, self._consumer)
        return [answer.decode() for answer in answers]

    def _leave(self, item: Item, how: str, error: str = "", text: str = "") -> None:
        """The item has left this worker, in this way; `error` and `text` say why, if it failed."""
        if item.span is not None:
            spans.ended(item, how, error, text)
        self._held.remove(item)

    # ---- keys of the wrong type ------------------------------------------------------------------

    def _wrong_type(self, item: Item, key: str, found: str, checkpoint: Checkpoint | None) -> None:
        """Nothing was done, because `key` holds the type `found`: try again later."""
        self._log_wrong_type(item, f"{found} {key}", "the item is parked")
        if checkpoint is not None:
            checkpoint.finish(Retry(WRONG_TYPE_RETRY_S, f"{key} is a Redis {found}"))
            return
        after_s = WRONG_TYPE_RETRY_S * random.uniform(0.8, 1.2)
        done = item.outcome is not None and item.outcome.kind is OutcomeKind.DONE
        if item.changed and done and not key.startswith(("vcon:", "conserver:revision:")):
            # The document can be written, so that the work of the links is not lost.
            self.write(item, lambda i: self.park(i, after_s, key=key))
            return
        if item.changed or not done:
            # The record must not list links as done whose changes are not in the document.
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


def _how(outcome: ChainOutcome) -> str:
    """Which link has ended the chain, and why, as the story of the item tells it."""
    by = f"by {outcome.link}" if outcome.link else ""
    return ": ".join(part for part in (by, outcome.reason) if part)


def _refused(reason: str) -> Rejected:
    """RedisJSON does not take the document, and never will."""
    return Rejected(f"RedisJSON does not take what the links have made of the document: {reason}")


def _write_call(item: Item) -> calls.Write:
    """The write of an item's progress, and of its document if that has changed."""
    uuid, body = (item.uuid, item.body) if item.changed else ("", b"")
    claimed, state = item.claimed, item.progress.dump()
    return calls.Write(
        claimed.token, claimed.epoch, uuid, item.revision, item.route.name, state, body
    )


def _move(item: Item) -> calls.Move:
    """The move of an item, with its progress."""
    return calls.Move(item.token, item.claimed.epoch, item.progress.dump(), item.revision)


def _told(park: _Park) -> str:
    """For how long an item is parked and what for, as its story tells it."""
    causes = park.waits_for.get("storages") or park.waits_for
    told = "; ".join(f"{name}: {cause}" for name, cause in causes.items() if name != "link")
    return f"for {park.after_s:.1f} s: {told}"


def _cause(park: _Park) -> bytes:
    """What a parked item waits for, as its job shows it; b"" for an item without a job."""
    if not park.item.claimed.job:
        return b""
    return orjson.dumps(redact_texts(park.waits_for))


def _lua_bytes(item: Item, sent_bytes: int = 0) -> int:
    """How many bytes Lua handles for an item: those that are sent and those of its record, which
    contains the whole document if that was pushed inline and is not written yet.
    """
    return sent_bytes + (len(item.claimed.payload) if item.unsaved else 0)


def _batches(
    entries: Iterable[_Entry], size_bytes: Callable[[_Entry], int]
) -> Iterator[list[_Entry]]:
    """Split entries into batches of at most BATCH_ITEMS and SCRIPT_BYTES, or of one entry."""
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

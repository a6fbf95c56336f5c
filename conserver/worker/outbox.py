"""The outbox: what items in a worker owe to Redis, sent in batches.

1. Collects writes, settles, parks and dead letters, and sends each kind as calls bounded by count
   and bytes, one at a time, each repeated until it is answered.
2. Ends items: one leaves a worker only after the answer of the script that took it out of flight.
3. Holds on to items that a key of the wrong type is in the way of. What a newer document means for
   an item is decided by conflicts.py.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import orjson

from conserver.errors import Rejected, Retry
from conserver.process.shared_status import SharedStatus
from conserver.queue import calls, script
from conserver.queue.retrying_connection import RetryingConnection
from conserver.telemetry import log
from conserver.worker.chain import Checkpoint, Lost
from conserver.worker.conflicts import Conflicts
from conserver.worker.item import Item

WRONG_TYPE_RETRY_S = 30.0
REASON_BYTES = 16384  # of a dead letter, with a traceback
TOLD_OF_DEAD = ("link", "storage", "reason", "error", "attempts")


class _Write(NamedTuple):
    item: Item
    then: Callable[[Item], None]
    checkpoint: Checkpoint | None = None


class _Settle(NamedTuple):
    item: Item
    settlement: calls.Settlement
    again: Callable[[Item], None]


class _Dead(NamedTuple):
    item: Item
    why: dict[str, Any]


class Outbox:
    """Used by the keeper's thread alone."""

    def __init__(
        self,
        consumer: str,
        line: RetryingConnection,
        status: SharedStatus,
        keep_dead_s: int,
        restart: Callable[[Item], None],
        ended: Callable[[Item], None],
        look_up: Callable[[Item, Callable[[bytes | None], None]], bool],
    ) -> None:
        """restart: runs an item again from its newer document; ended: it left this worker; look_up:
        asks the storages for its document, see Documents.look_up.
        """
        self._consumer = consumer
        self._line = line
        self._status = status
        self._keep_dead_s = keep_dead_s
        self._ended = ended
        self._conflicts = Conflicts(line, restart, look_up, self.park, self.dead_letter)
        # Bound once: it is asked for every item whether it should say something.
        self._log = log.get_logger().bind()
        self._writes: list[_Write] = []
        self._settles: list[_Settle] = []
        self._parks: list[tuple[Item, float]] = []
        self._dead: list[_Dead] = []
        # What could not be parked, and when to try again.
        self._barred: list[tuple[float, Item, float]] = []
        self._write_number = 0

    # ---- what is to be sent ----------------------------------------------------------------------

    def write(
        self, item: Item, then: Callable[[Item], None], checkpoint: Checkpoint | None = None
    ) -> None:
        """Write the item's document, if it has changed, and its progress; then go on with it."""
        self._writes.append(_Write(item, then, checkpoint))

    def settle(
        self, item: Item, settlement: calls.Settlement, again: Callable[[Item], None]
    ) -> None:
        """End the item. `again` is called if a newer document came between and was merged with."""
        self._settles.append(_Settle(item, settlement, again))

    def park(self, item: Item, after_s: float) -> None:
        """Put the item aside for so long."""
        self._parks.append((item, after_s))

    def dead_letter(self, item: Item, why: dict[str, Any]) -> None:
        """Make it a dead letter, with the reason."""
        self._dead.append(_Dead(item, why))

    def lost(self, item: Item) -> None:
        """Drop an item that was given to somebody else."""
        self._end(item, "lost")

    def start_anew(self, item: Item) -> None:
        """Run an item from the newer document that a checkpoint has met."""
        self._conflicts.start_anew(item)

    def release(self, items: Sequence[Item], reason: str) -> None:
        """Give back items that nobody has begun, the last of them first."""
        for batch in _in_batches(items, _lua_bytes):
            moves = [calls.Move(item.token, item.claimed.epoch) for item in batch]
            for item, answer in zip(
                batch, self._moved(calls.release(self._consumer, moves)), strict=True
            ):
                if " " in answer:  # it stays in flight; the look for strays finds it there
                    self._tell_wrong_type(item, answer, "the item is returned later")
                self._log.debug("released", **item.fields(), reason=reason, answer=answer)
                self._ended(item)

    # ---- sending ---------------------------------------------------------------------------------

    @property
    def waiting(self) -> int:
        """How many items wait for a call."""
        return len(self._writes) + len(self._settles) + len(self._parks) + len(self._dead)

    def flush(self) -> None:
        """Send all that waits: writes first, because settles may follow from them."""
        if self._writes:
            writes, self._writes = self._writes, []
            for batch in _in_batches(writes, lambda one: _lua_bytes(one.item, len(one.item.body))):
                self._flush_writes(batch)
        if self._settles:
            settles, self._settles = self._settles, []
            for items in _in_batches(
                settles, lambda one: _lua_bytes(one.item, len(one.settlement.body))
            ):
                self._flush_settles(items)
        if self._barred:
            self.try_again(time.monotonic())
        if self._parks:
            parks, self._parks = self._parks, []
            for parked in _in_batches(parks, lambda one: _lua_bytes(one[0])):
                self._flush_parks(parked)
        if self._dead:
            dead, self._dead = self._dead, []
            for buried in _in_batches(dead, lambda one: _lua_bytes(one.item, REASON_BYTES)):
                self._flush_dead(buried)

    def _flush_writes(self, batch: Sequence[_Write]) -> None:
        self._write_number += 1
        writes = [_as_call(write.item) for write in batch]
        call = calls.write(self._consumer, self._write_number, writes)
        answers = calls.read_answers(self._line.call(call))
        for write, sent, answer in zip(batch, writes, answers, strict=True):
            item = write.item
            if answer.kind == "written":
                if sent.uuid:
                    item.written(sent.body, answer.revision)
                item.saved = sent.state
                if write.checkpoint is not None:
                    write.checkpoint.tell()
                else:
                    write.then(item)
            elif answer.kind == "conflict":
                again = partial(self.write, then=write.then, checkpoint=write.checkpoint)
                self._conflicts.meet(item, answer, write.checkpoint, again)
            elif answer.kind == "type":
                self._blocked(item, answer.key, answer.found, write.checkpoint)
            elif answer.kind == "refused":
                self._refused(item, answer.found, write.checkpoint)
            elif write.checkpoint is not None:
                write.checkpoint.tell(Lost())
            else:
                self._end(item, "lost")

    def _flush_settles(self, batch: Sequence[_Settle]) -> None:
        call = calls.settle(self._consumer, [settle.settlement for settle in batch])
        repeats = self._line.repeats
        answers = calls.read_answers(self._line.call(call))
        for settle, answer in zip(batch, answers, strict=True):
            item = settle.item
            if answer.kind == "settled":
                self._end(item, "settled")
            elif answer.kind == "conflict":
                self._conflicts.meet(item, answer, None, settle.again)
            elif answer.kind == "type":
                self._blocked(item, answer.key, answer.found, None)
            elif answer.kind == "refused":
                self._refused(item, answer.found, None)
            else:
                self._end(item, self._lost_since(repeats))

    def _flush_parks(self, parks: Sequence[tuple[Item, float]]) -> None:
        moves = [_move(item)._replace(after_ms=int(after_s * 1000)) for item, after_s in parks]
        repeats = self._line.repeats
        answers = self._moved(calls.park(self._consumer, moves))
        for (item, after_s), answer in zip(parks, answers, strict=True):
            if answer == "moved":
                self._end(item, "parked")
            elif answer == "lost":
                self._end(item, self._lost_since(repeats))
            else:
                self._tell_wrong_type(item, answer, "the item stays with its worker")
                self._barred.append((time.monotonic() + WRONG_TYPE_RETRY_S, item, after_s))

    def try_again(self, now_s: float) -> None:
        """Park what could not be parked before, where its time has come."""
        barred, self._barred = self._barred, []
        for entry in barred:
            if entry[0] <= now_s:
                self._parks.append(entry[1:])
            else:
                self._barred.append(entry)

    def _flush_dead(self, dead: Sequence[_Dead]) -> None:
        moves = [_move(entry.item)._replace(why=orjson.dumps(entry.why)) for entry in dead]
        call = calls.dead_letter(self._consumer, moves, self._keep_dead_s)
        repeats = self._line.repeats
        for entry, answer in zip(dead, self._moved(call), strict=True):
            item, why = entry
            if answer == "moved":
                fields = {name: why[name] for name in TOLD_OF_DEAD if name in why}
                self._log.error("dead_letter", **item.fields(), list=item.claimed.list, **fields)
                self._end(item, "dead")
            elif answer == "lost":
                self._end(item, self._lost_since(repeats))
            else:
                found, _, key = answer.partition(" ")
                self._blocked(item, key, found, None)

    def _lost_since(self, repeats: int) -> str:
        """What "lost" means as the answer to a call; `repeats` is the line's count before it.

        A call that was carried out while its answer got lost finds nothing to do when it is
        repeated: most likely the item ended as it should.
        """
        return "unconfirmed" if self._line.repeats > repeats else "lost"

    def _moved(self, call: script.Call) -> list[str]:
        return [answer.decode() for answer in self._line.call(call)]

    # ---- what can go wrong -----------------------------------------------------------------------

    def _blocked(self, item: Item, key: str, found: str, checkpoint: Checkpoint | None) -> None:
        """A key holds another type than it must. Nothing was done; an operator has to act: wait for
        that.
        """
        self._tell_wrong_type(item, f"{found} {key}", "the item is parked")
        if checkpoint is not None:
            checkpoint.tell(Retry(WRONG_TYPE_RETRY_S, f"{key} is a Redis {found}"))
            return
        after_s = WRONG_TYPE_RETRY_S * random.uniform(0.8, 1.2)
        done = item.outcome is not None and item.outcome.kind == "done"
        if item.changed and done and not key.startswith(("vcon:", "conserver:revision:")):
            # The document itself can be written: then what was done for it is not lost.
            self.write(item, lambda i: self.park(i, after_s))
            return
        if item.changed or not done:
            # Its record must not say that links are done whose changes are nowhere.
            item.back_to_saved()
        self.park(item, after_s)

    def _tell_wrong_type(self, item: Item, answer: str, where: str) -> None:
        found, _, key = answer.partition(" ")
        self._log.error(
            "wrong_type",
            **item.fields(),
            key=key,
            found=found,
            what=f"{where}; rename or delete the key and it goes on",
        )

    def _refused(self, item: Item, reason: str, checkpoint: Checkpoint | None) -> None:
        """RedisJSON does not take the document as it is now, and never will."""
        error = f"RedisJSON does not take what the links have made of the document: {reason}"
        if checkpoint is not None:
            checkpoint.tell(Rejected(error))
            return
        item.back_to_saved()
        self.dead_letter(item, item.why_dead("rejected", error))

    def _end(self, item: Item, how: str) -> None:
        outcome = item.outcome
        if how == "settled" and outcome is not None:
            if self._log.is_enabled_for(logging.INFO):
                self._log.info(
                    outcome.kind,
                    **item.fields(),
                    list=item.claimed.list,
                    duration_ms=round((time.monotonic() - item.claimed_at_s) * 1000, 2),
                    links_ms=round(item.links_s * 1000, 2),
                )
            self._status.count(done=1)
        elif how == "dead":
            self._status.count(failed=1)
        elif how == "lost":
            self._log.warning("item_lost", **item.fields(), what="nothing was done here")
        elif how == "unconfirmed":
            self._log.info(
                "unconfirmed",
                **item.fields(),
                what="an answer of Redis got lost: it ended then, or somebody else has it",
            )
        self._ended(item)


def _as_call(item: Item) -> calls.Write:
    """The write of an item's progress, and of its document if that has changed."""
    uuid, body = (item.uuid, item.body) if item.changed else ("", b"")
    claimed, state = item.claimed, item.progress.dump()
    return calls.Write(
        claimed.token, claimed.epoch, uuid, item.revision, item.route.name, state, body
    )


def _lua_bytes(item: Item, sent_bytes: int = 0) -> int:
    """What goes through Lua for an item of which so much is sent: that, and its record, which
    carries a document that was pushed whole until it is written.
    """
    return sent_bytes + (len(item.claimed.payload) if item.unsaved else 0)


def _in_batches(entries: Iterable[Any], size: Callable[[Any], int]) -> Iterator[list[Any]]:
    """Split what waits into calls of at most 128 entries and 1 MiB, or one entry."""
    batch: list[Any] = []
    total = 0
    for entry in entries:
        entry_bytes = size(entry)
        full = len(batch) >= calls.BATCH_ITEMS or total + entry_bytes > calls.SCRIPT_BYTES
        if batch and full:
            yield batch
            batch, total = [], 0
        batch.append(entry)
        total += entry_bytes
    if batch:
        yield batch


def _move(item: Item) -> calls.Move:
    """An item's move with its progress, which is about the document as it knows it."""
    return calls.Move(item.token, item.claimed.epoch, item.progress.dump(), item.revision)

"""The outbox: what items in a worker owe to Redis, sent in batches.

1. Collects writes, settles, parks and dead letters, and sends each kind as calls bounded by count
   and bytes, one at a time, each repeated until it is answered.
2. Meets conflicts: a newer document is merged with, or, if it is this chain's own work, started
   from anew.
3. Ends items: one leaves a worker only after the answer of the script that took it out of flight.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import orjson

from conserver import log
from conserver.chain import Lost, StartAnew
from conserver.errors import Rejected, Retry
from conserver.item import Item
from conserver.merge import merge
from conserver.page import Page
from conserver.queue import calls
from conserver.queue.line import Line
from conserver.queue.record import Progress

WRONG_TYPE_RETRY_S = 30.0
REWRITES_MOST = 50
TOLD_OF_DEAD = ("link", "storage", "reason", "error", "attempts")


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
        line: Line,
        page: Page,
        keep_dead_s: int,
        restart: Callable[[Item], None],
        ended: Callable[[Item], None],
    ) -> None:
        """restart: runs an item again from its newer document; ended: it left this worker."""
        self._consumer = consumer
        self._line = line
        self._page = page
        self._keep_dead_s = keep_dead_s
        self._restart = restart
        self._ended = ended
        self._log = log.get_logger()
        self._writes: list[_Write] = []
        self._settles: list[_Settle] = []
        self._parks: list[tuple[Item, float]] = []
        self._dead: list[_Dead] = []
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

    def bury(self, item: Item, why: dict[str, Any]) -> None:
        """Make it a dead letter, with the reason."""
        self._dead.append(_Dead(item, why))

    def lost(self, item: Item) -> None:
        """Drop an item that was given to somebody else."""
        self._end(item, "lost")

    def release(self, items: Sequence[Item], reason: str) -> None:
        """Give back items that nobody has begun, the last of them first."""
        for batch in _in_batches(items, lambda item: 0):
            moves = [calls.Move(item.token, item.claimed.epoch) for item in batch]
            for item, answer in zip(
                batch, self._moved(calls.release(self._consumer, moves)), strict=True
            ):
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
            for batch in _in_batches(writes, lambda write: len(write.item.text)):
                self._flush_writes(batch)
        if self._settles:
            settles, self._settles = self._settles, []
            for items in _in_batches(settles, lambda settle: len(settle.settlement.body)):
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
                    item.token,
                    item.claimed.epoch,
                    item.uuid if changed else "",
                    item.revision,
                    item.route.name,
                    state,
                    body if changed else b"",
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
                again = partial(self.write, then=write.then, checkpoint=write.checkpoint)
                self._conflict(item, answer, write.checkpoint, again)
            elif answer.kind == "type":
                self._blocked(item, f"vcon:{item.uuid}", answer.found, write.checkpoint)
            elif write.checkpoint is not None:
                write.checkpoint.tell(Lost())
            else:
                self._end(item, "lost")

    def _flush_settles(self, batch: Sequence[_Settle]) -> None:
        call = calls.settle(self._consumer, [settle.settlement for settle in batch])
        answers = calls.read_answers(self._line.call(call))
        for settle, answer in zip(batch, answers, strict=True):
            item = settle.item
            if answer.kind == "settled":
                self._end(item, "settled")
            elif answer.kind == "conflict":
                self._conflict(item, answer, None, settle.again)
            elif answer.kind == "type":
                self._blocked(item, answer.key, answer.found, None)
            else:
                self._end(item, "lost")

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
            calls.Move(
                e.item.token, e.item.claimed.epoch, e.item.progress.dump(), 0, orjson.dumps(e.why)
            )
            for e in dead
        ]
        call = calls.dead_letter(self._consumer, moves, self._keep_dead_s)
        for entry, answer in zip(dead, self._moved(call), strict=True):
            item, why = entry
            if answer == "moved":
                fields = {
                    k: v
                    for k, v in why.items()
                    if k in ("link", "storage", "reason", "error", "attempts")
                }
                self._log.error("dead_letter", **item.fields(), list=item.claimed.list, **fields)
                self._end(item, "dead")
            elif answer == "lost":
                self._end(item, "lost")
            else:
                self._blocked(item, f"DLQ:{item.claimed.list}", answer, None)

    def _moved(self, call: calls.Call) -> list[str]:
        return [answer.decode() for answer in self._line.call(call)]

    # ---- what can go wrong -----------------------------------------------------------------------

    def _conflict(
        self,
        item: Item,
        answer: calls.Answer,
        checkpoint: Checkpoint | None,
        again: Callable[[Item], None],
    ) -> None:
        """Somebody wrote a newer document. Join with it and write again, or start anew if it is our
        own chain's.
        """
        text = answer.text
        if text is None:
            text = self._line.command("GET", f"vcon:{item.uuid}") or b""
        if answer.chain == item.route.name:
            item.text, item.revision = text, answer.revision
            if checkpoint is not None:
                checkpoint.tell(StartAnew())
            else:
                self.start_anew(item)
            return
        item.rewrites += 1
        try:
            assert item.vcon is not None
            merged = merge(item.vcon.base, item.vcon, text)
            if item.rewrites > REWRITES_MOST:
                raise Rejected(
                    f"its document was changed {item.rewrites} times while it was written"
                )
        except Rejected as error:
            if checkpoint is not None:
                checkpoint.tell(error)
            else:
                self.bury(
                    item, item.why_dead("rejected", f"two chains changed the vCon: {error.reason}")
                )
            return
        for note in merged.notes:
            self._log.warning("merged", **item.fields(), note=note)
        item.vcon.become(merged.vcon)
        item.text, item.revision, item.unsaved = text, answer.revision, False
        again(item)

    def start_anew(self, item: Item) -> None:
        """Run the item from the newer document of its own chain, as if it had just been claimed."""
        self._log.info(
            "started_anew", **item.fields(), reason="the same chain wrote a newer document"
        )
        item.vcon, item.unsaved, item.outcome = None, False, None
        item.progress = Progress(attempts=item.progress.attempts)
        item.saved = b""
        item.claimed.what = "text"
        item.claimed.payload = item.uuid.encode()
        self._restart(item)

    def _blocked(self, item: Item, key: str, found: str, checkpoint: Checkpoint | None) -> None:
        """A key holds another type than it must. Nothing was done; an operator has to act: wait for
        that.
        """
        self._log.error(
            "wrong_type",
            **item.fields(),
            key=key,
            found=found,
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
                **item.fields(),
                list=item.claimed.list,
                duration_ms=round((time.monotonic() - item.claimed_at_s) * 1000, 2),
                links_ms=round(item.links_s * 1000, 2),
            )
            self._page.count(done=1)
        elif how == "dead":
            self._page.count(failed=1)
        elif how == "lost":
            self._log.warning("item_lost", **item.fields(), what="nothing was done here")
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

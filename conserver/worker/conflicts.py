"""Conflicts: somebody wrote a newer document while an item was at work on an older one.

1. Another chain's document is joined with what our links did, and written again. So is one that its
   producer has put there, unless links of ours were checkpointed in the one before.
2. The same chain's is what the item starts anew from, and so is that one.
3. One that is gone is looked for in the storages, which may hold what others have written since.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from redis.exceptions import ResponseError

from conserver import failpoints
from conserver.errors import Rejected, Retry
from conserver.queue import calls
from conserver.queue.record import Progress
from conserver.queue.retrying_connection import RetryingConnection
from conserver.telemetry import log
from conserver.vcon.document import Vcon
from conserver.vcon.merge import merge
from conserver.worker.chain import Checkpoint, StartAnew
from conserver.worker.item import Item

REWRITES_MOST = 50


class Conflicts:
    """Used by the keeper's thread alone."""

    def __init__(
        self,
        line: RetryingConnection,
        restart: Callable[[Item], None],
        look_up: Callable[[Item, Callable[[bytes | None], None]], bool],
        park: Callable[[Item, float], None],
        dead_letter: Callable[[Item, dict[str, Any]], None],
    ) -> None:
        """restart: runs an item again from its newer document; look_up: asks the storages for its
        document, see Documents.look_up; park and dead_letter: the outbox's.
        """
        self._line = line
        self._restart = restart
        self._look_up = look_up
        self._park = park
        self._dead_letter = dead_letter
        self._log = log.get_logger().bind()

    def meet(
        self,
        item: Item,
        answer: calls.Answer,
        checkpoint: Checkpoint | None,
        again: Callable[[Item], None],
    ) -> None:
        """Somebody wrote a newer document. Join with it and write again, or start anew if that has
        our own chain's work in it, or lacks what was checkpointed of it.

        Args:
            checkpoint: what a chain thread waits for, if that met the conflict.
            again: writes or settles the item once more.
        """
        text = answer.text or self._read(item.uuid)
        lacks = answer.replaced and bool(Progress.load(item.saved).links)
        if text and (lacks or answer.chain == item.route.name):
            item.text, item.revision = text, answer.revision
            if checkpoint is not None:
                checkpoint.tell(StartAnew())
            else:
                self.start_anew(item)
        elif text:
            self._merge(item, text, answer.revision, checkpoint, again)
        else:
            # It is gone, and took along what others may have written since we read it.
            item.revision = answer.revision
            then = partial(self._found, item, checkpoint, again)
            if answer.revision != calls.ABSENT or not self._look_up(item, then):
                again(item)

    def _found(
        self,
        item: Item,
        checkpoint: Checkpoint | None,
        again: Callable[[Item], None],
        text: bytes | None,
    ) -> None:
        """The storages were asked for a document that expired while the item was at work."""
        if text:
            self._merge(item, text, calls.ABSENT, checkpoint, again)
        elif text is not None:
            again(item)  # nobody has it: what we hold is whole
        elif checkpoint is not None:
            checkpoint.tell(Retry(item.after_s, "; ".join(item.missed.values())))
        else:
            item.back_to_saved()
            self._park(item, item.after_s)

    def _merge(
        self,
        item: Item,
        text: bytes,
        revision: int,
        checkpoint: Checkpoint | None,
        again: Callable[[Item], None],
    ) -> None:
        """Write what comes of the newer document and what our links did, or end the item."""
        try:
            self._join(item, text, revision)
        except Rejected as error:
            if checkpoint is not None:
                checkpoint.tell(error)
            else:
                item.back_to_saved()
                self._dead_letter(item, item.why_dead("rejected", error.reason))
            return
        failpoints.at("merged")
        again(item)

    def _join(self, item: Item, text: bytes, revision: int) -> None:
        """Put what our links did into the newer document. Raises Rejected."""
        item.rewrites += 1
        if item.rewrites > REWRITES_MOST:
            times = f"{item.rewrites} times while it was written"
            raise Rejected(f"its document was changed {times}")
        ours = item.vcon or Vcon.parse(item.text)
        try:
            merged = merge(ours.base, ours, text)
        except Rejected as error:
            raise Rejected(f"two chains changed the vCon: {error.reason}") from None
        for note in merged.notes:
            self._log.warning("merged", **item.fields(), note=note)
        ours.replace_content(merged.vcon)
        item.vcon = ours
        item.text, item.revision, item.unsaved = text, revision, revision == calls.ABSENT
        item.pack()

    def _read(self, uuid: str) -> bytes:
        """A document that an answer does not carry; b"" if it is there no more."""
        try:
            return self._line.command("GET", f"vcon:{uuid}") or b""
        except ResponseError:  # another type since then: the next write is told of it
            return b""

    def start_anew(self, item: Item) -> None:
        """Run the item from the newer document, as if it had just been claimed."""
        self._log.info("started_anew", **item.fields(), reason="its document is another one now")
        item.begin_anew()
        item.claimed.what = "text"
        item.claimed.payload = item.uuid.encode()
        self._restart(item)

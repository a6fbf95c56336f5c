"""Conflicts: the document of an item has become another one since the item read or wrote it.

- The newer document is by another chain or by the producer: the item is merged with it and written
  again (vcon/merge.py).
- It is by the item's own chain, or it lacks what a checkpoint of the item has written: the item
  starts anew from it.
- The document is gone: the item is merged with the copy in the storages, or written again if they
  have none.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from redis.exceptions import ResponseError

from conserver.errors import Rejected, Retry
from conserver.process import failpoints
from conserver.queue import calls, keys
from conserver.queue.record import Progress
from conserver.queue.retrying_connection import RetryingConnection
from conserver.telemetry import log
from conserver.vcon.document import Vcon
from conserver.vcon.merge import merge
from conserver.worker.checkpoint import Checkpoint, StartAnew
from conserver.worker.document_loader import DocumentLoader
from conserver.worker.item import Item

if TYPE_CHECKING:
    from conserver.worker.outbox import Outbox

MERGES_MAX = 50


class Conflict(NamedTuple):
    """A write or settle that was not carried out.

    checkpoint: the chain thread that waits for the write, if there is one. again: writes or settles
    the item once more.
    """

    item: Item
    checkpoint: Checkpoint | None
    again: Callable[[], None]


class Conflicts:
    """Used by the worker loop only."""

    def __init__(
        self, outbox: Outbox, redis: RetryingConnection, documents: DocumentLoader
    ) -> None:
        self._outbox = outbox
        self._redis = redis
        self._documents = documents
        self._log = log.get_logger().bind()

    def resolve(self, conflict: Conflict, answer: calls.Answer) -> None:
        """Continue an item whose write or settle was answered with "conflict"."""
        item = conflict.item
        text = answer.text or self._read(item.uuid)
        lacks = answer.replaced and bool(Progress.load(item.saved_state).links)
        if text and (lacks or answer.chain == item.route.name):
            item.text, item.revision = text, answer.revision
            self._outbox.end_attempt(item, conflict.checkpoint, StartAnew())
        elif text:
            self._merge(conflict, text, answer.revision)
        else:
            item.revision = answer.revision
            # The key was deleted or has expired. Other chains may have written it since this item
            # read it, and stored that.
            looks_up = answer.revision == calls.ABSENT
            then = partial(self._looked_up, conflict)
            if not looks_up or not self._documents.look_up(item, then):
                conflict.again()

    def _looked_up(self, conflict: Conflict, text: bytes | None) -> None:
        item = conflict.item
        if text:
            self._merge(conflict, text, calls.ABSENT)
        elif text is not None:
            conflict.again()
        else:
            answers = item.answers
            assert answers is not None  # At least one storage was unavailable.
            away = Retry(answers.retry_after_s, "; ".join(answers.unavailable.values()))
            self._outbox.end_attempt(item, conflict.checkpoint, away)

    def _merge(self, conflict: Conflict, text: bytes, revision: int) -> None:
        """Merge the item's document with the newer one and write it again, or end the attempt."""
        try:
            self._merge_document(conflict.item, text, revision)
        except Rejected as error:
            self._outbox.end_attempt(conflict.item, conflict.checkpoint, error)
            return
        failpoints.at("merged")
        conflict.again()

    def _merge_document(self, item: Item, text: bytes, revision: int) -> None:
        """Apply the changes of the item's links to the newer document. Raises Rejected."""
        item.merges += 1
        if item.merges > MERGES_MAX:
            times = f"{item.merges} times while it was written"
            raise Rejected(f"its document was changed {times}")
        ours = item.vcon or Vcon.parse(item.text)
        try:
            merged = merge(ours.base, ours, text)
        except Rejected as error:
            raise Rejected(f"two chains changed the vCon: {error.reason}") from None
        for note in merged.notes:
            self._log.warning("merged", **item.log_fields(), note=note)
        ours.replace_content(merged.vcon)
        item.vcon = ours
        item.text, item.revision, item.unsaved = text, revision, revision == calls.ABSENT
        item.dump_vcon()

    def _read(self, uuid: str) -> bytes:
        """The newer document, where the answer does not carry it; b"" if it is gone."""
        try:
            return self._redis.command("GET", keys.document(uuid)) or b""
        except ResponseError:  # it holds another type by now: the next write is answered with it
            return b""

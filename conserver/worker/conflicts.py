"""Conflicts: resolves writes and settles of items whose document was changed in Redis meanwhile.

The newer document decides what follows:

    it was written by the item's own chain              the item starts anew from it
    it lacks what a checkpoint of the item has written  the item starts anew from it
    another chain or the producer has written it        the item's changes are merged into it
    Redis has none; a storage has a copy                the changes are merged into the copy
    Redis has none; a storage that may have a copy      the attempt ends with a Retry
    is away
    neither Redis nor a storage has one                 the item's document is written again

vcon/merge.py merges.
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


class UnfinishedCall(NamedTuple):
    """A write or settle that Redis has answered, and not carried out.

    checkpoint: the checkpoint that the write was for, if any. again: queues the write or settle
    once more.
    """

    item: Item
    checkpoint: Checkpoint | None
    again: Callable[[], None]


class Conflicts:
    """Resolves conflicts. Used by the worker loop only."""

    def __init__(
        self, outbox: Outbox, redis: RetryingConnection, documents: DocumentLoader
    ) -> None:
        self._outbox = outbox
        self._redis = redis
        self._documents = documents
        self._log = log.get_logger().bind()

    def resolve(self, call: UnfinishedCall, answer: calls.Answer) -> None:
        """Continue an item whose write or settle was answered with "conflict"."""
        item = call.item
        text = answer.text or self._read(item.uuid)
        lacks = answer.replaced and bool(Progress.load(item.saved_state).links)
        if text and (lacks or answer.chain == item.route.name):
            item.text, item.revision = text, answer.revision
            self._outbox.end_attempt(item, call.checkpoint, StartAnew())
        elif text:
            self._merge(call, text, answer.revision)
        else:
            item.revision = answer.revision
            # The key was deleted or has expired. Before that, another chain may have written a
            # newer document and stored it.
            then = partial(self._looked_up, call)
            if answer.revision != calls.ABSENT or not self._documents.look_up(item, then):
                call.again()

    def _looked_up(self, call: UnfinishedCall, text: bytes | None) -> None:
        item = call.item
        if text:
            self._merge(call, text, calls.ABSENT)
        elif text is not None:
            call.again()
        else:
            answers = item.answers
            assert answers is not None  # At least one storage was unavailable.
            away = Retry(answers.retry_after_s, "; ".join(answers.unavailable.values()))
            self._outbox.end_attempt(item, call.checkpoint, away)

    def _merge(self, call: UnfinishedCall, text: bytes, revision: int) -> None:
        """Merge the item's changes into the newer document and queue the write again. If the merge
        fails, end the attempt.
        """
        try:
            self._merge_document(call.item, text, revision)
        except Rejected as error:
            self._outbox.end_attempt(call.item, call.checkpoint, error)
            return
        failpoints.at("merged")
        call.again()

    def _merge_document(self, item: Item, text: bytes, revision: int) -> None:
        """Apply the changes of the item's links to the newer document. Raises Rejected."""
        item.merges += 1
        if item.merges > MERGES_MAX:
            raise Rejected(f"its document was changed {item.merges} times while it was written")
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
        """The newer document in Redis; b"" if there is none."""
        try:
            return self._redis.command("GET", keys.document(uuid)) or b""
        except ResponseError:  # The key has the wrong type: the next write is answered with "type".
            return b""

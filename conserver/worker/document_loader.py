"""DocumentLoader: reads the documents of claimed items, from Redis or from the storages.

1. Reads the documents that the claim's answer does not contain, many with one MGET.
2. If Redis does not have a document, looks it up in the storages: first in those of the item's
   chain, then in all others, because another chain may have stored it and let it expire in Redis.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from conserver.process import failpoints
from conserver.process.shared_status import Phase, SharedStatus
from conserver.queue import calls, keys
from conserver.queue.record import Source
from conserver.queue.retrying_connection import RetryingConnection
from conserver.telemetry import log
from conserver.vcon.ids import usable_uuid
from conserver.worker.inbox import StorageReport
from conserver.worker.item import Item, StorageAnswers
from conserver.worker.writers import Writer
from storage.contract import Unavailable


class DocumentLoader:
    """Reads and looks up documents. Used by the worker loop only."""

    def __init__(
        self,
        redis: RetryingConnection,
        status: SharedStatus,
        writers: Mapping[str, Writer],
        max_document_bytes: int,
    ) -> None:
        """max_document_bytes: larger documents are not read."""
        self._redis = redis
        self._status = status
        self._writers = writers
        self._max_document_bytes = max_document_bytes
        self._log = log.get_logger()

    @property
    def has_hung_calls(self) -> bool:
        """Whether an abandoned storage call is still running in this process."""
        return any(writer.has_hung_calls for writer in self._writers.values())

    def read(self, items: Sequence[Item]) -> None:
        """Set the text of each item.

        The documents are read with MGET, and not by the claim script, because Lua takes ten times
        as long. If a producer replaces a document between the claim and the MGET, the item's write
        has a conflict.
        """
        wanted: list[Item] = []
        size_bytes = 0
        for item in items:
            claimed = item.claimed
            item.text, item.revision = claimed.text, claimed.revision
            if claimed.source is Source.INLINE:
                item.text, item.unsaved = claimed.payload, True
            elif claimed.length > self._max_document_bytes:
                claimed.source, item.text = Source.TOO_LARGE, b""
            elif claimed.source is Source.STORED and not claimed.text:
                if wanted and size_bytes + claimed.length > calls.BATCH_BYTES:
                    self._read(wanted)
                    wanted, size_bytes = [], 0
                wanted.append(item)
                size_bytes += claimed.length
        self._read(wanted)

    def _read(self, items: Sequence[Item]) -> None:
        if not items:
            return
        # A document that is read alone may be so large that it exhausts the worker's memory. In the
        # phase UNTIMED its item is blamed if the worker dies.
        alone = items[0].status_slot if len(items) == 1 else -1
        if alone >= 0:
            self._status.set_phase(alone, Phase.UNTIMED)
        texts = self._redis.command("MGET", *[keys.document(item.uuid) for item in items])
        if alone >= 0:
            self._status.set_phase(alone, Phase.QUEUED)
        for item, text in zip(items, texts, strict=True):
            item.text = text or b""
            if text is None:  # The key was deleted since the claim, or has another type now.
                key = keys.document(item.uuid)
                kind = self._redis.command("TYPE", key).decode()
                item.claimed.source = Source.MISSING if kind == "none" else Source.BAD_KEY
                item.claimed.bad_key = key, kind

    def look_up(self, item: Item, on_document: Callable[[bytes | None], None]) -> bool:
        """Ask the storages for the item's document, one after another.

        Calls `on_document` later: with the document; with b"" if every storage has answered and no
        storage has it; with None if no storage has it, but at least one was unavailable (see
        Item.answers).

        Returns:
            False if there is no storage to ask. `on_document` is not called then.
        """
        if not self._writers or not usable_uuid(item.uuid):
            return False
        item.answers = StorageAnswers(set(self._writers), on_document=on_document)
        self._status.set_phase(item.status_slot, Phase.FINISHING)
        failpoints.at("before-look-up")
        self._ask_next(item, item.answers)
        return True

    def _ask_next(self, item: Item, answers: StorageAnswers) -> None:
        """Ask the first storage that has not answered."""
        names = [*item.route.storages, *self._writers]
        self._writers[next(name for name in names if name in answers.asked)].look_up(item)

    def storage_answered(self, report: StorageReport) -> None:
        """Continue a look-up with a storage's answer."""
        item, found = report.looked_up, report.found or b""
        assert item is not None
        answers = item.answers
        assert answers is not None
        answers.asked.discard(report.storage)
        for _, outcome in report.outcomes:
            if isinstance(outcome, Unavailable):
                answers.note_unavailable(report.storage, outcome)
        if answers.asked and not found:
            self._ask_next(item, answers)
            return
        failpoints.at("after-look-up")
        if found:
            self._log.info("document_restored", **item.log_fields(), storage=report.storage)
        if found or not answers.unavailable:
            item.answers = None
        assert answers.on_document is not None
        answers.on_document(found if item.answers is None else None)

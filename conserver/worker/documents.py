"""The documents of claimed items: read from Redis, or found again in the storages.

1. Reads what a claim has only named, as many documents as fit one call.
2. Searches the storages for one that Redis does not have any more: those of the item's chain first,
   then all others of the configuration. Another chain may have stored it, and then let it expire.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from conserver import failpoints
from conserver.process.shared_status import Phase, SharedStatus
from conserver.queue import calls
from conserver.queue.retrying_connection import RetryingConnection
from conserver.telemetry import log
from conserver.vcon.ids import usable_uuid
from conserver.worker.item import Item
from conserver.worker.writers import Report, Writer
from storage.contract import Unavailable


class Documents:
    """Used by the keeper's thread alone."""

    def __init__(
        self,
        line: RetryingConnection,
        status: SharedStatus,
        writers: Mapping[str, Writer],
        most_bytes: int,
    ) -> None:
        """most_bytes: a larger document is not read at all."""
        self._line = line
        self._status = status
        self._writers = writers
        self._most_bytes = most_bytes
        self._log = log.get_logger()

    @property
    def calls_hang(self) -> bool:
        """Whether an abandoned call of a storage is still under way in this process."""
        return any(writer.hangs for writer in self._writers.values())

    def read(self, items: Sequence[Item]) -> None:
        """Give each item the text of its document, as many as fit a call at once.

        Not in the claim: a document that goes through Lua costs Redis ten times what GET costs. A
        producer who replaces it in between is seen when it is written, as at any other moment.
        """
        wanted: list[Item] = []
        size = 0
        for item in items:
            claimed = item.claimed
            item.text, item.revision = claimed.text, claimed.revision
            if claimed.what == "inline":
                item.text, item.unsaved = claimed.payload, True
            elif claimed.length > self._most_bytes:
                claimed.what, item.text = "oversized", b""
            elif claimed.what == "stored" and not claimed.text:
                if wanted and size + claimed.length > calls.BATCH_BYTES:
                    self._read(wanted)
                    wanted, size = [], 0
                wanted.append(item)
                size += claimed.length
        self._read(wanted)

    def _read(self, items: Sequence[Item]) -> None:
        if not items:
            return
        # One that fills a call is large enough to take the worker down with it.
        alone = items[0].slot if len(items) == 1 else -1
        if alone >= 0:
            self._status.set_phase(alone, Phase.PAUSED)
        texts = self._line.command("MGET", *[f"vcon:{item.uuid}" for item in items])
        if alone >= 0:
            self._status.set_phase(alone, Phase.HELD)
        for item, text in zip(items, texts, strict=True):
            item.text = text or b""
            if text is None:  # deleted since the claim, or replaced by another type
                key = f"vcon:{item.uuid}"
                kind = self._line.command("TYPE", key).decode()
                item.claimed.what = "missing" if kind == "none" else f"type:{kind} {key}"

    def look_up(self, item: Item, then: Callable[[bytes | None], None]) -> bool:
        """Search the storages for the item's document, one after another.

        `then` gets it, or b"" if none of them has it, or None if none has it that could be asked,
        but not all could: see item.missed. False: there is no storage to ask.
        """
        if not self._writers or not usable_uuid(item.uuid):
            return False
        item.waiting, item.then = set(self._writers), then
        self._status.set_phase(item.slot, Phase.STORING)
        failpoints.at("before-look-up")
        self._ask_next(item)
        return True

    def _ask_next(self, item: Item) -> None:
        """Ask the first storage that has not answered."""
        names = [*item.route.storages, *self._writers]
        self._writers[next(name for name in names if name in item.waiting)].look_up(item)

    def looked_up(self, report: Report) -> None:
        """A storage has answered a look-up: go on with what it found, or ask the next."""
        item, found = report.looked_up, report.found or b""
        assert item is not None
        item.waiting.discard(report.storage)
        for _, outcome in report.answers:
            if isinstance(outcome, Unavailable):
                item.missed[report.storage] = outcome.reason
                item.after_s = max(item.after_s, outcome.after_s or 1.0)
        if item.waiting and not found:
            self._ask_next(item)
            return
        failpoints.at("after-look-up")
        item.waiting.clear()
        if found:
            item.missed.clear()
            item.after_s = 0.0
            self._log.info("document_restored", **item.fields(), storage=report.storage)
        then, item.then = item.then, None
        assert then is not None
        then(found if found or not item.missed else None)

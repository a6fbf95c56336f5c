"""An item inside a worker: what was claimed, what has been done for it, and how it ended.

It belongs to one thread at a time: the keeper hands it to a chain thread, gets it back with an
outcome, hands it to the storages' writers and ends it. Whoever holds it may write its fields
without a lock.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import orjson

from conserver.config.model import ChainConfig
from conserver.errors import Rejected
from conserver.plugins.loader import LoadedLink
from conserver.queue.record import Claimed, Progress
from conserver.telemetry.redact import redact_text
from conserver.vcon.document import Vcon

_UUID_MEMBER = re.compile(rb'"uuid"\s*:\s*"([\w.:-]{1,64})"')


@dataclass(frozen=True, slots=True)
class Route:
    """A chain as a worker runs it: everything that an item on its lists needs to know."""

    name: str
    config: ChainConfig
    links: tuple[LoadedLink, ...]
    names: tuple[str, ...]
    storages: tuple[str, ...]
    soft_s: float | None
    hard_s: float
    max_document_bytes: int = 64 << 20


@dataclass(slots=True)
class ChainOutcome:
    """How a run through the links ended.

    "done", "filtered" (a link stopped the chain), "retry" (later: `after_s`), "failed" (an attempt
    is used up), "rejected" (never), "cancelled", "anew" (the same chain has written a newer
    document: start again from it) or "lost" (the item was given to somebody else while it ran).
    """

    kind: Literal["done", "filtered", "retry", "failed", "rejected", "cancelled", "anew", "lost"]
    reason: str = ""
    error: str = ""
    traceback: str = ""
    link: str = ""
    after_s: float | None = None


@dataclass(slots=True, eq=False)
class Item:
    """One claimed item at work."""

    claimed: Claimed
    route: Route
    progress: Progress
    slot: int  # on the page; -1 once it has left the worker
    claimed_at_s: float  # time.monotonic()
    uuid: str = ""
    text: bytes = b""  # the document as it was claimed or written last
    revision: int = 0  # of that text in Redis; 0 replaces whatever is there, -1 nothing at all
    vcon: Vcon | None = None
    # The document is not in Redis yet: it was pushed whole, or came back from a storage.
    unsaved: bool = False
    draft: bytes | None = None  # what links have made of the document, until it is written
    outcome: ChainOutcome | None = None
    links_s: float = 0.0
    waiting: set[str] = field(default_factory=set)  # storages that have not answered
    missed: dict[str, str] = field(default_factory=dict)  # storage -> why it is unavailable
    refused: dict[str, str] = field(default_factory=dict)  # storage -> why it will never take this
    after_s: float = 0.0  # when to come back, as the storages say
    then: Callable[[bytes | None], None] | None = None  # gets the document that is looked up
    rewrites: int = 0  # conflicts met by its writes
    size: int = 0  # bytes of the document when it was claimed, counted against the worker's bound
    saved: bytes = b""  # the progress as Redis has it: a failed attempt goes back to it

    @property
    def token(self) -> str:
        """The name under which Redis knows it."""
        return self.claimed.token

    @property
    def changed(self) -> bool:
        """Whether its document has to be written before anything else may happen to it."""
        return self.unsaved or self.draft is not None

    @property
    def body(self) -> bytes:
        """The document as it is now."""
        return self.text if self.draft is None else self.draft

    def pack(self) -> None:
        """Take down what links have made of the document.

        This is the one dump of an item's life, done by the thread that ran its links: neither the
        keeper nor a writer ever dumps or compares a document.

        Raises:
            Rejected: a link put something into it that JSON cannot hold, or made it too large: the
                next claim would find a document that it must not read.
        """
        if self.vcon is None:
            return
        body = self.vcon.dump()
        if body is self.vcon.base:
            self.draft = None
            return
        most = self.route.max_document_bytes
        if len(body) > most:
            size = f"has {len(body)} bytes, more than CONSERVER_MAX_DOCUMENT_BYTES ({most})"
            raise Rejected(f"the changed document {size}")
        self.draft = body

    def written(self, body: bytes, revision: int) -> None:
        """Redis holds the document as `body`, under this revision."""
        self.text, self.revision, self.unsaved, self.draft = body, revision, False, None
        if self.vcon is not None:
            self.vcon.rebase(body)

    def begin_anew(self) -> None:
        """Forget what was done for a document in whose place there is another one now."""
        self.vcon, self.draft, self.unsaved, self.outcome = None, None, False, None
        self.progress = self.progress.anew()
        self.saved = self.progress.dump()

    def back_to_saved(self) -> None:
        """Drop what was done since Redis was told last: it would be done again."""
        self.progress = Progress.load(self.saved)
        self.vcon = self.draft = None

    def fields(self) -> dict[str, Any]:
        """What every log line of its life carries."""
        return {"vcon": self.uuid or shorten(self.claimed.payload), "chain": self.route.name}

    def why_dead(self, reason: str, error: str, storage: str = "") -> dict[str, Any]:
        """What its dead letter says.

        reason is rejected, failed, unavailable, poison or oversized; error is for people. It lies
        in Redis for as long as VCON_DLQ_EXPIRY says, so no secret may get into it.
        """
        outcome = self.outcome or ChainOutcome("rejected")
        why: dict[str, Any] = {
            "time_ms": int(time.time() * 1000),
            "reason": reason,
            "error": redact_text(error),
            "list": self.claimed.list,
            "chain": self.route.name,
            "uuid": self.uuid,
            "token": self.token,
            "attempts": self.progress.attempts,
            "deliveries": self.claimed.deliveries,
        }
        if storage:
            why["storage"] = storage
        elif outcome.link:
            trace = redact_text(outcome.traceback)
            why.update(link=outcome.link, type=outcome.error, traceback=trace)
        return why


def shorten(payload: bytes) -> str:
    """How a log line names an item whose uuid is not known: by the beginning of its payload.

    A document is named by the uuid in it, never by its text: what stands there is people's. Of one
    that is cut short, the first uuid will do.
    """
    if payload[:1] == b"{":
        try:
            uuid = orjson.loads(payload).get("uuid")
        except orjson.JSONDecodeError:
            match = _UUID_MEMBER.search(payload)
            uuid = match and match[1].decode()
        return str(uuid)[:64] if uuid else "a pushed document"
    text = payload[:64].decode("utf-8", "replace")
    return text + "..." if len(payload) > 64 else text

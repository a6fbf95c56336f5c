"""An item inside a worker, and the life that it has there.

    step                                  Phase     module
 1  claimed; its document is read         QUEUED     intake.py, document_loader.py (UNTIMED while it
                                                     is read alone; one MGET reads those of many)
 2  its links run in a chain thread       RUNNING    pool.py, chain.py (UNTIMED while its document
                                                     is parsed and while a checkpoint is written)
 3  document and progress are written     FINISHING  outcomes.py, outbox.py
 4  each storage of the chain saves it    FINISHING  writers.py
 5  settled: it leaves the worker         FREE       outbox.py

Steps 3 and 4 are for chains with storages. An item whose links an earlier worker has finished goes
from step 1 to step 4. ChainOutcome.kind says how step 2 ended, and decides what follows (see
OutcomeHandler.chain_ended):

    DONE        all links are done                   steps 3 to 5
    FILTERED    a link returned None                 step 5, without storages and egress lists
    CANCELLED   an operator cancelled the item       step 5, and its changes are dropped
    RETRY       a link raised Retry                  parked; dead-lettered once older than give_up_s
    FAILED      a link raised another exception      parked `retries` times, then dead-lettered
    REJECTED    a link raised Rejected, or the       dead-lettered
                document must not be processed
    START_ANEW  a write found a newer document,      step 2 again, from that document
                written by the same chain
    LOST        a checkpoint found that another      removed from this worker; nothing is written
                consumer has the item now
    RATE        the item has no slot yet under the   step 2 again if rates.py gives it a slot for
                rate of the chain or the next link   now; if the slot is later, parked until then
    RATE with   the next link is throttled by its    parked for after_s
    after_s     server's 429 (throttles.py)

A storage that is unavailable in step 4 parks the item with the storages that it still owes (once
older than give_up_s it is dead-lettered); one that rejects the document dead-letters it. The
worker releases an item that has waited for a chain thread for one second (for 0.1 s while all
threads run slow items), and when it begins to drain all items that wait for a chain thread.

An Item belongs to one thread at a time. The worker loop hands it to a chain thread, gets it back
with an outcome, and hands it to the writers. Whoever has it may write its fields without a lock.
"""

from __future__ import annotations

import enum
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from conserver.config.model import ChainConfig
from conserver.errors import Rejected, with_type
from conserver.outbound.event import Notification
from conserver.plugins.loader import LoadedLink
from conserver.queue.names import name_of
from conserver.queue.record import Claimed, Progress
from conserver.queue.stories import Attempt
from conserver.telemetry.redact import redact_text
from conserver.vcon.document import Vcon
from conserver.vcon.ids import usable_uuid
from storage.contract import Unavailable

if TYPE_CHECKING:
    from conserver.telemetry.otel import Span
    from conserver.worker.rates import Rate


class LinkProgress(NamedTuple):
    """How far a link is: see `LinkContext.progress`. total: None where it is not known."""

    done: float
    total: float | None
    unit: str
    doing: str = ""
    text: str = ""


@dataclass(frozen=True, slots=True)
class Route:
    """A chain as a worker runs it; `names` are those of its links, limits are in seconds."""

    name: str
    config: ChainConfig
    links: tuple[LoadedLink, ...]
    names: tuple[str, ...]
    storages: tuple[str, ...]
    soft_s: float | None
    hard_s: float
    max_document_bytes: int = 64 << 20
    rate: Rate | None = None
    rates: Mapping[str, Rate] = field(default_factory=dict)
    """Of its links, by their names."""


class OutcomeKind(enum.Enum):
    """How a run through the links ended; the module's docstring says what follows."""

    DONE = "done"
    FILTERED = "filtered"
    CANCELLED = "cancelled"
    RETRY = "retry"
    FAILED = "failed"
    REJECTED = "rejected"
    START_ANEW = "start_anew"
    LOST = "lost"
    RATE = "rate"


@dataclass(slots=True)
class ChainOutcome:
    """How a run through the links ended. `link` is the one that ended it, `error_type` the type of
    what it raised, `message` what that said, `after_s` the delay that it asked for.
    """

    kind: OutcomeKind
    message: str = ""
    error_type: str = ""
    traceback: str = ""
    link: str = ""
    after_s: float | None = None

    @property
    def said(self) -> str:
        """The message, with the type of the exception where the text alone says little."""
        return with_type(self.error_type, self.message)


@dataclass(slots=True)
class StorageAnswers:
    """Storages that were asked to save an item, or for its document, and what they answered.

    asked: those that have not answered yet, since asked_s (time.monotonic(); 0.0: the item has no
    story). unavailable, rejected: why, by storage. retry_after_s: how long the unavailable ones
    want to be left alone. on_document: called when a look-up has ended, see DocumentLoader.look_up.
    """

    asked: set[str] = field(default_factory=set)
    asked_s: float = 0.0
    unavailable: dict[str, str] = field(default_factory=dict)
    rejected: dict[str, str] = field(default_factory=dict)
    retry_after_s: float = 0.0
    on_document: Callable[[bytes | None], None] | None = None

    def note_unavailable(self, storage: str, outcome: Unavailable) -> None:
        """Record that a storage could not answer."""
        self.unavailable[storage] = outcome.reason
        self.retry_after_s = max(self.retry_after_s, outcome.after_s or 1.0)


@dataclass(slots=True, eq=False)
class Item:
    """One claimed item at work. Its fields stand in the order of its steps."""

    # What the claim brought.
    claimed: Claimed
    route: Route
    progress: Progress
    status_slot: int  # its item slot in SharedStatus; -1 once it has left the worker
    claimed_at_s: float  # time.monotonic()
    uuid: str = ""  # "" until a document that was pushed whole is parsed
    saved_state: bytes = b""  # the progress as Redis has it: a failed attempt reverts to it

    # Its document.
    text: bytes = b""  # as it was claimed or last written
    # Revision of `text` in Redis. In a write: 0 overwrites whatever is there, -1 writes only if the
    # key does not exist.
    revision: int = 0
    vcon: Vcon | None = None
    # The document is not in Redis yet: it was pushed whole, or a storage had it.
    unsaved: bool = False
    draft: bytes | None = None  # the changed document, until it is written
    merges: int = 0  # how often it was merged with a newer one
    counted_bytes: int = 0  # its share of HeldItems.document_bytes

    # Step 2: its links.
    link: str = ""  # the one that runs, or ran last
    link_progress: LinkProgress | None = None  # as the running link has reported it
    links_s: float = 0.0  # how long they took together
    outcome: ChainOutcome | None = None

    # Step 4, or a look-up of its document: None while no storage was asked.
    answers: StorageAnswers | None = None

    # Whom to tell. A few items have them.
    attempt: Attempt | None = None  # where its story is told (story.py)
    span: Span | None = None  # of this attempt (spans.py), until it leaves
    notification: Notification | None = None  # what is told to the callback of a job

    @property
    def token(self) -> str:
        """Its name in Redis, for life."""
        return self.claimed.token

    @property
    def name(self) -> str:
        """Its name for people: the uuid if it has one, else see queue/names.py."""
        vcon = self.vcon
        if vcon is not None and vcon.uuid == self.uuid:  # Vcon.parse has checked it.
            return self.uuid
        return self.uuid if usable_uuid(self.uuid) else name_of(self.claimed.payload)

    @property
    def changed(self) -> bool:
        """Whether Redis does not have the document as it is now."""
        return self.unsaved or self.draft is not None

    @property
    def body(self) -> bytes:
        """The document as it is now."""
        return self.text if self.draft is None else self.draft

    def dump_vcon(self) -> None:
        """Set `draft` to the document as the links have changed it.

        Called by the thread that ran the links, so that neither the worker loop nor a writer spends
        time on serializing or comparing documents.

        Raises:
            Rejected: a link put something into it that JSON cannot hold, or made it larger than a
                worker may read.
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

    def document_written(self, body: bytes, revision: int) -> None:
        """Redis holds the document as `body`, under this revision."""
        self.text, self.revision, self.unsaved, self.draft = body, revision, False, None
        if self.vcon is not None:
            self.vcon.rebase(body)

    def start_anew(self) -> None:
        """Drop what was done for a document that has been replaced by another one."""
        self.vcon, self.draft, self.unsaved, self.outcome = None, None, False, None
        self.progress = self.progress.anew()
        self.saved_state = self.progress.dump()

    def revert_to_saved(self) -> None:
        """Drop all changes and progress since the last write; the next attempt repeats them."""
        trace = self.progress.trace
        self.progress = Progress.load(self.saved_state)
        self.progress.trace = trace  # of this attempt, whatever became of it
        self.progress.rate_slots = []  # they were used
        self.vcon = self.draft = None

    def log_fields(self) -> dict[str, Any]:
        """The fields that all log lines about the item have."""
        fields = {
            "vcon": self.name,
            "chain": self.route.name,
        }
        if self.span is not None:
            fields.update(log_fields_of(self.span))
        return fields

    def dead_letter_reason(self, reason: str, error: str, storage: str = "") -> dict[str, Any]:
        """The explanation that is kept with its dead letter. Secrets in it are redacted.

        Args:
            reason: rejected, failed or unavailable. (claim.lua makes those with the reasons
                poison, time_limit and oversized, and rejects jobs whose callback has expired.)
            error: what happened, for people.
            storage: the storage that it failed at; without one, the outcome's link is named.
        """
        why: dict[str, Any] = {
            "time_ms": int(time.time() * 1000),
            "reason": reason,
            "error": redact_text(error),
            "list": self.claimed.list,
            "chain": self.route.name,
            "uuid": self.name,
            "token": self.token,
            "attempts": self.progress.attempts,
            "deliveries": self.claimed.deaths,
        }
        outcome = self.outcome
        if storage:
            why["storage"] = storage
        elif outcome is not None and outcome.link:
            trace = redact_text(outcome.traceback)
            why.update(link=outcome.link, type=outcome.error_type, traceback=trace)
        return why


def log_fields_of(span: Span) -> dict[str, str]:
    """The ids of a span, for a log line that is written where it is not the open one."""
    found = span.get_span_context()
    return {"trace_id": f"{found.trace_id:032x}", "span_id": f"{found.span_id:016x}"}

"""Item: one claimed item in a worker, and the steps that it goes through there.

    step                                  Phase     module
 1  claimed; its document is read         QUEUED     intake.py, document_loader.py (UNTIMED while it
                                                     is read alone)
 2  its links run in a chain thread       RUNNING    pool.py, chain.py (UNTIMED while its document
                                                     is parsed and while a checkpoint is written)
 3  document and progress are written     FINISHING  outcomes.py, outbox.py (left out if Redis
                                                     has the present version of the document)
 4  each storage of the chain saves it    FINISHING  writers.py
 5  settled: it leaves the worker         FREE       outbox.py

An item of a chain without storages goes from step 2 to step 5, which also writes its document. An
item whose links an earlier worker has finished goes from step 1 to step 4. ChainOutcome.kind says
how step 2 ended, and decides the next step (OutcomeHandler.chain_ended):

    DONE        all links are done                   steps 3 to 5
    FILTERED    a link returned None, or raised      step 5, without storages and egress lists
                Filtered
    CANCELLED   an operator cancelled the item       step 5, and its changes are dropped
    RETRY       a link raised Retry                  parked; dead-lettered once older than give_up_s
    FAILED      a link raised another exception      parked `retries` times, then dead-lettered
    REJECTED    a link raised Rejected or returned   dead-lettered
                no vCon; or the document cannot be
                processed, written or merged
    REFUSED     the item must not run: refusals.py   dead-lettered, with its record as it is
    START_ANEW  a write found another document in    step 2 again, from that document
                Redis (see conflicts.py)
    LOST        a write found that another consumer  removed from this worker; nothing is written
                has the item now
    RATE        the chain or the next link has a     a rate slot is reserved (rates.py); step 2
                rate, and the item has no rate slot  again if the slot is now, else parked until
                                                     the slot
    RATE with   the server of the next link has      parked for after_s
    after_s     answered 429 (throttles.py)

If a storage is unavailable in step 4, the item is parked; its state lists the storages that it
still owes. If its first claim was more than give_up_s ago, it is dead-lettered instead. If a
storage rejects the document, the item is dead-lettered. If an item does not begin within a second
of its claim (0.1 s while all threads run slow items), the worker releases it. When the worker
begins to drain, it releases all items that have not begun.

No lock protects an Item. While a chain thread runs the item's links, only that thread writes the
Item's fields. Before and after that, only the worker loop writes them. Writers only read them.
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
from conserver.queue.names import name_of, name_unparsed
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
    """What a link last reported with `LinkContext.progress`. total: None if it is not known."""

    done: float
    total: float | None
    unit: str
    doing: str = ""
    text: str = ""


@dataclass(frozen=True, slots=True)
class Route:
    """A chain as a worker runs it.

    names: of the links. soft_s, hard_s: time limits of the chain, in seconds. rates: by link, for
    the links that have a rate.
    """

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


class OutcomeKind(enum.Enum):
    """How a run through the links ended; the module's docstring says what follows."""

    DONE = "done"
    FILTERED = "filtered"
    CANCELLED = "cancelled"
    RETRY = "retry"
    FAILED = "failed"
    REJECTED = "rejected"
    REFUSED = "refused"
    START_ANEW = "start_anew"
    LOST = "lost"
    RATE = "rate"


@dataclass(slots=True)
class ChainOutcome:
    """How a run through the links ended.

    link: the link that ended the run; for REFUSED the link that ran when the last worker died.
    error_type, message, traceback: of the exception that the link raised; they may contain secrets.
    after_s: the delay that the link asked for. reason: of the dead letter, for REFUSED.
    write_failed: Redis has not carried out the item's write. It is not tried again.
    """

    kind: OutcomeKind
    message: str = ""
    error_type: str = ""
    traceback: str = ""
    link: str = ""
    after_s: float | None = None
    reason: str = ""
    write_failed: bool = False

    @property
    def said(self) -> str:
        """The message, with the exception's type if the message alone says little."""
        return with_type(self.error_type, self.message)


@dataclass(slots=True)
class StorageAnswers:
    """The answers of the storages to one item's save, or to a look-up of its document.

    asked: the storages that have not answered yet. asked_s: when they were asked, by
    time.monotonic(); 0.0 if the item has no story. unavailable, rejected: storage -> reason.
    retry_after_s: the longest wait that an unavailable storage asked for. on_document: called at
    the end of a look-up, see DocumentLoader.look_up.
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
    """One claimed item. The fields are in the order of its steps."""

    # From the claim.
    claimed: Claimed
    route: Route
    progress: Progress
    status_slot: int  # its slot in SharedStatus; -1 once the item has left the worker
    claimed_at_s: float  # time.monotonic()
    uuid: str = ""  # "" if the document was pushed inline and is not parsed yet
    saved_state: bytes = b""  # the progress as Redis has it: a failed attempt reverts to it

    # Its document.
    text: bytes = b""  # as it was claimed or last written
    # Revision of `text` in Redis. In a write: 0 overwrites any document, -1 writes only if the key
    # does not exist.
    revision: int = 0
    vcon: Vcon | None = None
    # Redis does not have the document: it was pushed inline, or was read from a storage.
    unsaved: bool = False
    draft: bytes | None = None  # the changed document, until it is written
    merges: int = 0  # how often the document was merged with a newer one
    counted_bytes: int = 0  # its share of HeldItems.document_bytes

    # Step 2: its links.
    link: str = ""  # the link that runs, or ran last
    link_progress: LinkProgress | None = None  # as the running link has reported it
    links_s: float = 0.0  # run time of all links together
    outcome: ChainOutcome | None = None

    # Step 4, or a look-up of the document; None if no storage was asked.
    answers: StorageAnswers | None = None

    # Only some items have these.
    story: Attempt | None = None  # the events of this attempt, for the item's story (story.py)
    span: Span | None = None  # the trace span of this attempt (spans.py)
    notification: Notification | None = None  # if the item is a notification: what to send

    @property
    def token(self) -> str:
        """The item's id in Redis, given at its first claim."""
        return self.claimed.token

    @property
    def name(self) -> str:
        """The item's name for people: its uuid, or a name by queue/names.py if it has none."""
        vcon = self.vcon
        if vcon is not None and vcon.uuid == self.uuid:  # Vcon.parse has checked it.
            return self.uuid
        if usable_uuid(self.uuid):
            return self.uuid
        return (name_unparsed if self.is_refused else name_of)(self.claimed.payload)

    @property
    def goes_on(self) -> bool:
        """Whether its links have begun here, and go on because its rate slot is now."""
        return self.outcome is not None and self.outcome.kind is OutcomeKind.RATE

    @property
    def is_refused(self) -> bool:
        """Whether the item must not run (refusals.py)."""
        return self.outcome is not None and self.outcome.kind is OutcomeKind.REFUSED

    @property
    def needs_write(self) -> bool:
        """Whether Redis lacks the document's present version."""
        return self.unsaved or self.draft is not None

    @property
    def body(self) -> bytes:
        """The document's present version."""
        return self.text if self.draft is None else self.draft

    def dump_vcon(self) -> None:
        """Set `draft` to the document as the links have changed it.

        Called by the thread that ran the links, so that neither the worker loop nor a writer spends
        time on serializing or comparing documents.

        Raises:
            Rejected: a link put a value into the document that JSON cannot hold, or made the
                document larger than CONSERVER_MAX_DOCUMENT_BYTES.
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
        """Note that `body` was written to Redis as the document, with this revision."""
        self.text, self.revision, self.unsaved, self.draft = body, revision, False, None
        if self.vcon is not None:
            self.vcon.rebase(body)

    def start_anew(self) -> None:
        """Drop all changes and progress, because the document was replaced by another one."""
        self.vcon, self.draft, self.unsaved, self.outcome = None, None, False, None
        self.progress = self.progress.anew()
        self.saved_state = self.progress.dump()

    def revert_to_saved(self) -> None:
        """Drop all changes and progress since the last write; the next attempt repeats them."""
        trace = self.progress.trace
        self.progress = Progress.load(self.saved_state)
        self.progress.trace = trace  # the next attempt's span is linked to this one's
        self.progress.rate_slots = []  # this attempt has used its slots
        self.vcon = self.draft = None

    def log_fields(self) -> dict[str, Any]:
        """The fields that all log lines about the item have."""
        fields = {"vcon": self.name, "chain": self.route.name}
        if self.span is not None:
            fields.update(log_fields_of(self.span))
        return fields

    def dead_letter_reason(self, reason: str, error: str, storage: str = "") -> dict[str, Any]:
        """The explanation that is kept with the item's dead letter. Secrets in it are redacted.

        Args:
            reason: rejected, failed, unavailable, poison, time_limit or oversized.
            error: what happened, for people.
            storage: the storage that failed. If it is empty, the outcome's link is named.
        """
        why: dict[str, Any] = {
            "time_ms": int(time.time() * 1000),
            "reason": reason,
            "error": redact_text(error),
            "list": self.claimed.list,
            "chain": self.route.name,
            "token": self.token,
            "attempts": self.progress.attempts,
            "deliveries": self.claimed.deaths,
        }
        outcome = self.outcome
        # Without a uuid here, the reader of the dead letter finds it in the whole payload.
        if usable_uuid(self.uuid) or not self.is_refused:
            why["uuid"] = self.name
        if storage:
            why["storage"] = storage
        elif outcome is not None and outcome.link:
            why["link"] = outcome.link
            if not self.is_refused:
                trace = redact_text(outcome.traceback)
                why.update(type=outcome.error_type, traceback=trace)
        return why


def log_fields_of(span: Span) -> dict[str, str]:
    """The ids of a span, as log fields, for lines that are written while the span is not active."""
    found = span.get_span_context()
    return {"trace_id": f"{found.trace_id:032x}", "span_id": f"{found.span_id:016x}"}

"""One item through the links of its chain.

1. Opens the document: parses it, and refuses what must not be processed, with the reason.
2. Runs the links in order, from the first that is not done yet.
3. Collects what links ask for (pushes, expiry) for the settle, and asks for checkpoints.
4. Turns whatever happens into an ChainOutcome: nothing that a link does escapes from here.

It touches neither Redis nor sockets: what has to be written is asked of the keeper.
"""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable
from typing import Any

from conserver import failpoints
from conserver.config.model import check_list_name
from conserver.errors import Cancelled, Rejected, Retry
from conserver.plugins.loader import LoadedLink
from conserver.process.shared_status import Phase, SharedStatus
from conserver.queue.record import Progress
from conserver.telemetry import log
from conserver.telemetry.redact import Secrets, redact_text, secret_values
from conserver.vcon.document import Vcon
from conserver.vcon.ids import usable_uuid
from conserver.worker.item import ChainOutcome, Item

CHECKPOINT_AFTER_S = 1.0
TRACEBACK_CHARS = 8000


class StartAnew(BaseException):
    """A checkpoint met newer work of the same chain; the item starts again from that document.

    No Exception: a link that catches whatever goes wrong must not go on with an item that ended.
    """


class Lost(BaseException):
    """A checkpoint found that the item was given to somebody else. No Exception, as above."""


class Checkpoint:
    """A chain thread waits for this while the keeper writes its item."""

    __slots__ = ("done", "error")

    def __init__(self) -> None:
        self.done = threading.Event()
        # Why it was not written; raised in the link's thread.
        self.error: BaseException | None = None

    def tell(self, error: BaseException | None = None) -> None:
        """Let the thread go on, or end there with `error`."""
        self.error = error
        self.done.set()


class Context:
    """What a link may ask for; conserver.links.LinkContext describes it."""

    __slots__ = (
        "_checkpoint",
        "_deadline_s",
        "_expire_s",
        "_item",
        "_pushes",
        "_stop",
        "attempt",
        "chain",
        "last_attempt",
        "link",
        "uuid",
    )

    def __init__(
        self,
        item: Item,
        link: str,
        deadline_s: float | None,
        checkpoint: Callable[[Item], None],
        stop: Callable[[Item], bool],
    ) -> None:
        self._item = item
        self._deadline_s = deadline_s
        self._checkpoint = checkpoint
        self._stop = stop
        self._pushes: list[tuple[str, str]] = []
        self._expire_s: int | None = None
        self.chain = item.route.name
        self.link = link
        self.uuid = item.uuid
        self.attempt = item.progress.runs.get(link, 0) + 1
        self.last_attempt = item.progress.failures >= item.route.config.retries

    @property
    def log(self) -> log.Logger:
        """A logger bound to this vCon, chain and link."""
        return log.get_logger(vcon=self.uuid, chain=self.chain, link=self.link)

    def remaining_s(self) -> float | None:
        """Seconds until the soft limit, at least 0; None without one."""
        if self._deadline_s is None:
            return None
        return max(0.0, self._deadline_s - time.monotonic())

    def checkpoint(self) -> None:
        """Block until the vCon as it is now is written."""
        self._checkpoint(self._item)

    def push(self, list_name: str, uuid: str | None = None) -> None:
        """Push a uuid on a list when the item settles. Raises ValueError for a name that no list of
        a configuration may have.
        """
        self._pushes.append((check_list_name(list_name), uuid or self.uuid))

    def expire(self, seconds: int) -> None:
        """Let the document expire so long after the item has settled."""
        self._expire_s = seconds

    def check_cancelled(self) -> None:
        """Raise Cancelled if an operator cancelled the item."""
        if self._stop(self._item):
            raise Cancelled(f"{self.uuid} was cancelled")

    def keep_effects(self) -> None:
        """The link is done: what it asked for belongs to the item now.

        Not before: a checkpoint in the middle of a link would save a push, and the link, run again
        from there, would ask for it once more.
        """
        progress = self._item.progress
        progress.pushes += self._pushes
        if self._expire_s is not None:
            progress.expire_s = self._expire_s


class ChainRunner:
    """Runs items through their links, in the threads that call it."""

    def __init__(
        self,
        status: SharedStatus,
        checkpoint: Callable[[Item], None],
        cancelled: Callable[[Item], bool],
    ) -> None:
        self._status = status
        self._checkpoint = checkpoint
        self._cancelled = cancelled

    def run(self, item: Item) -> None:
        """Set item.outcome. Never raises for anything that a document or a link does."""
        began_s = time.monotonic()
        self._status.set_phase(item.slot, Phase.PAUSED)
        failpoints.at("open")
        try:
            open_document(item)
            if item.claimed.what == "inline":
                self._status.set_uuid(item.slot, item.uuid)
            outcome = self._links(item, began_s)
            if outcome.kind in ("done", "filtered"):
                outcome = _packed(item, outcome)
        except Exception as error:  # noqa: BLE001 - a fault of ours must not lose the item
            outcome = _cut_short(error, "")
        item.outcome = outcome
        # From here on no time limit runs, however long Redis or a storage takes.
        self._status.set_phase(item.slot, Phase.STORING)
        item.links_s += time.monotonic() - began_s

    def _links(self, item: Item, began_s: float) -> ChainOutcome:
        route, done = item.route, item.progress.links
        if done and tuple(done) != route.names[: len(done)]:
            # The chain was changed meanwhile: what was done is no prefix of it. All of it is done
            # again, and asks for its effects again.
            done.clear()
            item.progress.pushes.clear()
            item.progress.expire_s = None
        for link in route.links[len(done) :]:
            if self._cancelled(item):
                return ChainOutcome("cancelled", "cancelled by an operator", link=link.name)
            outcome = self._link(item, link, began_s)
            if outcome is not None:
                return outcome
            done.append(link.name)
        return ChainOutcome("done")

    def _link(self, item: Item, link: LoadedLink, began_s: float) -> ChainOutcome | None:
        """Run one link; None means: go on with the next."""
        route, started_s = item.route, time.monotonic()
        deadline_s = _deadline(began_s, route.soft_s, started_s, link.soft_timeout_s)
        context = Context(item, link.name, deadline_s, self._checkpoint, self._cancelled)
        self._status.start_link(item.slot, link.name, link.hard_timeout_s or 0.0, route.hard_s)
        vcon = item.vcon
        assert vcon is not None  # open_document came first
        failpoints.at("before-link")
        try:
            answer: Any = link.run(vcon, link.options, context)
            failpoints.at("after-link")
        except BaseException as error:  # noqa: BLE001 - SystemExit must not end the thread
            return _cut_short(error, link.name, link.options)
        fault = _fault(vcon if answer is None else answer, vcon, link.name)
        if fault:
            return ChainOutcome("rejected", fault, link=link.name)
        item.vcon = vcon if answer is None else answer
        context.keep_effects()
        if answer is None:
            return ChainOutcome("filtered", link=link.name)
        last = link is route.links[-1]
        slow = link.costly or time.monotonic() - started_s > CHECKPOINT_AFTER_S
        return self._keep(item, link) if slow and not last else None

    def _keep(self, item: Item, link: LoadedLink) -> ChainOutcome | None:
        """Checkpoint with this link counted as done, so that it is not paid again."""
        item.progress.links.append(link.name)
        try:
            self._checkpoint(item)
        except BaseException as error:  # noqa: BLE001 - as a checkpoint of the link's own ends it
            return _cut_short(error, link.name)
        item.progress.links.pop()
        return None


def _packed(item: Item, outcome: ChainOutcome) -> ChainOutcome:
    """The outcome, or a rejection that names the links that made what cannot be written."""
    try:
        item.pack()
    except Rejected as error:
        ran = item.progress.links[len(Progress.load(item.saved).links) :]
        ran += [outcome.link] if outcome.link else []
        who = f"the links {', '.join(ran)} together: " if len(ran) > 1 else ""
        return ChainOutcome("rejected", who + error.reason, "Rejected", link=ran[-1] if ran else "")
    return outcome


def _fault(answer: Any, vcon: Vcon, link: str) -> str:
    """Why a link's answer cannot stand for the vCon that it was given; "" if it can."""
    if not isinstance(answer, Vcon):
        return f"link {link} returned {type(answer).__name__}, not the Vcon or None"
    uuid = answer.view.get("uuid") if answer.form == "unsigned" else answer.uuid
    if answer.names_uuid and uuid != vcon.uuid:
        return f"link {link} made another vCon of it: {uuid!r} instead of {vcon.uuid!r}"
    if answer is not vcon:
        answer.take_base_of(vcon)
    return ""


def open_document(item: Item) -> None:
    """Parse the item's document. Raises Rejected with the reason why it must not be processed."""
    claimed = item.claimed
    if item.vcon is not None:
        return
    if not item.text:
        raise Rejected(_why_no_document(item))
    vcon = Vcon.parse(item.text)
    if claimed.what != "inline":
        pushed = claimed.payload.decode("utf-8", "replace")
        # An envelope that names no uuid may lie under any that can serve as a key.
        if vcon.names_uuid and vcon.uuid.lower() != pushed.lower():
            raise Rejected(f"vcon:{pushed} holds the document of another vCon: {vcon.uuid}")
        if not usable_uuid(pushed):
            raise Rejected(f"the pushed value cannot serve as a uuid: {pushed[:100]!r}")
    item.vcon, item.uuid = vcon, item.uuid or vcon.uuid
    unknown = vcon.critical_unknown(item.route.config.supported_extensions)
    if unknown:
        raise Rejected(
            f"the vCon calls extensions critical that are unknown here: {', '.join(unknown)}"
            f" (chains.{item.route.name}.supported_extensions names those that it knows)"
        )


def _why_no_document(item: Item) -> str:
    payload, what = item.claimed.payload, item.claimed.what
    text = payload[:100].decode("utf-8", "replace")
    if what.startswith("type:"):
        kind, _, key = what.removeprefix("type:").partition(" ")
        wanted = "a string or RedisJSON" if key.startswith("vcon:") else "a hash"
        return f"{key} is a Redis {kind}, not {wanted}"
    if not payload.strip():
        return "the pushed value is empty: push a vCon's uuid or a whole vCon"
    if what == "stored":
        return f"vcon:{text} holds an empty string, and no vCon"
    if what == "oversized":
        return f"the document of {text} is larger than CONSERVER_MAX_DOCUMENT_BYTES"
    if not usable_uuid(text) or text in ("null", "true", "false") or text.lstrip("-").isdigit():
        return f"the pushed value is neither a uuid nor a vCon: {text!r}"
    return f"vcon:{text} does not exist, neither in Redis nor in the storages of the chain"


def _deadline(
    chain_began_s: float, chain_soft_s: float | None, link_began_s: float, link_soft_s: float | None
) -> float | None:
    ends = []
    if chain_soft_s is not None:
        ends.append(chain_began_s + chain_soft_s)
    if link_soft_s is not None:
        ends.append(link_began_s + link_soft_s)
    return min(ends) if ends else None


def _cut_short(error: BaseException, link: str, options: object = None) -> ChainOutcome:
    """How a run ended that `error` has cut short. Its words hold no secret of the link's options:
    they go into the log, the record and the dead letter.
    """
    secrets = Secrets()
    secrets.add(secret_values(options))
    match error:
        case Retry():
            reason = secrets.hide(str(error))
            return ChainOutcome("retry", reason, "Retry", link=link, after_s=error.after_s)
        case Rejected():
            reason = secrets.hide(error.reason)
            return ChainOutcome("rejected", reason, "Rejected" if link else "", link=link)
        case Cancelled():
            return ChainOutcome("cancelled", str(error), link=link)
        case StartAnew():
            return ChainOutcome("anew", link=link)
        case Lost():
            return ChainOutcome("lost", link=link)
    # Cut last: of a secret that is cut in two nobody would know the second half.
    text = "".join(traceback.format_exception(error))
    text = secrets.hide(redact_text(text))[-TRACEBACK_CHARS:]
    kind: Any = type(error)
    name = kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__name__}"
    return ChainOutcome("failed", secrets.hide(str(error)) or name, name, text, link)

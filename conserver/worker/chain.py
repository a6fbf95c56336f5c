"""ChainRunner: runs one item through the links of its chain.

1. Parses the document. Rejects a document that must not be processed, with the reason.
2. Runs the links in order, beginning with the first link that no earlier attempt has finished.
3. Keeps the effects that links ask for (link_context.py) and makes checkpoints (checkpoint.py).
4. Sets a ChainOutcome (item.py), whatever the links return or raise.

It runs in a chain thread and does not call Redis: the worker loop writes its checkpoints.
"""

from __future__ import annotations

import time
import traceback
from typing import Any

from conserver.errors import Cancelled, Filtered, Rejected, Retry
from conserver.plugins.loader import LoadedLink
from conserver.process import failpoints
from conserver.process.shared_status import Phase, SharedStatus
from conserver.queue.record import THROTTLED, Progress, Source
from conserver.telemetry import log
from conserver.telemetry.redact import redact_text
from conserver.vcon.document import Vcon
from conserver.vcon.ids import usable_uuid
from conserver.worker import spans, story
from conserver.worker.checkpoint import StartAnew, TakenAway
from conserver.worker.inbox import WorkerInbox
from conserver.worker.item import ChainOutcome, Item, OutcomeKind
from conserver.worker.link_context import Context

CHECKPOINT_AFTER_S = 1.0
TRACEBACK_CHARS = 8000
_KEEPS_CHANGES = (OutcomeKind.DONE, OutcomeKind.FILTERED, OutcomeKind.RATE)
_FAILURES = (OutcomeKind.FAILED, OutcomeKind.REJECTED, OutcomeKind.RETRY)


class ChainRunner:
    """Shared by all chain threads."""

    def __init__(self, status: SharedStatus, inbox: WorkerInbox) -> None:
        self._status = status
        self._inbox = inbox
        self._return_checked: set[str] = set()
        """Links that are no longer checked for a missing `return vcon`: they have returned one, or
        the missing one was logged.
        """

    def run(self, item: Item) -> None:
        """Run the item and set its outcome. No fault of a document or a link raises here."""
        started_s = time.monotonic()
        self._status.set_phase(item.status_slot, Phase.UNTIMED)
        failpoints.at("open")
        try:
            parse_document(item)
            if item.claimed.source is Source.INLINE:
                self._status.set_uuid(item.status_slot, item.uuid)
            outcome = self._run_links(item, started_s)
            if outcome.kind in _KEEPS_CHANGES:
                outcome = _dumped(item, outcome)
        except Exception as error:  # noqa: BLE001 - a bug of ours must not lose the item
            outcome = outcome_of(error)
        item.outcome = outcome
        # From here on time limits do not count, because Redis and the storages may take long.
        self._status.set_phase(item.status_slot, Phase.FINISHING)
        item.links_s += time.monotonic() - started_s

    def _run_links(self, item: Item, started_s: float) -> ChainOutcome:
        route, inbox, done = item.route, self._inbox, item.progress.links
        if done and tuple(done) != route.names[: len(done)]:
            # The chain has other first links now than those that ran. Run all links, and forget the
            # pushes and the expiry that the earlier links requested.
            done.clear()
            item.progress.pushes.clear()
            item.progress.expire_s = None
        if route.rate is not None and not done and route.rate.name not in item.progress.rate_slots:
            return ChainOutcome(OutcomeKind.RATE)
        for link in route.links[len(done) :]:
            if inbox.is_cancelled(item):
                reason = "cancelled by an operator"
                return ChainOutcome(OutcomeKind.CANCELLED, reason, link=link.name)
            throttled_s = inbox.throttles.left_s(link.name) if inbox.throttles.until_s else 0.0
            if throttled_s > 0:
                # The item's rate slots would come too early. Note in their place that it waits for
                # the throttled link.
                item.progress.rate_slots = [THROTTLED + link.name]
                return ChainOutcome(OutcomeKind.RATE, link=link.name, after_s=throttled_s)
            if route.rates and _lacks_slot(item, link.name):
                return ChainOutcome(OutcomeKind.RATE, link=link.name)
            item.progress.rate_slots.clear()
            link_started_s = time.monotonic() if item.story is not None else 0.0
            if item.span is None:
                outcome = self._run_link(item, link, started_s)
            else:
                outcome = spans.around_link(self._run_link, item, link, started_s)
            if item.story is not None:
                failed = outcome is not None and outcome.kind in _FAILURES
                text = outcome.said if outcome is not None else ""
                story.add(
                    item, "link", link.name, since_s=link_started_s, text=text, good=not failed
                )
            if outcome is not None:
                return outcome
        return ChainOutcome(OutcomeKind.DONE)

    def _run_link(self, item: Item, link: LoadedLink, started_s: float) -> ChainOutcome | None:
        """Run one link, and make a checkpoint after it if it is costly or was slow.

        Returns:
            None if the next link is to run.
        """
        route, link_started_s = item.route, time.monotonic()
        deadline_s = _deadline(started_s, route.soft_s, link_started_s, link.soft_timeout_s)
        context = Context(item, link.name, deadline_s, self._inbox)
        item.link, item.link_progress = link.name, None
        self._status.start_link(
            item.status_slot, link.name, link.hard_timeout_s or 0.0, route.hard_s
        )
        vcon = item.vcon
        assert vcon is not None  # parse_document came first
        filtered, before = "", b""
        if link.name not in self._return_checked:
            before = _dump_of(vcon)
        failpoints.at("before-link")
        try:
            answer: Any = link.run(vcon, link.options, context)
            failpoints.at("after-link")
        except Filtered as end:
            answer, filtered, before = None, end.reason, b""
        except BaseException as error:  # noqa: BLE001 - SystemExit must not end the thread
            return outcome_of(error, link.name)
        finally:
            took_s = time.monotonic() - link_started_s
            if self._inbox.numbers is not None:
                self._inbox.numbers.took[route.name][link.name].append(took_s)
        fault = _fault_of(vcon if answer is None else answer, vcon, link.name)
        if fault:
            return ChainOutcome(OutcomeKind.REJECTED, fault, link=link.name)
        item.vcon = vcon if answer is None else answer
        context.keep_effects()
        if answer is None:
            if before and _dump_of(vcon) != before:
                self._warn_missing_return(item, link.name)
            return ChainOutcome(OutcomeKind.FILTERED, filtered, link=link.name)
        self._return_checked.add(link.name)
        item.progress.links.append(link.name)
        needs_checkpoint = link.costly or took_s > CHECKPOINT_AFTER_S
        if needs_checkpoint and link is not route.links[-1]:
            try:
                self._inbox.checkpoint(item)
            except BaseException as error:  # noqa: BLE001 - handled as if the link had raised it
                return outcome_of(error, link.name)
        return None

    def _warn_missing_return(self, item: Item, link: str) -> None:
        """Warn, once per link, that a link changed the vCon and returned None. It may have
        forgotten `return vcon`.
        """
        self._return_checked.add(link)
        what = "it changed the vCon and returned None: `return vcon`, or raise Filtered"
        log.get_logger().warning("changed_and_filtered", **item.log_fields(), link=link, what=what)


def _dump_of(vcon: Vcon) -> bytes:
    """The document as JSON; b"" if JSON cannot hold it (_dumped rejects it later)."""
    try:
        return vcon.dump()
    except Rejected:
        return b""


def _lacks_slot(item: Item, link: str) -> bool:
    rate = item.route.rates.get(link)
    return rate is not None and rate.name not in item.progress.rate_slots


def _dumped(item: Item, outcome: ChainOutcome) -> ChainOutcome:
    """Dump the vCon and return `outcome`. If the vCon cannot be dumped, return a rejection that
    names the links that ran since the last checkpoint.
    """
    try:
        item.dump_vcon()
    except Rejected as error:
        ran = item.progress.links[len(Progress.load(item.saved_state).links) :]
        ran += [outcome.link] if outcome.link else []
        who = f"the links {', '.join(ran)} together: " if len(ran) > 1 else ""
        link = ran[-1] if ran else ""
        return ChainOutcome(OutcomeKind.REJECTED, who + error.reason, "Rejected", link=link)
    return outcome


def _fault_of(answer: Any, vcon: Vcon, link: str) -> str:
    """Why a link's return value cannot replace the vCon that it was given; "" if it can."""
    if not isinstance(answer, Vcon):
        return f"link {link} returned {type(answer).__name__}, not the Vcon or None"
    uuid = answer.view.get("uuid") if answer.form == "unsigned" else answer.uuid
    if answer.names_uuid and uuid != vcon.uuid:
        return f"link {link} made another vCon of it: {uuid!r} instead of {vcon.uuid!r}"
    if answer is not vcon:
        answer.take_base_of(vcon)
    return ""


def parse_document(item: Item) -> None:
    """Set item.vcon. Raises Rejected with the reason if the document must not be processed."""
    claimed = item.claimed
    if item.vcon is not None:
        return
    if not item.text:
        raise Rejected(_why_no_document(item))
    vcon = Vcon.parse(item.text)
    if claimed.source is not Source.INLINE:
        pushed = item.uuid
        # Nearly always true. Then Vcon.parse has checked the uuid, and the two tests are skipped.
        same = vcon.uuid == pushed
        # A signed or encrypted envelope may name no uuid. Then any usable uuid may be its key.
        if not same and vcon.names_uuid and vcon.uuid.lower() != pushed.lower():
            raise Rejected(f"vcon:{pushed} holds the document of another vCon: {vcon.uuid}")
        if not same and not usable_uuid(pushed):
            raise Rejected(f"the pushed value cannot serve as a uuid: {pushed[:100]!r}")
    item.vcon, item.uuid = vcon, item.uuid or vcon.uuid
    unknown = vcon.critical_unknown(item.route.config.supported_extensions)
    if unknown:
        raise Rejected(
            f"the vCon calls extensions critical that are unknown here: {', '.join(unknown)}"
            f" (chains.{item.route.name}.supported_extensions names those that it knows)"
        )


def _why_no_document(item: Item) -> str:
    payload, source = item.claimed.payload, item.claimed.source
    text = payload[:100].decode("utf-8", "replace")
    if source is Source.BAD_KEY:
        key, kind = item.claimed.bad_key
        wanted = "a string or RedisJSON" if key.startswith("vcon:") else "a hash"
        return f"{key} is a Redis {kind}, not {wanted}"
    if not payload.strip():
        return "the pushed value is empty: push a vCon's uuid or a whole vCon"
    if source is Source.STORED:
        return f"vcon:{text} holds an empty string, and no vCon"
    if source is Source.TOO_LARGE:
        return f"the document of {text} is larger than CONSERVER_MAX_DOCUMENT_BYTES"
    if not usable_uuid(text) or text in ("null", "true", "false") or text.lstrip("-").isdigit():
        return f"the pushed value is neither a uuid nor a vCon: {text!r}"
    return f"vcon:{text} does not exist, neither in Redis nor in any storage"


def _deadline(
    chain_started_s: float,
    chain_soft_s: float | None,
    link_started_s: float,
    link_soft_s: float | None,
) -> float | None:
    """The earlier of the two soft time limits; None if neither is set."""
    ends = []
    if chain_soft_s is not None:
        ends.append(chain_started_s + chain_soft_s)
    if link_soft_s is not None:
        ends.append(link_started_s + link_soft_s)
    return min(ends, default=None)


def outcome_of(error: BaseException, link: str = "") -> ChainOutcome:
    """The outcome of a run that `error` has ended. Its texts are redacted where they are used."""
    match error:
        case Retry():
            return ChainOutcome(
                OutcomeKind.RETRY, str(error), "Retry", link=link, after_s=error.after_s
            )
        case Rejected():
            kind = "Rejected" if link else ""
            return ChainOutcome(OutcomeKind.REJECTED, error.reason, kind, link=link)
        case Cancelled():
            return ChainOutcome(OutcomeKind.CANCELLED, str(error), link=link)
        case StartAnew():
            return ChainOutcome(OutcomeKind.START_ANEW, link=link)
        case TakenAway():
            return ChainOutcome(OutcomeKind.LOST, link=link)
    # Redact first, then cut: redaction does not recognize the second half of a secret.
    text = "".join(traceback.format_exception(error))
    text = redact_text(text)[-TRACEBACK_CHARS:]
    raised: Any = type(error)
    name = raised.__name__
    if raised.__module__ != "builtins":
        name = f"{raised.__module__}.{name}"
    return ChainOutcome(OutcomeKind.FAILED, str(error) or name, name, text, link)

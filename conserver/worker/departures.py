"""Departures: records that an item has left this worker, and how.

Each departure goes into the log, SharedStatus, the meters, and the item's story and span. If the
item was a notification, the job that asked for the callback is updated, too.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from conserver.errors import with_type
from conserver.outbound.event import Event
from conserver.process.boot import Boot
from conserver.queue import calls
from conserver.queue.retrying_connection import RetryingConnection
from conserver.telemetry import log
from conserver.telemetry.redact import redact_text
from conserver.worker import spans
from conserver.worker.held_items import HeldItems
from conserver.worker.item import ChainOutcome, Item, OutcomeKind
from conserver.worker.meters import Meters
from conserver.worker.story import StoryWriter

_DEAD_LETTER_FIELDS = ("link", "storage", "reason", "attempts", "deliveries")


class Departures:
    """One method per way to leave. Used by the worker loop only."""

    def __init__(
        self,
        boot: Boot,
        redis: RetryingConnection,
        held: HeldItems,
        story_writer: StoryWriter,
        meters: Meters | None = None,
    ) -> None:
        self._status = boot.status
        self._redis = redis
        self._held = held
        self._story_writer = story_writer
        self._meters = meters
        # Bound here, because binding once per item would be slow.
        self._log = log.get_logger().bind()

    def settled(self, items: Sequence[Item]) -> None:
        """Record that Redis has settled these items: they are done, filtered or cancelled."""
        logs = self._log.is_enabled_for(logging.INFO)
        for item in items:
            outcome = item.outcome
            assert outcome is not None
            if logs:
                self._log_end(item, outcome)
            if item.story is not None:
                done = outcome.kind is OutcomeKind.DONE
                end = "completed" if done else outcome.kind.value
                egress = item.route.config.egress_lists if done else ()
                self._story_writer.end(item, end, ", ".join(egress), _how(outcome))
            if item.notification is not None:
                delivered = outcome.kind is OutcomeKind.DONE
                self._tell_job(item.notification.event, "" if delivered else "it was cancelled")
            if item.span is not None:
                spans.ended(item, outcome.kind.value)
            self._held.remove(item)
        self._status.count(done=len(items))
        if self._meters is not None:
            self._meters.ended(items)

    def parked(self, item: Item, after_s: float, waits_for: Mapping[str, Any]) -> None:
        """Record that Redis has parked the item. waits_for: see Outbox.park."""
        if self._meters is not None:
            self._meters.parked(item, _cause(item, waits_for))
        if item.story is not None:
            causes = waits_for.get("storages") or waits_for
            told = "; ".join(f"{name}: {why}" for name, why in causes.items() if name != "link")
            self._story_writer.end(item, "parked", text=f"for {after_s:.1f} s: {told}")
        self._leave(item, "parked")

    def released(self, item: Item, reason: str) -> None:
        """Record that the item was released, so that another worker can claim it."""
        self._log.debug("released", **item.log_fields(), reason=reason)
        self._story_writer.end(item, "released", text=reason)
        self._leave(item, "released")

    def lost(self, item: Item, *, repeated: bool = False) -> None:
        """Record that Redis does not have the item in flight for this consumer.

        Args:
            repeated: the call that did not find the item was repeated. Most likely its first
                execution has ended the item.
        """
        if repeated:
            what = "an answer of Redis got lost: the item has ended, or another worker has it"
            self._log.info("unconfirmed", **item.log_fields(), what=what)
        else:
            what = "another worker has the item, or it has ended; nothing was written here"
            self._log.warning("item_lost", **item.log_fields(), what=what)
            self._story_writer.end(item, "lost")
        self._leave(item, "lost", "lost", "another consumer has it, or it has ended")

    def dead_lettered(self, item: Item, why: Mapping[str, Any]) -> None:
        """Record that the item became a dead letter. why: see Item.dead_letter_reason."""
        error = with_type(why.get("type", ""), str(why["error"]))
        fields = {name: why[name] for name in _DEAD_LETTER_FIELDS if name in why}
        self._log.error("dead_letter", **item.log_fields(), list=why["list"], error=error, **fields)
        self._status.count(failed=1)
        if self._meters is not None:
            self._meters.dead_lettered(item.route.name, why["reason"])
        if item.notification is not None:
            self._tell_job(item.notification.event, str(why["error"]))
        self._story_writer.end(item, "failed", text=f"{why['reason']}: {error}")
        self._leave(item, "dead_letter", why["reason"], why["error"])

    def _tell_job(self, event: Event, error: str = "") -> None:
        """Record in the job whether its notification was delivered. error: why not, or ""."""
        what, why = ("failed", orjson.dumps({"error": error})) if error else ("delivered", b"")
        self._redis.call(calls.told(event.job, event.seq, what, why))

    def _log_end(self, item: Item, outcome: ChainOutcome) -> None:
        by = {"link": outcome.link, "reason": redact_text(outcome.message)}
        self._log.info(
            outcome.kind.value,
            **item.log_fields(),
            **{name: text for name, text in by.items() if text},
            list=item.claimed.list,
            duration_ms=round((time.monotonic() - item.claimed_at_s) * 1000, 2),
            links_ms=round(item.links_s * 1000, 2),
        )

    def _leave(self, item: Item, how: str, error: str = "", text: str = "") -> None:
        """End the item's span and forget the item. error, text: why, if the item failed."""
        if item.span is not None:
            spans.ended(item, how, error, text)
        self._held.remove(item)


def _cause(item: Item, waits_for: Mapping[str, Any]) -> str:
    """Why an item is parked, as one of metrics.CAUSES."""
    for name, cause in (("storages", "storage"), ("rate", "rate")):
        if name in waits_for:
            return cause
    outcome = item.outcome
    return "throttled" if outcome is not None and outcome.kind is OutcomeKind.RATE else "retry"


def _how(outcome: ChainOutcome) -> str:
    """Which link has ended the run, and why, as text for the item's story."""
    by = f"by {outcome.link}" if outcome.link else ""
    return ": ".join(part for part in (by, outcome.message) if part)

"""What becomes of an item: the decisions between its links, its storages and its end.

    finished ─▶ write ─▶ storages, all at once ─▶ settle            done
             └▶ settle (with the document)                          done without storages, filtered
             └▶ park | dead-letter                                  failed, later, never

1. Takes items as chain threads and writers hand them back, and decides what comes next; the outbox
   carries it out.
2. A failed attempt goes back to what Redis has: changes that were not written are dropped with it.
3. Only what is still owed is asked of a storage again; an item waits for one storage without
   holding back the others.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable

from conserver import retry
from conserver.config.settings import Settings
from conserver.process.shared_status import Phase, SharedStatus
from conserver.queue import calls
from conserver.telemetry import log
from conserver.telemetry.redact import redact_text
from conserver.worker.chain import Checkpoint
from conserver.worker.item import ChainOutcome, Item
from conserver.worker.outbox import Outbox
from conserver.worker.writers import Report, Writer
from storage.contract import Rejected as RefusedByStorage
from storage.contract import Stored, Unavailable

LONGEST_WAIT_S = 300.0
"""How long an item waits at most before a storage that was away is asked for it again."""


class OutcomeHandler:
    """Used by the keeper's thread alone."""

    def __init__(
        self, outbox: Outbox, status: SharedStatus, settings: Settings, writers: dict[str, Writer]
    ) -> None:
        self._outbox = outbox
        self._status = status
        self._settings = settings
        self._writers = writers
        self._log = log.get_logger()
        self._to_store: dict[str, list[Item]] = {}

    # ---- what comes in ---------------------------------------------------------------------------

    def finished(self, item: Item) -> None:
        """An item comes from its links: decide by its outcome."""
        outcome = item.outcome
        assert outcome is not None
        if outcome.kind == "done":
            if item.route.storages:
                item.progress.owed = list(item.route.storages)
                self._save_then(item, self._store)
            else:
                self._settle(item)
        elif outcome.kind == "filtered" or outcome.kind == "cancelled":
            if outcome.kind == "cancelled":
                item.back_to_saved()
            self._settle(item)
        elif outcome.kind == "anew":
            self._outbox.start_anew(item)
        elif outcome.kind == "lost":
            self._outbox.lost(item)
        else:
            self._attempt_failed(item, outcome)

    def resumed(self, item: Item) -> None:
        """An item comes back with nothing but storages owed: its links are done."""
        item.outcome = ChainOutcome("done")
        if item.progress.owed:
            self._store(item)
        else:
            self._settle(item)

    def restored(self, item: Item, then: Callable[[Item], None]) -> None:
        """A storage had the document of an item. Redis gets it back before anything else: whoever
        has this item next need not look for it again.
        """
        self._outbox.write(item, then)

    def checkpoint(self, item: Item, checkpoint: Checkpoint) -> None:
        """A chain thread waits until the item's document and progress are written."""
        self._outbox.write(item, lambda _: None, checkpoint)

    def reported(self, report: Report) -> None:
        """A writer answered for its items."""
        for item, outcome in report.answers:
            item.waiting.discard(report.storage)
            if isinstance(outcome, Stored):
                if outcome.etag:
                    item.progress.etags[report.storage] = outcome.etag
                if item.progress.owed is not None:
                    item.progress.owed.remove(report.storage)
            elif isinstance(outcome, Unavailable):
                item.missed[report.storage] = outcome.reason
                item.after_s = max(item.after_s, outcome.after_s or 1.0)
            elif isinstance(outcome, RefusedByStorage):
                item.refused[report.storage] = outcome.reason
            if not item.waiting:
                self._answered(item)

    def wait(self, item: Item) -> None:
        """A storage that the item needs is away: it comes back later, unless it is too old.

        The longer it has waited, the longer it waits again: what an outage of hours has gathered
        must not keep the workers busy with coming back in vain.
        """
        name, reason = next(iter(item.missed.items()))
        age_s = self._age_s(item)
        if age_s > item.route.config.give_up_s:
            self._dead_letter(item, "unavailable", reason, storage=name)
            return
        after_s = max(item.after_s, min(age_s, LONGEST_WAIT_S) * random.uniform(0.5, 1.0))
        known = b'"owed"' in item.claimed.state
        self._log.log(
            logging.DEBUG if known else logging.INFO,  # once is enough, however often it comes back
            "parked",
            **item.fields(),
            storage=",".join(item.missed),
            reason=reason,
            after_s=round(after_s, 1),
        )
        self._outbox.park(item, after_s)

    # ---- decisions -------------------------------------------------------------------------------

    def _save_then(self, item: Item, then: Callable[[Item], None]) -> None:
        if item.changed:
            self._outbox.write(item, then)
        else:
            then(item)

    def _store(self, item: Item) -> None:
        """Hand the item to all storages that it is owed to, or to the first of them."""
        owed = _unasked(item)
        chosen = owed if self._settings.parallel_storage else owed[:1]
        self._status.set_phase(item.slot, Phase.STORING)
        item.waiting = set(chosen)
        for name in chosen:
            self._to_store.setdefault(name, []).append(item)

    def _answered(self, item: Item) -> None:
        """Every storage that was asked has answered."""
        if item.refused:
            name, reason = next(iter(item.refused.items()))
            self._dead_letter(item, "rejected", reason, storage=name)
        elif item.progress.owed and _unasked(item):  # hardly ever: so what costs less comes first
            self._store(item)  # one after another, and it is the next one's turn
        elif item.missed:
            self.wait(item)
        else:
            self._settle(item)

    def _attempt_failed(self, item: Item, outcome: ChainOutcome) -> None:
        """A link failed, asked for later, or never: what it changed since the last write is
        dropped.
        """
        item.back_to_saved()
        item.progress.attempts += 1
        item.progress.count_runs(item.route.names, outcome.link)
        item.progress.failures += outcome.kind == "failed"
        item.progress.error = redact_text(outcome.reason)[:500]
        config, attempts = item.route.config, item.progress.attempts
        if outcome.kind == "rejected":
            self._save_then(item, lambda i: self._dead_letter(i, "rejected", outcome.reason))
            return
        if outcome.kind == "retry":
            over = self._age_s(item) > config.give_up_s
        else:
            over = item.progress.failures > config.retries
        if over:
            self._save_then(item, lambda i: self._dead_letter(i, "failed", outcome.reason))
            return
        after_s = outcome.after_s
        if after_s is None:
            after_s = retry.backoff_s(attempts, config.backoff_s, config.backoff_max_s)
        self._log.warning(
            "attempt_failed",
            **item.fields(),
            link=outcome.link,
            error=outcome.reason,
            attempt=attempts,
            after_s=round(after_s, 1),
        )
        self._save_then(item, lambda i: self._outbox.park(i, after_s))

    def _age_s(self, item: Item) -> float:
        return time.time() - item.claimed.first_seen_ms / 1000

    def _settle(self, item: Item) -> None:
        self._outbox.settle(item, settlement(item, self._settings), self._settle)

    def _dead_letter(self, item: Item, reason: str, error: str, storage: str = "") -> None:
        self._outbox.dead_letter(item, item.why_dead(reason, error, storage))

    def flush(self) -> None:
        """Hand to the writers what is to be stored."""
        if self._to_store:
            waiting, self._to_store = self._to_store, {}
            for name, items in waiting.items():
                self._writers[name].put(items)


def _unasked(item: Item) -> list[str]:
    """The storages that the item is owed to and that have not said that they are away."""
    return [name for name in item.progress.owed or [] if name not in item.missed]


def settlement(item: Item, settings: Settings) -> calls.Settlement:
    """The end of an item: what is pushed where, what is written with it, when its document may
    expire.
    """
    outcome, progress = item.outcome, item.progress
    assert outcome is not None
    pushes = list(progress.pushes)
    if outcome.kind == "done":
        pushes = [(name, item.uuid) for name in item.route.config.egress_lists] + pushes
        write = item.changed
    elif outcome.kind == "filtered":
        # What was pushed whole and only filtered goes without ever having been a key.
        write = item.changed and (item.draft is not None or not item.unsaved or bool(pushes))
    else:
        pushes, write = [], False
    body = item.body if write else b""
    return calls.Settlement(
        item.token,
        item.claimed.epoch,
        item.uuid,
        item.revision,
        item.route.name,
        body,
        _expiry_s(item, settings, bool(pushes)),
        pushes,
        progress.etags,
    )


def _expiry_s(item: Item, settings: Settings, pushed: bool) -> int:
    """Seconds until Redis may forget the document; 0 keeps it."""
    if item.progress.expire_s is not None:
        return item.progress.expire_s
    if item.outcome is not None and item.outcome.kind == "done" and item.route.storages:
        return settings.vcon_redis_expiry_s
    return 0 if pushed else settings.orphan_expiry_s

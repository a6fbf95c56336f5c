"""OutcomeHandler: decides what happens to an item once its links or its storages are done.

item.py lists the outcomes and what follows each. The outbox carries out the decisions. Two rules
hold for all outcomes:

1. After a failed attempt the item reverts to its document and progress in Redis: changes that were
   not written are dropped.
2. If one storage is unavailable, the item is still saved in the other storages. A storage that has
   saved the item is not asked again, unless the worker dies before Redis knows that it has.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from functools import partial

from conserver.config.settings import Settings
from conserver.process import backoff
from conserver.process.shared_status import Phase, SharedStatus
from conserver.queue.record import Source
from conserver.telemetry import log
from conserver.telemetry.redact import redact_text
from conserver.worker import story
from conserver.worker.departures import Departures
from conserver.worker.inbox import StorageReport
from conserver.worker.item import ChainOutcome, Item, OutcomeKind, StorageAnswers
from conserver.worker.meters import Meters
from conserver.worker.outbox import Outbox
from conserver.worker.rates import Rates
from conserver.worker.work_queue import WorkQueue
from conserver.worker.writers import Writer
from storage.contract import Rejected as RejectedByStorage
from storage.contract import Stored, Unavailable

UNAVAILABLE_WAIT_MAX_S = 300.0
"""The longest time that an item is parked for an unavailable storage."""


class OutcomeHandler:
    """Decides what happens to each item. Used by the worker loop only."""

    def __init__(
        self,
        outbox: Outbox,
        departures: Departures,
        status: SharedStatus,
        settings: Settings,
        writers: dict[str, Writer],
        rates: Rates,
        queue: WorkQueue,
        meters: Meters | None = None,
    ) -> None:
        self._meters = meters
        self._outbox = outbox
        outbox.chain_ended = self.chain_ended
        self._departures = departures
        self._status = status
        self._settings = settings
        self._writers = writers
        self._log = log.get_logger()
        self._to_store: dict[str, list[Item]] = {}
        self._rates = rates
        self._work_queue = queue

    # ---- events ----------------------------------------------------------------------------------

    def chain_ended(self, item: Item) -> None:
        """Do what the item's outcome requires; item.py lists it."""
        outcome = item.outcome
        assert outcome is not None
        kind = outcome.kind
        if kind is OutcomeKind.DONE:
            if item.route.storages:
                item.progress.owed = list(item.route.storages)
                self._write_then(item, self._store)
            else:
                self._outbox.settle(item)
        elif kind is OutcomeKind.FILTERED:
            self._outbox.settle(item)
        elif kind is OutcomeKind.CANCELLED:
            item.revert_to_saved()
            self._outbox.settle(item)
        elif kind is OutcomeKind.REFUSED:
            self._outbox.dead_letter(item, outcome.reason, outcome.message)
        elif kind is OutcomeKind.START_ANEW:
            self._start_anew(item)
        elif kind is OutcomeKind.LOST:
            self._departures.lost(item)
        elif kind is OutcomeKind.RATE and outcome.after_s is not None:
            self._park_throttled(item, outcome.link, outcome.after_s)
        elif kind is OutcomeKind.RATE:
            rate = item.route.rates[outcome.link] if outcome.link else item.route.rate
            assert rate is not None
            self._rates.ask(item, rate)
        else:
            self._attempt_failed(item, outcome)

    def resume_storing(self, item: Item) -> None:
        """Store or settle a claimed item whose links an earlier worker has finished."""
        item.outcome = ChainOutcome(OutcomeKind.DONE)
        owed = item.progress.owed or ()
        item.progress.owed = [name for name in owed if name in item.route.storages]
        if item.progress.owed:
            self._store(item)
        else:
            self._outbox.settle(item)

    def save_restored(self, item: Item, then: Callable[[Item], None]) -> None:
        """Write to Redis a document that was found in a storage, so that no worker looks it up
        again. Then call `then`.
        """
        self._outbox.write(item, then)

    def storage_answered(self, report: StorageReport) -> None:
        """Note a writer's report, and continue each item whose storages have all answered."""
        if self._meters is not None:
            self._meters.stored(report)
        for item, outcome in report.outcomes:
            answers = item.answers
            assert answers is not None  # `_store` has set it
            answers.asked.discard(report.storage)
            if isinstance(outcome, Stored):
                if outcome.etag:
                    item.progress.etags[report.storage] = str(outcome.etag)
                if item.progress.owed is not None:
                    item.progress.owed.remove(report.storage)
            elif isinstance(outcome, Unavailable):
                answers.note_unavailable(report.storage, outcome)
            elif isinstance(outcome, RejectedByStorage):
                answers.rejected[report.storage] = outcome.reason
            if item.story is not None:
                good, text = isinstance(outcome, Stored), getattr(outcome, "reason", "")
                since_s = answers.asked_s
                story.add(item, "storage", report.storage, since_s=since_s, text=text, good=good)
            if not answers.asked:
                self._all_answered(item, answers)

    def flush(self) -> None:
        """Hand the items that are to be stored to the writers. Reserve rate slots for the items
        that wait for one. If the time of its slot has come, an item goes to the chain threads;
        else it is parked until then.
        """
        self._rates.tell_throttles()
        for item, rate, wait_s in self._rates.flush(time.monotonic()):
            if wait_s <= 0:
                self._work_queue.put([item])
            else:
                park = partial(self._outbox.park, after_s=wait_s, rate=rate.text)
                self._write_then(item, park)
        if self._to_store:
            to_store, self._to_store = self._to_store, {}
            for name, items in to_store.items():
                self._writers[name].save(items)

    # ---- decisions -------------------------------------------------------------------------------

    def park_until_available(self, item: Item) -> None:
        """Park an item that needs an unavailable storage, or dead-letter it if it was
        first claimed longer than `give_up_s` ago.

        The older the item, the longer it is parked. With short waits, the items that gather during
        an outage of hours would keep the workers busy with futile attempts.
        """
        answers = item.answers
        assert answers is not None  # At least one storage was unavailable.
        name, reason = next(iter(answers.unavailable.items()))
        age_s = _age_s(item)
        if age_s > item.route.config.give_up_s:
            self._outbox.dead_letter(item, "unavailable", reason, storage=name)
            return
        wait_s = min(age_s, UNAVAILABLE_WAIT_MAX_S) * random.uniform(0.5, 1.0)
        after_s = max(answers.retry_after_s, wait_s)
        logged_before = b'"owed"' in item.claimed.state
        self._log.log(
            logging.DEBUG if logged_before else logging.INFO,
            "parked",
            **item.log_fields(),
            storage=",".join(answers.unavailable),
            reason=reason,
            after_s=round(after_s, 1),
        )
        self._outbox.park(item, after_s, storages=dict(answers.unavailable))

    def _start_anew(self, item: Item) -> None:
        """Run all links of the item again, with the newer document that is now in its `text`."""
        self._log.info("started_anew", **item.log_fields(), reason="its document was replaced")
        item.start_anew()
        item.claimed.source, item.claimed.payload = Source.STORED, item.uuid.encode()
        self._work_queue.put([item])

    def _park_throttled(self, item: Item, link: str, after_s: float) -> None:
        """Park an item whose next link is throttled."""
        self._rates.throttled(item, link, after_s, time.monotonic())
        cause = {"link": link, "error": "its server has asked all callers to wait"}
        self._write_then(item, lambda i: self._outbox.park(i, after_s, **cause))

    def _write_then(self, item: Item, then: Callable[[Item], None]) -> None:
        """Write the document if Redis lacks its present version, then call `then`."""
        if item.needs_write:
            self._outbox.write(item, then)
        else:
            then(item)

    def _store(self, item: Item) -> None:
        """Queue the item for the storages that it owes: for all of them if parallel_storage is set,
        else for the first one.
        """
        answers = item.answers = item.answers or StorageAnswers()
        owed = _owed_and_available(item, answers)
        chosen = owed if self._settings.parallel_storage else owed[:1]
        self._status.set_phase(item.status_slot, Phase.FINISHING)
        answers.asked = set(chosen)
        if item.story is not None:
            answers.asked_s = time.monotonic()
        for name in chosen:
            self._to_store.setdefault(name, []).append(item)

    def _all_answered(self, item: Item, answers: StorageAnswers) -> None:
        """Continue an item after every storage that was asked has answered."""
        if answers.rejected:
            name, reason = next(iter(answers.rejected.items()))
            self._outbox.dead_letter(item, "rejected", reason, storage=name)
        elif _owed_and_available(item, answers):
            self._store(item)  # the next storage, without parallel_storage
        elif answers.unavailable:
            self.park_until_available(item)
        else:
            self._outbox.settle(item)

    def _attempt_failed(self, item: Item, outcome: ChainOutcome) -> None:
        """Park or dead-letter an item whose outcome is RETRY, FAILED or REJECTED."""
        item.revert_to_saved()
        progress, config, kind = item.progress, item.route.config, outcome.kind
        progress.attempts += 1
        progress.count_runs(item.route.names, outcome.link)
        progress.failures += kind is OutcomeKind.FAILED
        if self._meters is not None:
            self._meters.attempt_failed(item, outcome.link)
        progress.error = redact_text(outcome.said)[:500]
        if kind is OutcomeKind.REJECTED:
            reason = "rejected"
        elif kind is OutcomeKind.RETRY:
            reason = "failed" if _age_s(item) > config.give_up_s else ""
        else:
            reason = "failed" if progress.failures > config.retries else ""
        if reason:
            end = partial(self._outbox.dead_letter, reason=reason, error=outcome.message)
        else:
            wait_s = self._wait_s(item, outcome)
            end = partial(self._outbox.park, after_s=wait_s, link=outcome.link, error=outcome.said)
        if outcome.write_failed:  # It would fail again.
            end(item)
        else:
            self._write_then(item, end)

    def _wait_s(self, item: Item, outcome: ChainOutcome) -> float:
        """How long a failed item is parked, in seconds. Logs the failure, and slows down the rate
        of its link.
        """
        progress, config, after_s = item.progress, item.route.config, outcome.after_s
        if after_s is not None and outcome.link in item.route.rates:
            self._rates.slow_down(item.route.rates[outcome.link], after_s)
        if after_s is None:
            after_s = backoff.backoff_s(progress.attempts, config.backoff_s, config.backoff_max_s)
        self._log.warning(
            "attempt_failed",
            **item.log_fields(),
            link=outcome.link,
            error=outcome.said,
            attempt=progress.attempts,
            after_s=round(after_s, 1),
        )
        return after_s


def _age_s(item: Item) -> float:
    """Seconds since the item was first claimed."""
    return time.time() - item.claimed.first_seen_ms / 1000


def _owed_and_available(item: Item, answers: StorageAnswers) -> list[str]:
    return [name for name in item.progress.owed or [] if name not in answers.unavailable]

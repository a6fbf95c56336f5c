"""WorkerLoop: the main thread of a worker, which talks to Redis and runs no link itself.

Each turn of the loop (WorkerLoop.run):

1. Receives messages of the supervisor and the coordinator, and results of chain threads and
   writers.
2. Lets the outbox send settles and other writes, then claims new items (intake.py).
3. About once a second: abandons storage calls that hang, reads which items were cancelled, shows
   the progress of items that belong to jobs (job_hints.py), and releases items that no thread has
   started, so that an idle worker can claim them. Once a minute: returns stray items.
4. Sleeps until something arrives or the next duty is due.

The loop calls SharedStatus.beat() at least once a second, also while Redis is unavailable, so that
the watchdog does not kill the worker. The loop ends after a drain, if the worker's registration is
void, and if the supervisor has died. A drain does not wait for Redis if the worker holds nothing.
"""

from __future__ import annotations

import gc
import random
import select
import sys
import time

from conserver.errors import EXIT_UNAVAILABLE, BootError
from conserver.plugins import loader as plugins
from conserver.process import memory
from conserver.process.boot import Boot
from conserver.process.messages import receive
from conserver.process.shared_status import State
from conserver.queue import calls
from conserver.queue.retrying_connection import RetryingConnection
from conserver.telemetry import log
from conserver.worker.inbox import WorkerInbox
from conserver.worker.item import ChainOutcome, Item, OutcomeKind
from conserver.worker.job_hints import JobHints
from conserver.worker.parts import WorkerParts
from conserver.worker.prefetch import HORIZON_S

# By default a thread that computes keeps the interpreter's lock (GIL) for 5 ms, and the worker loop
# would wait that long for it.
SWITCH_INTERVAL_S = 0.0002
# With the default threshold of 700 allocations, the search for reference cycles would take a tenth
# of an item's CPU time. Items form none: each is about twenty objects that live for milliseconds.
GC_THRESHOLDS = (50_000, 20, 20)
BEAT_INTERVAL_S = 1.0
RELEASE_AFTER_S = 1.0
STRAYS_INTERVAL_S = 60.0
BATCH_WAIT_MS = 3


class SupervisorGone(Exception):
    """The lifeline pipe has ended: the supervisor is dead."""


class HoldsNothing(Exception):
    """The worker drains while a call waits for Redis, and it holds nothing."""


def main(boot: Boot) -> int:
    """Run a worker until it has drained. Returns the exit code.

    Raises:
        BootError: it cannot start.
    """
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    gc.set_threshold(*GC_THRESHOLDS)
    memory.use_one_arena()
    loaded = plugins.load(boot.config)
    loaded.prepare()
    if any(link.speech_model is not None for link in loaded.links.values()):
        # Only workers with speech links import it.
        from conserver.media.speech.engines import engines

        engines.use_transcribers(boot.transcribers)
        memory.give_large_blocks_back()
    if any(link.reads_pages for link in loaded.links.values()):
        from conserver.media.extraction.pool import HostReaders, pool

        pool.use(HostReaders(*boot.page_readers))
    loop = WorkerLoop(boot, loaded)
    try:
        loop.connect()
        boot.send("ready")
        return loop.run()
    except HoldsNothing:
        return 0
    except SupervisorGone:
        loop.abandon()
        return 0


class WorkerLoop:
    """The main thread of a worker."""

    def __init__(self, boot: Boot, loaded: plugins.Plugins) -> None:
        self._boot = boot
        self._status = boot.status
        self._log = log.get_logger()
        self._inbox = WorkerInbox(boot.status)
        self._poll = self._sources()
        self._redis_url = boot.settings.redis_url.get_secret_value()
        self._redis = RetryingConnection(self._redis_url, self._tick, self._log)
        parts = WorkerParts(boot, loaded, self._redis, self._inbox)
        self._held = parts.held
        self._work_queue = parts.queue
        self._pool = parts.pool
        self._writers = parts.writers
        self._documents = parts.documents
        self._outbox = parts.outbox
        self._outcomes = parts.outcomes
        self._intake = parts.intake
        self._schedule = parts.intake.schedule
        self._durations = parts.intake.prefetch.durations
        self._story_writer = parts.story_writer
        self._notifiers = parts.notifiers
        self._meters = parts.meters
        self._hints = JobHints(boot.consumer, self._redis)
        self._draining = False
        self._duties_at_s = 0.0
        self._strays_at_s = time.monotonic() + STRAYS_INTERVAL_S * random.uniform(0.5, 1.0)

    def _sources(self) -> select.poll:
        """The descriptors that wake the loop."""
        sources = select.poll()
        boot = self._boot
        wanted = [self._inbox.fileno(), boot.supervisor.fileno(), boot.lifeline]
        if boot.stop is not None:
            wanted.append(boot.stop.fileno())
        if boot.coordinator is not None:
            wanted.append(boot.coordinator.fileno())
        for fd in wanted:
            sources.register(fd, select.POLLIN)
        return sources

    # ---- start and end ---------------------------------------------------------------------------

    def connect(self) -> None:
        """Wait until Redis answers.

        Raises:
            BootError: Redis does not answer within the boot timeout.
            HoldsNothing, SupervisorGone: see _tick.
        """
        deadline_s = time.monotonic() + self._boot.settings.boot_timeout_s

        def tick() -> None:
            self._tick()
            if time.monotonic() > deadline_s:
                raise BootError(
                    "Redis did not answer: is REDIS_URL right, and is it up?", EXIT_UNAVAILABLE
                )

        redis = RetryingConnection(self._redis_url, tick, self._log)
        redis.command("PING")
        redis.close()

    def run(self) -> int:
        """Work until the worker has drained or its registration is void. Returns the exit code.

        Raises:
            SupervisorGone: the supervisor is dead. The caller calls abandon().
            HoldsNothing: the worker drains, Redis does not answer, and the worker holds nothing.
        """
        self._pool.start()
        self._status.state = State.IDLE
        ready = {self._boot.supervisor.fileno()}
        while True:
            self._status.beat()
            self._receive_messages(ready)
            self._receive_results()
            self._outbox.flush()
            self._outcomes.flush()
            if self._draining:
                if not self._held:
                    self._story_writer.flush()
                    if self._meters is not None:
                        self._meters.flush()
                    return 0
            elif not self._intake.claim():
                return 0
            self._outcomes.flush()  # store the claimed items whose links are done
            self._do_duties()
            ready = self._wait()

    def abandon(self) -> None:
        """Release the items that no thread has started, within a second, because the supervisor is
        dead. The coordinator returns the other items.
        """
        self._log.error("supervisor_gone", what="ending; unfinished items are returned")
        deadline_s = time.monotonic() + 1.0

        def tick() -> None:
            if time.monotonic() > deadline_s:
                raise SupervisorGone

        redis = RetryingConnection(self._redis_url, tick, self._log)
        unstarted = self._unstarted(float("inf"))
        moves = [calls.Move(item.token, item.claimed.epoch) for item in unstarted]
        try:
            if moves:
                redis.call(calls.move("release", self._boot.consumer, moves))
        except SupervisorGone:
            return

    def _tick(self) -> None:
        """Beat and obey orders. Called at least once a second while a Redis call waits.

        If the worker drains and holds nothing, the call ends with HoldsNothing. But a claim that
        was sent and not answered may have taken items: the worker waits for the answer, so that it
        can release them. The worker holds the items before it sends the next call.
        """
        self._status.beat()
        self._obey({fd for fd, _ in self._poll.poll(0)})
        if self._draining and not self._held and not self._redis.unsure:
            raise HoldsNothing

    def _drain(self) -> None:
        """Claim nothing more. The loop ends once the worker holds no item."""
        if not self._draining:
            self._draining = True
            self._status.state = State.DRAINING
            running = self._work_queue.total_running + self._notifiers.queue.total_running
            self._log.info("draining", held=len(self._held), running=running)

    # ---- each turn -------------------------------------------------------------------------------

    def _obey(self, ready: set[int]) -> None:
        """Read the descriptors that are ready: lifeline, supervisor, signals."""
        boot = self._boot
        if boot.lifeline in ready:
            raise SupervisorGone
        messages = receive(boot.supervisor) if boot.supervisor.fileno() in ready else []
        if any(message.get("type") == "drain" for message in messages):
            self._drain()
        if boot.stop is not None and (boot.stop.requested or boot.stop.fileno() in ready):
            boot.stop.clear()
            if boot.stop.requested:
                self._drain()

    def _receive_messages(self, ready: set[int]) -> None:
        """Obey orders, read the coordinator's messages, and release what shall not begin here."""
        boot = self._boot
        self._obey(ready)
        if boot.coordinator is not None and boot.coordinator.fileno() in ready:
            self._schedule.receive()
        if self._draining:
            self._status.state = State.DRAINING  # A claim that was under way has set WORKING.
            self._release_unstarted(float("inf"), "shutdown")
        elif self._work_queue and self._pool.all_busy_longer_than(HORIZON_S):
            # The running items are slower than expected. An idle worker may run the queued ones.
            before_s = time.monotonic() - HORIZON_S
            self._release(self._work_queue.take_back(before_s), "all threads are at slow items")

    def _receive_results(self) -> None:
        """Take the results that chain threads and writers have left since the last turn."""
        inbox = self._inbox
        while inbox.checkpoints:
            self._outbox.write_checkpoint(inbox.checkpoints.popleft())
        finished, delivered = self._pool.collect(), self._notifiers.collect()
        for item in finished:
            kind = item.outcome.kind if item.outcome is not None else None
            if kind is not OutcomeKind.RATE:  # With RATE the item's links have not ended.
                self._durations.add(item.route.name, item.links_s)
            again = kind is OutcomeKind.RETRY or kind is OutcomeKind.FAILED
            if again and inbox.is_cancelled(item):
                _cancel(item)
            self._outcomes.chain_ended(item)
        for item in delivered:
            self._outcomes.chain_ended(item)
        while inbox.reports:
            report = inbox.reports.popleft()
            if report.looked_up is not None:
                self._documents.storage_answered(report)
            else:
                self._outcomes.storage_answered(report)

    def _release_unstarted(self, claimed_before_s: float, reason: str) -> None:
        """Release the items that were claimed before this time and that no thread has started."""
        self._release(self._unstarted(claimed_before_s), reason)

    def _release(self, unstarted: list[Item], reason: str) -> None:
        """Release items that no thread has started. Settle those that were cancelled."""
        items = []
        for item in unstarted:
            if self._inbox.is_cancelled(item):
                _cancel(item)
                self._outcomes.chain_ended(item)
            else:
                items.append(item)
        self._outbox.release(items, reason)

    def _unstarted(self, claimed_before_s: float) -> list[Item]:
        """Take the items that no thread has started out of the work queues, and return them."""
        notifiers = self._notifiers.queue.take_back(claimed_before_s)
        return notifiers + self._work_queue.take_back(claimed_before_s)

    def _wait(self) -> set[int]:
        """Sleep until something arrives or is due. Returns the descriptors that are ready."""
        inbox, now_s = self._inbox, time.monotonic()
        wait_s = HORIZON_S if self._work_queue else BEAT_INTERVAL_S
        if not self._draining:
            claim_s = self._intake.next_claim_s(now_s)
            wait_s = wait_s if claim_s is None else min(wait_s, claim_s)
        send_s = self._intake.tell_coordinator(now_s)
        wait_s = wait_s if send_s is None else min(wait_s, send_s)
        inbox.asleep = True
        finished = self._pool.finished or self._notifiers.finished
        if inbox.woken or finished or self._outbox.waiting:
            wait_s = 0.0
        ready = {fd for fd, _ in self._poll.poll(wait_s * 1000 + (0.5 if wait_s else 0))}
        if inbox.fileno() in ready:
            inbox.clear()
            fast = self._durations.any_within(BATCH_WAIT_MS / 1000)
            if fast and self._work_queue and not inbox.reports and not inbox.checkpoints:
                # Items end fast: wait for more of them, to settle them all in one call.
                ready |= {fd for fd, _ in self._poll.poll(BATCH_WAIT_MS)}
        inbox.asleep = inbox.woken = False
        return ready

    # ---- duties of every second ------------------------------------------------------------------

    def _do_duties(self) -> None:
        now_s = time.monotonic()
        if now_s < self._duties_at_s:
            return
        self._duties_at_s = now_s + BEAT_INTERVAL_S
        self._check_storages()
        self._status.set_memory(memory.resident_bytes())
        if self._meters is not None:
            self._meters.flush()
        self._story_writer.flush()
        if self._held:
            self._inbox.cancelled = self._intake.read_cancelled(self._inbox.cancelled)
            self._hints.send(self._held.by_token.values())
        if self._draining:
            return
        if not self._held:
            if self._status.state is not State.IDLE:
                memory.trim_heap()
            self._status.state = State.IDLE
        self._release_unstarted(now_s - RELEASE_AFTER_S, "not begun for a second")
        if now_s >= self._strays_at_s:
            self._strays_at_s = now_s + STRAYS_INTERVAL_S * random.uniform(0.8, 1.2)
            self._intake.return_strays()

    def _check_storages(self) -> None:
        """Abandon storage calls that hang. If too many hang, or one does while a suspect waits,
        drain, so that the supervisor replaces this worker.
        """
        for writer in self._writers.values():
            writer.check_timeout()
            # A worker with a hung call gets no suspect (Intake._claim).
            blocks_suspects = writer.has_hung_calls and self._schedule.suspects_wait
            if (writer.has_too_many_hung_calls or blocks_suspects) and not self._draining:
                self._boot.send("retiring", reason=f"calls of the storage {writer.name} hang")
                self._drain()
        self._status.set_away(
            {
                place: self._writers[name].away_reason
                for place, name in enumerate(sorted(self._writers))
                if self._writers[name].is_away
            }
        )


def _cancel(item: Item) -> None:
    """Set the outcome of an item that an operator has cancelled."""
    item.outcome = ChainOutcome(OutcomeKind.CANCELLED, "cancelled by an operator")

"""A worker: the keeper, its main thread, that owns the Redis connection, the pipes and the page.

1. Lets the intake claim, takes back what chain threads and writers have finished, and lets the
   outbox settle it.
2. Gives back what was claimed and not begun for a second: it sits on nothing that another could
   take.
3. Waits without losing anything: until a thread, the coordinator's bell, an order or the next duty
   wakes it.
4. Stamps its page at least once a second, whatever Redis, a link or a storage does; it runs no link
   itself.
5. Ends when told (drain), when its registration is void, and when its supervisor is gone.
"""

from __future__ import annotations

import gc
import os
import random
import select
import sys
import time
from collections import deque

from redis.exceptions import ResponseError

from conserver import failpoints
from conserver.errors import EXIT_UNAVAILABLE, BootError
from conserver.plugins import loader as plugins
from conserver.process.boot import Boot
from conserver.process.messages import receive
from conserver.process.shared_status import Phase, State
from conserver.queue import calls
from conserver.queue.retrying_connection import RetryingConnection
from conserver.telemetry import log
from conserver.worker import memory
from conserver.worker.chain import ChainRunner, Checkpoint
from conserver.worker.documents import Documents
from conserver.worker.intake import Intake
from conserver.worker.item import ChainOutcome, Item
from conserver.worker.outbox import Outbox
from conserver.worker.outcomes import OutcomeHandler
from conserver.worker.pool import Backlog, ChainPool
from conserver.worker.routes import Routes
from conserver.worker.writers import Report, Writer

SWITCH_INTERVAL_S = 0.0002  # beside busy threads the keeper would wait 5 ms for its turn otherwise
STAMP_S = 1.0
UNBEGUN_S = 1.0
GATHER_MS = 3
STRAYS_EVERY_S = 60.0
# An item is some twenty objects that live for milliseconds and form no cycles: looking for cycles
# every 700 allocations, as is the default, costs a tenth of an item.
GC_THRESHOLDS = (50_000, 20, 20)


class SupervisorGone(Exception):
    """The lifeline has ended: nobody is left to answer to."""


def main(boot: Boot) -> int:
    """Run a worker until it is told to end. Raises BootError when it cannot start."""
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    gc.set_threshold(*GC_THRESHOLDS)
    memory.use_one_arena()
    loaded = plugins.load(boot.config)
    loaded.prepare()
    loop = WorkerLoop(boot, loaded)
    loop.connect()
    boot.send("ready")
    try:
        return loop.run()
    except SupervisorGone:
        loop.abandon()
        return 0


class WorkerInbox:
    """What other threads tell the keeper, and the bell that wakes it."""

    def __init__(self) -> None:
        self._fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.asleep = False
        self.rung = False
        self.reports: deque[Report] = deque()
        self.checkpoints: deque[tuple[Item, Checkpoint]] = deque()

    def fileno(self) -> int:
        """Readable when somebody rang."""
        return self._fd

    def ring(self) -> None:
        """Wake the keeper. A system call only if it sleeps: else it sees `rung` before it does."""
        self.rung = True
        if self.asleep:
            os.eventfd_write(self._fd, 1)

    def report(self, report: Report) -> None:
        """A writer's answers."""
        self.reports.append(report)
        self.ring()

    def clear(self) -> None:
        """Forget the ringing."""
        try:
            os.eventfd_read(self._fd)
        except BlockingIOError:
            return


class WorkerLoop:
    """The main thread of a worker."""

    def __init__(self, boot: Boot, loaded: plugins.Plugins) -> None:
        self._boot = boot
        self._settings = boot.settings
        self._status = boot.status
        self._log = log.get_logger()
        self._inbox = WorkerInbox()
        self._poll = self._sources()
        self._line = RetryingConnection(
            boot.settings.redis_url.get_secret_value(), self._tick, self._log
        )
        writers = {
            name: Writer(storage, self._inbox.report) for name, storage in loaded.storages.items()
        }
        self._writers = writers
        routes = Routes(boot.config, loaded, boot.settings.max_document_bytes)
        threads = boot.settings.vcon_concurrency
        caps = {r.name: min(threads, r.config.concurrency or threads) for r in routes.all}
        self._cancelled: set[str] = set()
        runner = ChainRunner(
            self._status, self._checkpoint, lambda item: item.token in self._cancelled
        )
        backlog = Backlog(caps, self._inbox.ring)
        self._pool = ChainPool(threads, backlog, runner, self._inbox.ring)
        self._documents = Documents(
            self._line, self._status, writers, boot.settings.max_document_bytes
        )
        self._intake = Intake(boot, routes, self._line, self._pool, self._documents)
        self._outbox = Outbox(
            boot.consumer,
            self._line,
            self._status,
            boot.settings.dlq_expiry_s,
            restart=lambda item: backlog.put([item]),
            ended=self._intake.forget,
            look_up=self._documents.look_up,
        )
        self._settling = OutcomeHandler(self._outbox, self._status, boot.settings, writers)
        self._draining = False
        self._watched_s = 0.0
        self._strays_at_s = time.monotonic() + STRAYS_EVERY_S * random.uniform(0.5, 1.0)

    def _sources(self) -> select.poll:
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

    # ---- its life --------------------------------------------------------------------------------

    def connect(self) -> None:
        """Reach Redis once, within the boot timeout. Raises BootError."""
        deadline_s = time.monotonic() + self._settings.boot_timeout_s

        def tick() -> None:
            self._tick()
            if time.monotonic() > deadline_s:
                raise BootError(
                    "Redis did not answer: is REDIS_URL right, and is it up?", EXIT_UNAVAILABLE
                )

        line = RetryingConnection(self._settings.redis_url.get_secret_value(), tick, self._log)
        line.command("PING")
        line.close()

    def run(self) -> int:
        """Work until drained or void. Answers the exit code."""
        self._pool.start()
        self._status.state = State.IDLE
        ready = {self._boot.supervisor.fileno()}
        while True:
            self._status.beat()
            self._look_at_orders(ready)
            self._collect()
            self._outbox.flush()
            self._settling.flush()
            if self._draining:
                if not self._intake.held:
                    return 0
            elif not self._intake.claim(self._settling):
                return 0
            self._settling.flush()  # what came back with nothing but storages owed
            self._watch()
            ready = self._wait()

    def abandon(self) -> None:
        """The supervisor is gone: give back what was not begun; the coordinator returns the
        rest."""
        self._log.error("supervisor_gone", what="ending; unfinished items are returned")
        deadline_s = time.monotonic() + 1.0

        def tick() -> None:
            if time.monotonic() > deadline_s:
                raise SupervisorGone

        line = RetryingConnection(self._settings.redis_url.get_secret_value(), tick, self._log)
        unbegun = self._pool.backlog.take_back(float("inf"))
        moves = [calls.Move(item.token, item.claimed.epoch) for item in unbegun]
        try:
            if moves:
                line.call(calls.release(self._boot.consumer, moves))
        except SupervisorGone:
            return

    def _tick(self) -> None:
        """Called at least once a second, also while Redis is waited for."""
        self._status.beat()
        for fd, _events in self._poll.poll(0):
            if fd == self._boot.lifeline:
                raise SupervisorGone

    def _look_at_orders(self, ready: set[int]) -> None:
        """Hear what came in at the descriptors that are ready."""
        boot = self._boot
        if boot.lifeline in ready:
            raise SupervisorGone
        orders = receive(boot.supervisor) if boot.supervisor.fileno() in ready else []
        if any(message.get("type") == "drain" for message in orders):
            self._drain()
        if boot.stop is not None and (boot.stop.requested or boot.stop.fileno() in ready):
            boot.stop.clear()
            if boot.stop.requested:
                self._drain()
        if boot.coordinator is not None and boot.coordinator.fileno() in ready:
            self._intake.hear_the_bell()
        if self._draining:
            self._release_unstarted(float("inf"), "shutdown")

    def _release_unstarted(self, since_s: float, reason: str) -> None:
        """Release what has waited for a thread since then, but for what has been cancelled."""
        items = []
        for item in self._pool.backlog.take_back(since_s):
            if item.token in self._cancelled:
                self._settling.finished(_cancelled(item))
            else:
                items.append(item)
        self._outbox.release(items, reason)

    def _drain(self) -> None:
        """From now on nothing is claimed; the end comes when nothing is held."""
        if not self._draining:
            self._draining = True
            self._status.state = State.DRAINING
            running = self._pool.backlog.running
            self._log.info("draining", held=len(self._intake.held), running=running)

    def _collect(self) -> None:
        """Take what threads have finished since the last look."""
        inbox = self._inbox
        while inbox.checkpoints:
            self._settling.checkpoint(*inbox.checkpoints.popleft())
        for item in self._pool.collect():
            self._intake.meter.add(item.route.name, item.links_s)
            comes_again = item.outcome is not None and item.outcome.kind in ("retry", "failed")
            if comes_again and item.token in self._cancelled:
                _cancelled(item)
            self._settling.finished(item)
        while inbox.reports:
            report = inbox.reports.popleft()
            if report.looked_up is not None:
                self._documents.looked_up(report)
            else:
                self._settling.reported(report)

    def _watch(self) -> None:
        """Duties of every second or minute."""
        now_s = time.monotonic()
        if now_s - self._watched_s < STAMP_S:
            return
        self._watched_s = now_s
        for writer in self._writers.values():
            writer.watch()
            # Suspects run where nothing else does: not in a process with a call that hangs.
            spent = writer.is_spent or (writer.hangs and self._intake.suspects_wait)
            if spent and not self._draining:
                self._boot.send("retiring", reason=f"calls of the storage {writer.name} hang")
                self._drain()
        self._status.set_memory(memory.resident_bytes())
        self._status.set_away(
            place for place, name in enumerate(sorted(self._writers)) if self._writers[name].is_away
        )
        if self._intake.held:
            self._look_for_cancelled()
        if self._draining:
            return
        if not self._intake.held:
            if self._status.state is not State.IDLE:
                memory.trim_heap()
            self._status.state = State.IDLE
        self._release_unstarted(now_s - UNBEGUN_S, "not begun for a second")
        if now_s >= self._strays_at_s:
            self._strays_at_s = now_s + STRAYS_EVERY_S * random.uniform(0.8, 1.2)
            call = calls.stray(self._boot.consumer, self._intake.claims, list(self._intake.held))
            strays = 0
            while some := self._line.call(call):
                strays += some
            if strays:
                self._log.warning(
                    "strays_returned", count=strays, what="Redis knew of items that we do not"
                )

    def _look_for_cancelled(self) -> None:
        key = f"conserver:cancelled:{self._boot.consumer}"
        try:
            named = self._line.command("SMEMBERS", key)
        except ResponseError:
            self._intake.complaints.tell(key, self._line.command("TYPE", key).decode())
            return
        self._cancelled = {token.decode() for token in named} & self._intake.held.keys()

    def _wait(self) -> set[int]:
        """Sleep until something happens, at most until the next duty. Answers what is ready."""
        inbox, now_s = self._inbox, time.monotonic()
        wait_s = STAMP_S
        if not self._draining:
            claim_s = self._intake.next_claim_s(now_s)
            wait_s = wait_s if claim_s is None else min(wait_s, claim_s)
        wakeups = self._intake.wakeups
        flush_s = wakeups.due_in_s(now_s)
        if flush_s and self._intake.held:
            wait_s = min(wait_s, flush_s)
        elif flush_s is not None:
            wakeups.flush()
        inbox.asleep = True
        if inbox.rung or self._pool.waiting or self._outbox.waiting:
            wait_s = 0.0
        ready = {fd for fd, _ in self._poll.poll(wait_s * 1000 + (0.5 if wait_s else 0))}
        if inbox.fileno() in ready:
            inbox.clear()
            quick = self._intake.meter.is_quick(GATHER_MS / 1000)
            if quick and self._pool.backlog and not inbox.reports and not inbox.checkpoints:
                # A batch is at work and its first item is done: let some more join it.
                ready |= {fd for fd, _ in self._poll.poll(GATHER_MS)}
        inbox.asleep = inbox.rung = False
        return ready

    def _checkpoint(self, item: Item) -> None:
        """Called in a chain thread: blocks it until the keeper has written the item."""
        item.pack()
        failpoints.at("before-checkpoint")
        checkpoint = Checkpoint()
        self._status.set_phase(item.slot, Phase.PAUSED)
        self._inbox.checkpoints.append((item, checkpoint))
        self._inbox.ring()
        checkpoint.done.wait()
        self._status.set_phase(item.slot, Phase.RUNNING)
        if checkpoint.error is not None:
            raise checkpoint.error
        failpoints.at("after-checkpoint")


def _cancelled(item: Item) -> Item:
    """The item, which ends here: what would come again may not."""
    item.outcome = ChainOutcome("cancelled", "cancelled by an operator")
    return item

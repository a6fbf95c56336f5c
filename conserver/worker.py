"""A worker: the keeper that owns its Redis connection, its pipes and its page.

1. Claims what its chains can finish soon, and hands it to the chain threads.
2. Takes back what they and the storages' writers have finished, and lets the outbox settle it.
3. Gives back what it has claimed and not begun for a second: it sits on nothing that another could take.
4. Waits without losing anything: it tells the steward that it is idle and looks again when rung, or after TICK_INTERVAL.
5. Stamps its page at least once a second, whatever Redis, a link or a storage does; it runs no link itself.
6. Ends when told (drain), when its registration is void, and when its supervisor is gone.
"""

from __future__ import annotations

import os
import random
import select
import sys
import time
from collections import deque
from collections.abc import Iterable

from redis.exceptions import ResponseError

from conserver import log, plugins
from conserver.boot import Boot, receive
from conserver.chain import ChainRunner
from conserver.errors import EXIT_UNAVAILABLE, BootError
from conserver.item import Item
from conserver.outbox import Checkpoint, Outbox
from conserver.page import ITEMS_MAX, State
from conserver.pool import Backlog, ChainPool, RateMeter
from conserver.queue import calls
from conserver.queue.line import Line
from conserver.queue.record import Claimed, Progress
from conserver.routes import Routes
from conserver.vcon import usable_uuid
from conserver.writers import Report, Writer

SWITCH_INTERVAL_S = 0.0005
STAMP_S = 1.0
UNBEGUN_S = 1.0
GATHER_S = 0.003
STRAYS_EVERY_S = 60.0
HELD_BYTES = 64 * 1024 * 1024


class SupervisorGone(Exception):
    """The lifeline has ended: nobody is left to answer to."""


def main(boot: Boot) -> int:
    """Run a worker until it is told to end. Raises BootError when it cannot start."""
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    loaded = plugins.load(boot.config)
    loaded.prepare()
    keeper = Keeper(boot, loaded)
    keeper.connect()
    boot.tell("ready")
    try:
        return keeper.run()
    except SupervisorGone:
        keeper.abandon()
        return 0


class Inbox:
    """What other threads tell the keeper, and the bell that wakes it."""

    def __init__(self) -> None:
        self._fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.reports: deque[Report] = deque()
        self.checkpoints: deque[tuple[Item, Checkpoint]] = deque()

    def fileno(self) -> int:
        """Readable when somebody rang."""
        return self._fd

    def ring(self) -> None:
        """Wake the keeper."""
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


class Keeper:
    """The main thread of a worker."""

    def __init__(self, boot: Boot, loaded: plugins.Plugins) -> None:
        self._boot = boot
        self._settings = boot.settings
        self._page = boot.page
        self._log = log.get_logger()
        self._routes = Routes(boot.config, loaded)
        self._inbox = Inbox()
        self._line = Line(boot.settings.redis_url.get_secret_value(), self._tick, self._log)
        self._writers = {
            name: Writer(storage, self._inbox.report) for name, storage in loaded.storages.items()
        }
        threads = boot.settings.vcon_concurrency
        caps = {r.name: min(threads, r.config.concurrency or threads) for r in self._routes.all}
        self._threads = threads
        runner = ChainRunner(self._page, self._checkpoint, lambda _item: False)
        self._pool = ChainPool(threads, Backlog(caps, self._inbox.ring), runner, self._inbox.ring)
        self._meter = RateMeter()
        self._outbox = Outbox(
            boot.consumer, self._line, self._page, boot.settings, self._writers,
            restart=self._restart, ended=self._forget,
        )
        self._held: dict[str, Item] = {}
        self._held_bytes = 0
        self._slots = list(range(ITEMS_MAX))
        self._claims = 0
        self._suspect: Item | None = None
        self._draining = False
        self._emptying_until_s = 0.0
        self._claim_at_s = 0.0
        self._sated = False
        self._wants_bell = False
        self._broken: dict[str, float] = {}
        self._stamped_s = 0.0
        self._strays_at_s = time.monotonic() + STRAYS_EVERY_S * random.uniform(0.5, 1.0)
        self._watched_s = 0.0
        self._limits = calls.ClaimLimits(
            payload_bytes=boot.settings.max_payload_bytes, parked_cap=boot.settings.parked_cap
        )
        self._poll = select.poll()
        for source in (self._inbox.fileno(), boot.orders.fileno(), boot.lifeline):
            self._poll.register(source, select.POLLIN)
        if boot.stop is not None:
            self._poll.register(boot.stop.fileno(), select.POLLIN)
        if boot.steward is not None:
            self._poll.register(boot.steward.fileno(), select.POLLIN)

    # ---- its life ----------------------------------------------------------------------------------------------------

    def connect(self) -> None:
        """Reach Redis once, within the boot timeout. Raises BootError."""
        deadline_s = time.monotonic() + self._settings.boot_timeout_s

        def tick() -> None:
            self._tick()
            if time.monotonic() > deadline_s:
                raise BootError("Redis did not answer: is REDIS_URL right, and is it up?", EXIT_UNAVAILABLE)

        line = Line(self._settings.redis_url.get_secret_value(), tick, self._log)
        line.command("PING")
        line.close()

    def run(self) -> int:
        """Work until drained. Answers the exit code."""
        self._pool.start()
        self._page.state = State.IDLE
        while True:
            self._tick()
            self._look_at_orders()
            self._collect()
            self._outbox.flush()
            if self._draining and not self._held:
                return 0
            if self._may_claim() and not self._claim():
                return 0
            self._watch()
            self._wait()

    def abandon(self) -> None:
        """The supervisor is gone: give back what was not begun; the steward returns the rest."""
        self._log.error("the supervisor is gone", what="ending; unfinished items are returned")
        deadline_s = time.monotonic() + 1.0

        def tick() -> None:
            if time.monotonic() > deadline_s:
                raise SupervisorGone

        line = Line(self._settings.redis_url.get_secret_value(), tick, self._log)
        unbegun = self._pool.backlog.take_back(float("inf"))
        moves = [calls.Move(item.token, item.claimed.epoch) for item in unbegun]
        try:
            if moves:
                line.call(calls.release(self._boot.consumer, moves))
        except SupervisorGone:
            return

    def _tick(self) -> None:
        """Called at least once a second, also while Redis is waited for."""
        self._page.beat()
        self._stamped_s = time.monotonic()
        ready = dict(self._poll.poll(0))
        if ready.get(self._boot.lifeline):
            raise SupervisorGone

    def _look_at_orders(self) -> None:
        stop = self._boot.stop
        if stop is not None:
            stop.clear()
        drain = stop is not None and stop.requested
        for message in receive(self._boot.orders):
            drain = drain or message.get("type") == "drain"
        if drain and not self._draining:
            self._draining = True
            self._page.state = State.DRAINING
            self._log.info("draining", held=len(self._held), running=self._pool.backlog.running)
        if self._draining:
            self._outbox.release(self._pool.backlog.take_back(float("inf")), "shutdown")

    def _wait(self) -> None:
        """Sleep until something happens, at most until the next duty."""
        now_s = time.monotonic()
        wait_s = STAMP_S
        if self._pool.waiting or self._outbox.waiting:
            wait_s = 0.0
        elif not self._draining and self._suspect is None and not self._sated:
            wait_s = min(wait_s, max(self._claim_at_s - now_s, 0.0))
        ready = self._poll.poll(wait_s * 1000 + (0.5 if wait_s else 0))
        sources = {fd for fd, _ in ready}
        if self._inbox.fileno() in sources:
            self._inbox.clear()
            if self._pool.backlog and not self._inbox.reports and not self._inbox.checkpoints:
                # A batch is at work and its first item is done: let some more join it.
                self._poll.poll(GATHER_S * 1000)
        if self._boot.steward is not None and self._boot.steward.fileno() in sources:
            self._hear_the_bell()

    def _watch(self) -> None:
        """Duties of every second or minute."""
        now_s = time.monotonic()
        if now_s - self._watched_s < STAMP_S:
            return
        self._watched_s = now_s
        for writer in self._writers.values():
            writer.watch()
        self._page.tell_memory(_resident_bytes())
        if not self._draining:
            stale = self._pool.backlog.take_back(now_s - UNBEGUN_S)
            if stale:
                self._outbox.release(stale, "not begun for a second")
        if now_s >= self._strays_at_s:
            self._strays_at_s = now_s + STRAYS_EVERY_S * random.uniform(0.8, 1.2)
            strays = self._line.call(calls.stray(self._boot.consumer, self._claims, list(self._held)))
            if strays:
                self._log.warning("strays returned", count=strays, what="Redis knew of items that we do not")

    # ---- claiming ----------------------------------------------------------------------------------------------------

    def _may_claim(self) -> bool:
        if self._draining or self._suspect is not None or not self._slots:
            return False
        if self._held_bytes >= HELD_BYTES:
            return False
        return not (self._held and time.monotonic() < self._emptying_until_s)

    def _claim(self) -> bool:
        """Take new items. False: the registration is void, and this worker has to end."""
        demands = self._demands()
        self._sated = not demands
        if self._wants_bell and demands and time.monotonic() < self._claim_at_s:
            self._wants_bell = False
            self._tell_steward(b"I")
        if self._sated or time.monotonic() < self._claim_at_s:
            return True
        self._claims += 1
        limits = self._limits._replace(most=min(len(self._slots), max(d.most for d in demands)))
        call = calls.claim(
            self._boot.host, self._boot.consumer, self._claims, not self._held, demands, limits
        )
        claim = calls.read_claim(self._line.call(call))
        if claim.void:
            self._log.warning("registration is void", what="ending; a replacement takes over")
            self._boot.tell("void")
            return False
        for key, kind in claim.broken:
            self._complain(key, kind)
        if claim.items:
            self._admit(claim.items)
        self._schedule(claim, everywhere=len(demands) == len(self._routes.lists))
        return True

    def _demands(self) -> list[calls.Demand]:
        """What each list may give: what the threads finish in about 100 ms, less what waits for them already."""
        backlog, threads = self._pool.backlog, self._threads
        waiting, free, idle = len(backlog), len(self._slots), backlog.idle_threads
        if not idle and self._pool.is_stuck():
            return []
        demands = []
        for name, route in self._routes.in_order():
            most = max(self._meter.most(route.name, threads), idle)
            if waiting * 2 > most or (not idle and most <= threads):
                continue  # enough is waiting, or items take longer than that and every thread has one
            if free < min(most, 32) and len(self._held) > waiting:
                continue  # many small claims would cost more than they bring
            demands.append(calls.Demand(name, min(most, free), route.config.max_deliveries))
        return demands

    def _schedule(self, claim: calls.Claim, everywhere: bool) -> None:
        """When to look again, and what the steward should know.

        An answer that left nothing behind is as good as an empty one: the bell takes what comes next. It is asked for as
        soon as there is room again (see _claim).
        """
        now_s = time.monotonic()
        again = bool(claim.items) and (claim.more > 0 or not everywhere)
        self._claim_at_s = now_s if again else now_s + self._settings.tick_interval_ms / 1000
        self._wants_bell = not again
        if claim.items:
            self._emptying_until_s = 0.0
            self._tell_steward(b"M" if claim.more else b"A")
            self._page.state = State.WORKING
        elif not self._held:
            self._page.state = State.IDLE
        if claim.suspects:
            self._tell_steward(b"S")

    def _tell_steward(self, word: bytes) -> None:
        if self._boot.steward is None:
            return
        try:
            self._boot.steward.send(word + self._boot.consumer.encode())
        except (BlockingIOError, ConnectionError):
            return  # the bell is a hint; TICK_INTERVAL is the floor

    def _hear_the_bell(self) -> None:
        assert self._boot.steward is not None
        while True:
            try:
                word = self._boot.steward.recv(64)
            except (BlockingIOError, ConnectionError):
                return
            if word[:1] == b"R":
                self._claim_at_s = 0.0
            elif word[:1] == b"E":
                self._emptying_until_s = time.monotonic() + 5.0
                self._claim_at_s = 0.0
            elif not word:
                return

    def _complain(self, key: str, kind: str) -> None:
        now_s = time.monotonic()
        if now_s >= self._broken.get(key, 0.0):
            self._broken[key] = now_s + 60.0
            self._log.error(
                "a key has the wrong type", key=key, found=kind,
                what="it must be a list; nothing is taken until it is renamed or deleted",
            )

    # ---- items coming in ---------------------------------------------------------------------------------------------

    def _admit(self, claimed: Iterable[Claimed]) -> None:
        ready: list[Item] = []
        now_s = time.monotonic()
        for one in claimed:
            route = self._routes.of(one.list)
            item = Item(one, route, Progress.load(one.state), self._slots.pop(), now_s)
            item.saved = one.state
            self._held[one.token] = item
            self._take_document(item)
            item.size = len(item.text)
            self._held_bytes += item.size
            self._page.hold(item.slot, one.token, one.epoch, item.uuid, route.name)
            if one.suspect and not self._begin(item):
                continue
            if one.what == "missing" and self._look_up(item):
                continue
            if item.progress.owed is not None and item.text:
                self._outbox.resumed(item)
            else:
                ready.append(item)
        if ready:
            self._pool.backlog.put(ready)

    def _take_document(self, item: Item) -> None:
        claimed = item.claimed
        if claimed.what == "inline":
            item.text, item.unsaved = claimed.payload, True
            return
        item.uuid = claimed.payload.decode("utf-8", "replace")
        item.text, item.revision = claimed.text, claimed.revision
        if claimed.what == "large":
            self._read_large(item)

    def _read_large(self, item: Item) -> None:
        key = f"vcon:{item.uuid}"
        try:
            if self._line.command("STRLEN", key) > self._settings.max_document_bytes:
                item.claimed.what = "oversized"
            else:
                item.text = self._line.command("GET", key) or b""
        except ResponseError:
            item.claimed.what = "type:" + self._line.command("TYPE", key).decode()

    def _begin(self, item: Item) -> bool:
        """Mark a suspect as begun: from here on its worker's death counts."""
        self._suspect = item
        self._log.warning("running a suspect alone", **item.fields(), deliveries=item.claimed.deliveries)
        if self._line.call(calls.begin(self._boot.consumer, item.token, item.claimed.epoch)):
            return True
        self._forget(item)
        return False

    def _look_up(self, item: Item) -> bool:
        """Search the chain's storages for a document that Redis does not have."""
        if not item.route.storages or not usable_uuid(item.uuid):
            return False
        item.waiting = set(item.route.storages)
        self._writers[item.route.storages[0]].look_up(item)
        return True

    def _looked_up(self, report: Report) -> None:
        item = report.looked_up
        assert item is not None
        item.waiting.discard(report.storage)
        if report.found:
            item.text, item.unsaved, item.claimed.what = report.found, True, "restored"
            item.waiting.clear()
            self._log.info("restored from a storage", **item.fields(), storage=report.storage)
        left = [name for name in item.route.storages if name in item.waiting]
        if left:
            self._writers[left[0]].look_up(item)
        else:
            self._pool.backlog.put([item])

    def _restart(self, item: Item) -> None:
        self._pool.backlog.put([item])

    def _checkpoint(self, item: Item) -> None:
        """Called in a chain thread: blocks it until the keeper has written the item."""
        checkpoint = Checkpoint()
        self._page.pause(item.slot)
        self._inbox.checkpoints.append((item, checkpoint))
        self._inbox.ring()
        checkpoint.done.wait()
        self._page.resume(item.slot)
        if checkpoint.error is not None:
            raise checkpoint.error

    # ---- items going out ---------------------------------------------------------------------------------------------

    def _collect(self) -> None:
        inbox = self._inbox
        while inbox.checkpoints:
            self._outbox.checkpoint(*inbox.checkpoints.popleft())
        for item in self._pool.collect():
            self._meter.add(item.route.name, item.links_s)
            self._outbox.finished(item)
        while inbox.reports:
            report = inbox.reports.popleft()
            if report.looked_up is not None:
                self._looked_up(report)
            else:
                self._outbox.reported(report)

    def _forget(self, item: Item) -> None:
        """The item has left this worker."""
        if self._held.pop(item.token, None) is None:
            return
        self._held_bytes -= item.size
        self._page.free(item.slot)
        self._slots.append(item.slot)
        if item is self._suspect:
            self._suspect = None
            self._claim_at_s = 0.0


def _resident_bytes() -> int:
    with open("/proc/self/statm", "rb") as file:
        return int(file.read().split()[1]) * _PAGE_BYTES


_PAGE_BYTES: int = os.sysconf("SC_PAGE_SIZE")

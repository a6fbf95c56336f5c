"""A worker's intake: how much it claims and when, and what it holds.

1. Claims per list what the chain threads can finish in about 100 ms, at most 256 items and 64 MiB
   in one worker.
2. Knows what the worker holds, and gives each item its slot on the page.
3. Hands items, once they have their documents, to the chain threads, or straight to the storages.
4. Runs suspects alone: one at a time, marked begun before it runs, and nothing else claimed
   meanwhile.
5. Tells the coordinator how a claim went, and hears its bell. An answer that left nothing behind
   is as
   good as an empty one: the bell takes what comes next, so an idle system makes no empty claims.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial

from conserver import failpoints
from conserver.process import wakeup
from conserver.process.boot import Boot
from conserver.process.shared_status import ITEMS_MAX, State
from conserver.process.wakeup import WakeupSender
from conserver.queue import calls
from conserver.queue.record import Claimed, Progress
from conserver.queue.retrying_connection import RetryingConnection
from conserver.queue.wrong_type import Complaints
from conserver.telemetry import log
from conserver.worker.documents import Documents
from conserver.worker.item import ChainOutcome, Item, shorten
from conserver.worker.outbox import TOLD_OF_DEAD
from conserver.worker.outcomes import OutcomeHandler
from conserver.worker.pool import Backlog, ChainPool, RateMeter
from conserver.worker.routes import Routes

HELD_BYTES_MAX = 64 * 1024 * 1024
EMPTYING_S = 5.0
SMALL_CLAIM = 32
"""Below so many free places a busy worker waits for more of them: many small claims cost more than
they bring.
"""


class Intake:
    """Used by the keeper's thread alone."""

    def __init__(
        self,
        boot: Boot,
        routes: Routes,
        line: RetryingConnection,
        pool: ChainPool,
        documents: Documents,
    ) -> None:
        self._boot = boot
        self._settings = boot.settings
        self._threads = boot.settings.vcon_concurrency
        self._status = boot.status
        self._routes = routes
        self._line = line
        self._pool = pool
        self._backlog: Backlog = pool.backlog
        self._documents = documents
        self._log = log.get_logger()
        self.meter = RateMeter()
        self.held: dict[str, Item] = {}
        self.claims = 0
        self.suspects_wait = False  # as the last claim told
        self._bytes = 0
        self._slots = list(range(ITEMS_MAX))
        self._suspect: Item | None = None
        self._claim_at_s = 0.0
        self._sated = False
        self._wants_bell = False
        self._rung = False  # and has not said yet what came of it
        self.wakeups = WakeupSender(boot.coordinator)
        self._asked: frozenset[str] = frozenset()  # the chains that the last claim was for
        self._emptying_until_s = 0.0
        self.complaints = Complaints(self._log)
        self._limits = calls.ClaimLimits(
            etags=int(any(route.storages for route in routes.all)),
            payload_bytes=self._settings.max_payload_bytes,
            parked_cap=self._settings.parked_cap,
        )

    # ---- claiming --------------------------------------------------------------------------------

    def claim(self, settling: OutcomeHandler) -> bool:
        """Take what there is room for, if it is time; what has no link left to run goes to
        `settling`.

        False: the registration is void, this worker has to end.
        """
        if self._is_full():
            self._sated = True
            self._decline()
            return True
        due = time.monotonic() >= self._claim_at_s
        offers = self._wants_bell and self._backlog.idle_threads > 0
        if not (due or self._sated or offers or self._left_out):
            return True
        rooms = self._rooms()
        self._sated = not rooms
        if not due and rooms.keys() <= self._asked:
            self._offer()
            return True
        if not rooms:
            self._decline()
            return True
        return self._claim(rooms, settling)

    def _claim(self, rooms: dict[str, int], settling: OutcomeHandler) -> bool:
        self._asked = frozenset(rooms)
        self.claims += 1
        demands = self._demands(rooms)
        limits = self._limits._replace(
            most=min(calls.BATCH_ITEMS, max(rooms.values())),
            most_bytes=min(calls.BATCH_BYTES, HELD_BYTES_MAX - self._bytes),
        )
        # A call that hangs may be what kills this process: beside it no suspect is alone.
        empty = not self.held and not self._documents.calls_hang
        host, consumer = self._boot.host, self._boot.consumer
        call = calls.claim(host, consumer, self.claims, empty, demands, limits, known=self.held)
        claim = calls.read_claim(self._line.call(call))
        if claim.void:
            self._log.warning("registration_void", what="ending; a replacement takes over")
            self._boot.send("void")
            return False
        for key, kind in claim.broken:
            self.complaints.tell(key, kind)
        for buried in claim.buried:
            self._tell_of_dead(buried)
        if claim.items:
            self._admit(claim.items, settling)
        self._schedule(claim)
        return True

    def next_claim_s(self, now_s: float) -> float | None:
        """Seconds until the next claim is due; None: only an item that ends makes room for one."""
        return None if self._sated else max(self._claim_at_s - now_s, 0.0)

    def _is_full(self) -> bool:
        if self._suspect is not None or not self._slots or self._bytes >= HELD_BYTES_MAX:
            return True
        return bool(self.held) and time.monotonic() < self._emptying_until_s

    @property
    def _left_out(self) -> bool:
        """Whether the last claim was not for all lists."""
        return len(self._asked) < len(self._routes.all)

    def _rooms(self) -> dict[str, int]:
        """Chain -> how many of its items may come now, for those that have room: what the threads
        finish in about 100 ms, less what waits for them already.
        """
        backlog, stuck = self._backlog, self._pool.stuck()
        waiting, free, idle = len(backlog), len(self._slots), backlog.idle_threads
        rooms = {}
        for name, threads in backlog.caps.items():
            most = self.meter.most(name, threads)
            able = min(idle, threads - backlog.at_work[name]) if idle else 0
            if able > 0:
                most = max(most, able)
                ahead = backlog.waiting(name)  # what else waits is held back by its chain's cap
            elif most <= threads or len(stuck) == self._threads or stuck.count(name) >= threads:
                # Items take longer than that, and every thread has one.
                continue
            else:
                ahead = waiting
            if ahead * 2 > most:
                continue
            if free < min(most, SMALL_CLAIM) and len(self.held) > waiting:
                continue
            rooms[name] = min(most, free)
        return rooms

    def _demands(self, rooms: dict[str, int]) -> list[calls.Demand]:
        """What each list may give."""
        return [
            calls.Demand(name, rooms[route.name], route.config.max_deliveries)
            for name, route in self._routes.in_order()
            if route.name in rooms
        ]

    def _decline(self) -> None:
        """Rung, and no room for anything: another worker shall come."""
        if self._rung:
            self._rung = False
            self._wants_bell = True
            self._tell_coordinator(wakeup.BUSY)

    def _schedule(self, claim: calls.Claim) -> None:
        """When to look again, and what the coordinator should know."""
        now_s = time.monotonic()
        again = claim.more > 0
        self._claim_at_s = now_s if again else now_s + self._settings.tick_interval_ms / 1000
        self._wants_bell = not again
        if claim.items:
            self._emptying_until_s = 0.0
            self._status.state = State.WORKING
        self.suspects_wait = claim.suspects > 0
        if claim.suspects:
            self._tell_coordinator(wakeup.SUSPECTS)
        self._rung = False
        if not self._offer():
            self._tell_coordinator(wakeup.BUSY)

    def _offer(self) -> bool:
        """Report an idle thread, once after each claim that left nothing behind: the coordinator
        wakes this worker for what comes next. False: no thread is idle, or items wait.
        """
        if self._wants_bell and self._backlog.idle_threads:
            self._wants_bell = False
            self._tell_coordinator(wakeup.IDLE)
            return True
        return False

    def _tell_of_dead(self, buried: calls.DeadLettered) -> None:
        """An item that must not run was made a dead letter by the claim itself."""
        why = buried.why
        fields = {name: why[name] for name in (*TOLD_OF_DEAD, "deliveries") if name in why}
        self._log.error(
            "dead_letter",
            vcon=shorten(buried.payload),
            chain=self._routes.of(why["list"]).name,
            list=why["list"],
            **fields,
        )
        self._status.count(failed=1)

    # ---- the coordinator's bell
    # ----------------------------------------------------------------------

    def _tell_coordinator(self, word: bytes) -> None:
        self.wakeups.send_later(word, time.monotonic())

    def hear_the_bell(self) -> None:
        """Read what the coordinator says: look for work, or run empty for a suspect."""
        assert self._boot.coordinator is not None
        while True:
            try:
                word = self._boot.coordinator.recv(64)
            except (BlockingIOError, ConnectionError):
                return
            if not word:
                return
            self._claim_at_s = 0.0
            if wakeup.WAKE in word:
                self._rung = True
                self.wakeups.woken()
            if wakeup.EMPTY in word:
                self._emptying_until_s = time.monotonic() + EMPTYING_S

    # ---- items coming in and going out -----------------------------------------------------------

    def _admit(self, claimed: Sequence[Claimed], settling: OutcomeHandler) -> None:
        now_s = time.monotonic()
        items: list[Item] = []
        for one in claimed:
            item = self._as_item(one, now_s)
            if one.replaced:
                # What its record calls done is not in the document that is there now.
                self._log.info("started_anew", **item.fields(), reason="its document was replaced")
                item.begin_anew()
            self.held[one.token] = item
            self._status.hold(item.slot, one.token, one.epoch, item.uuid, item.route.name)
            if item.outcome is not None:
                settling.finished(item)
                continue
            # Before anything is done with it: what kills its worker must be on the page, and a
            # suspect must have begun.
            if not one.suspect or self._begin(item):
                items.append(item)
        self._documents.read(items)
        failpoints.at("read")
        ready: list[Item] = []
        for item in items:
            self._weigh(item)
            missing = item.claimed.what == "missing"
            if missing and self._documents.look_up(item, partial(self._restore, item, settling)):
                continue
            if self._may_resume(item):
                settling.resumed(item)
            else:
                ready.append(item)
        if ready:
            self._backlog.put(ready)

    def _as_item(self, one: Claimed, now_s: float) -> Item:
        """What was claimed, in a place of its own; rejected if its record says what none of ours
        does: no worker must end over it, one after the other.
        """
        item = Item(one, self._routes.of(one.list), Progress(), self._slots.pop(), now_s)
        if one.what != "inline":
            item.uuid = one.payload.decode("utf-8", "replace")
        try:
            item.progress, item.saved = Progress.load(one.state), one.state
        except ValueError as error:
            state = one.state[:200].decode("utf-8", "replace")
            reason = f"what its record says was done for it cannot be read: {error}: {state}"
            item.outcome = ChainOutcome("rejected", reason)
        return item

    def _may_resume(self, item: Item) -> bool:
        """Whether nothing but storages is owed: all links of the chain as it is now are done."""
        progress, route = item.progress, item.route
        if progress.owed is None or item.claimed.what not in ("text", "stored") or not item.text:
            return False
        if tuple(progress.links) != route.names:
            return False
        progress.owed = [name for name in progress.owed if name in route.storages]
        return True

    def _weigh(self, item: Item) -> None:
        """Count the document's bytes against the worker's bound."""
        self._bytes += len(item.text) - item.size
        item.size = len(item.text)

    def _begin(self, item: Item) -> bool:
        """Mark a suspect as begun: from here on its worker's death counts."""
        self._suspect = item
        self._log.warning("suspect_begun", **item.fields(), deliveries=item.claimed.deliveries)
        if self._line.call(calls.begin(self._boot.consumer, item.token, item.claimed.epoch)):
            return True
        self.forget(item)
        return False

    def forget(self, item: Item) -> None:
        """The item has left this worker."""
        if item.slot < 0:
            return
        if self.held.get(item.token) is item:
            # Another one may have its token: a failover undid this one's claim, and it came again.
            del self.held[item.token]
        self._bytes -= item.size
        self._status.free(item.slot)
        self._slots.append(item.slot)
        item.slot = -1
        if item is self._suspect:
            self._suspect = None
            self._claim_at_s = 0.0

    def _restore(self, item: Item, settling: OutcomeHandler, found: bytes | None) -> None:
        """The storages have been asked for the document of an item that was claimed without it."""
        if found is None:
            settling.wait(item)
        elif found:
            item.text, item.unsaved, item.claimed.what = found, True, "restored"
            item.revision = calls.ABSENT
            self._weigh(item)
            settling.restored(item, lambda _: self._backlog.put([item]))
        else:
            self._backlog.put([item])

"""A worker's intake: how much it claims and when, and how a claimed item gets its document.

1. Claims per list what the chain threads can finish in about 100 ms, at most 256 items and 64 MiB
   in one worker.
2. Knows what the worker holds, and gives each item its slot on the page.
3. Reads documents that an answer does not carry, and has those that Redis lost looked up in the
   storages.
4. Runs suspects alone: one at a time, marked begun before it runs, and nothing else claimed
   meanwhile.
5. Tells the steward how a claim went, and hears its bell. An answer that left nothing behind is as
   good as an empty one: the bell takes what comes next, so an idle system makes no empty claims.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from redis.exceptions import ResponseError

from conserver import log, words
from conserver.boot import Boot
from conserver.item import Item
from conserver.page import ITEMS_MAX, State
from conserver.pool import Backlog, ChainPool, RateMeter
from conserver.queue import calls
from conserver.queue.line import Line
from conserver.queue.record import Claimed, Progress
from conserver.routes import Routes
from conserver.vcon import usable_uuid
from conserver.writers import Report, Writer

HELD_BYTES_MAX = 64 * 1024 * 1024
EMPTYING_S = 5.0
COMPLAIN_EVERY_S = 60.0
SMALL_CLAIM = 32
"""Below so many free places a busy worker waits for more of them: many small claims cost more than
they bring.
"""


class Intake:
    """Used by the keeper's thread alone."""

    def __init__(
        self, boot: Boot, routes: Routes, line: Line, pool: ChainPool, writers: dict[str, Writer]
    ) -> None:
        self._boot = boot
        self._settings = boot.settings
        self._page = boot.page
        self._routes = routes
        self._line = line
        self._pool = pool
        self._backlog: Backlog = pool.backlog
        self._writers = writers
        self._log = log.get_logger()
        self.meter = RateMeter()
        self.held: dict[str, Item] = {}
        self.claims = 0
        self._bytes = 0
        self._slots = list(range(ITEMS_MAX))
        self._suspect: Item | None = None
        self._claim_at_s = 0.0
        self._sated = False
        self._wants_bell = False
        self._emptying_until_s = 0.0
        self._broken: dict[str, float] = {}
        self._limits = calls.ClaimLimits(
            payload_bytes=self._settings.max_payload_bytes, parked_cap=self._settings.parked_cap
        )

    # ---- claiming --------------------------------------------------------------------------------

    def claim(self, resume: Callable[[Item], None]) -> bool:
        """Take what there is room for, if it is time; `resume` gets items whose links are done
        already.

        False: the registration is void, this worker has to end.
        """
        if self._is_full():
            self._sated = True
            return True
        demands = self._demands()
        self._sated = not demands
        if self._sated:
            return True
        if time.monotonic() < self._claim_at_s:
            if self._wants_bell:
                self._wants_bell = False
                self._tell_steward(words.IDLE)
            return True
        self.claims += 1
        limits = self._limits._replace(most=min(len(self._slots), max(d.most for d in demands)))
        call = calls.claim(
            self._boot.host, self._boot.consumer, self.claims, not self.held, demands, limits
        )
        claim = calls.read_claim(self._line.call(call))
        if claim.void:
            self._log.warning("registration_void", what="ending; a replacement takes over")
            self._boot.tell("void")
            return False
        for key, kind in claim.broken:
            self._complain(key, kind)
        if claim.items:
            self._admit(claim.items, resume)
        self._schedule(claim, everywhere=len(demands) == len(self._routes.lists))
        return True

    def next_claim_s(self, now_s: float) -> float | None:
        """Seconds until the next claim is due; None: only an item that ends makes room for one."""
        return None if self._sated else max(self._claim_at_s - now_s, 0.0)

    def _is_full(self) -> bool:
        if self._suspect is not None or not self._slots or self._bytes >= HELD_BYTES_MAX:
            return True
        return bool(self.held) and time.monotonic() < self._emptying_until_s

    def _demands(self) -> list[calls.Demand]:
        """What each list may give: what the threads finish in about 100 ms, less what waits for
        them already.
        """
        backlog, threads = self._backlog, self._settings.vcon_concurrency
        waiting, free, idle = len(backlog), len(self._slots), backlog.idle_threads
        if not idle and self._pool.is_stuck():
            return []
        demands = []
        for name, route in self._routes.in_order():
            most = max(self.meter.most(route.name, threads), idle)
            if waiting * 2 > most or (not idle and most <= threads):
                # enough is waiting, or items take longer than that and every thread has one
                continue
            if free < min(most, SMALL_CLAIM) and len(self.held) > waiting:
                continue
            demands.append(calls.Demand(name, min(most, free), route.config.max_deliveries))
        return demands

    def _schedule(self, claim: calls.Claim, everywhere: bool) -> None:
        """When to look again, and what the steward should know."""
        now_s = time.monotonic()
        again = bool(claim.items) and (claim.more > 0 or not everywhere)
        self._claim_at_s = now_s if again else now_s + self._settings.tick_interval_ms / 1000
        self._wants_bell = not again
        if claim.items:
            self._emptying_until_s = 0.0
            self._tell_steward(words.MORE if claim.more else words.ANSWERED)
            self._page.state = State.WORKING
        if claim.suspects:
            self._tell_steward(words.SUSPECTS)

    def _complain(self, key: str, kind: str) -> None:
        now_s = time.monotonic()
        if now_s >= self._broken.get(key, 0.0):
            self._broken[key] = now_s + COMPLAIN_EVERY_S
            self._log.error(
                "wrong_type",
                key=key,
                found=kind,
                what="it must be a list; nothing is taken until it is renamed or deleted",
            )

    # ---- the steward's bell ----------------------------------------------------------------------

    def _tell_steward(self, word: bytes) -> None:
        if self._boot.steward is None:
            return
        try:
            self._boot.steward.send(word)
        except (BlockingIOError, ConnectionError):
            return  # the bell is a hint; TICK_INTERVAL is the floor

    def hear_the_bell(self) -> None:
        """Read what the steward says: look for work, or run empty for a suspect."""
        assert self._boot.steward is not None
        while True:
            try:
                word = self._boot.steward.recv(64)
            except (BlockingIOError, ConnectionError):
                return
            if not word:
                return
            self._claim_at_s = 0.0
            if words.EMPTY in word:
                self._emptying_until_s = time.monotonic() + EMPTYING_S

    # ---- items coming in and going out -----------------------------------------------------------

    def _admit(self, claimed: Iterable[Claimed], resume: Callable[[Item], None]) -> None:
        ready: list[Item] = []
        now_s = time.monotonic()
        for one in claimed:
            route = self._routes.of(one.list)
            item = Item(
                one, route, Progress.load(one.state), self._slots.pop(), now_s, saved=one.state
            )
            self.held[one.token] = item
            self._take_document(item)
            item.size = len(item.text)
            self._bytes += item.size
            self._page.hold(item.slot, one.token, one.epoch, item.uuid, route.name)
            if one.suspect and not self._begin(item):
                continue
            if one.what == "missing" and self._look_up(item):
                continue
            if item.progress.owed is not None and item.text:
                resume(item)
            else:
                ready.append(item)
        if ready:
            self._backlog.put(ready)

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
        except ResponseError:  # it was replaced by another type since the claim
            item.claimed.what = "type:" + self._line.command("TYPE", key).decode()

    def _begin(self, item: Item) -> bool:
        """Mark a suspect as begun: from here on its worker's death counts."""
        self._suspect = item
        self._log.warning(
            "suspect_begun", **item.fields(), deliveries=item.claimed.deliveries
        )
        if self._line.call(calls.begin(self._boot.consumer, item.token, item.claimed.epoch)):
            return True
        self.forget(item)
        return False

    def forget(self, item: Item) -> None:
        """The item has left this worker."""
        if self.held.pop(item.token, None) is None:
            return
        self._bytes -= item.size
        self._page.free(item.slot)
        self._slots.append(item.slot)
        if item is self._suspect:
            self._suspect = None
            self._claim_at_s = 0.0

    # ---- documents that Redis does not have ------------------------------------------------------

    def _look_up(self, item: Item) -> bool:
        """Search the chain's storages for the document, one after another."""
        if not item.route.storages or not usable_uuid(item.uuid):
            return False
        item.waiting = set(item.route.storages)
        self._writers[item.route.storages[0]].look_up(item)
        return True

    def looked_up(self, report: Report) -> None:
        """A storage has answered a look-up: go on with what it found, or ask the next."""
        item = report.looked_up
        assert item is not None
        item.waiting.discard(report.storage)
        if report.found:
            item.text, item.unsaved, item.claimed.what = report.found, True, "restored"
            item.waiting.clear()
            self._log.info("document_restored", **item.fields(), storage=report.storage)
        left = [name for name in item.route.storages if name in item.waiting]
        if left:
            self._writers[left[0]].look_up(item)
        else:
            self._backlog.put([item])

"""Rates: how often the links of an item may begin, over all workers and hosts.

A chain thread that comes to a link with a rate, and has no slot for it, hands the item back (the
outcome RATE). The worker loop takes slots in Redis for all such items in one call per rate. An item
whose slot is free now goes on at once; another one is parked until its slot, and keeps it. So
nobody waits in a thread. No slot is given that is further away than AHEAD_S (or the next one, if
that is): an item that finds none is parked for about so long, and asks again.

A worker parks at most as many items as have slots in SHARE_S. While it has so many, it claims
nothing of that chain, and the other items wait in their list, where they keep their order. With
each item that falls due it claims again: what has come back, by then, is claimed before what is
new. Whoever dies in between leaves items that are due soon.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from conserver.config.rates import rate_per_s
from conserver.queue import limits
from conserver.queue.record import AGAIN
from conserver.queue.retrying_connection import RetryingConnection
from conserver.queue.wrong_type import Complaints
from conserver.telemetry import log
from conserver.worker.throttles import Throttles

if TYPE_CHECKING:
    from conserver.worker.item import Item, Route

AHEAD_S = 5.0
"""No slot is taken that is further away, but the next one always is; see the module's docstring."""
SHARE_S = 2.0
"""A worker parks no more items for a rate than have slots in so long; 1 at least."""
COME_BACK_S = 0.1
"""So long after its time a parked item is back in its list, unless its coordinator is gone."""
LOOK_S = 30.0
WRONG_TYPE_WAIT_S = 30.0


@dataclass(frozen=True, slots=True)
class Rate:
    """A rate of a chain or link. name: of its key. text: as it was configured."""

    name: str
    text: str
    interval_us: float
    burst: int


def rate_of(kind: str, name: str, text: str | None, burst: int | None) -> Rate | None:
    """The rate of a chain or link, if it has one."""
    if text is None:
        return None
    per_s = rate_per_s(text)
    return Rate(f"{kind}:{name}", text, 1_000_000 / per_s, burst or max(1, math.ceil(per_s)))


class Rates:
    """Used by the worker loop only."""

    def __init__(
        self,
        redis: RetryingConnection,
        complaints: Complaints,
        throttles: Throttles,
        routes: Iterable[Route] = (),
        threads: int = 0,
    ) -> None:
        """threads: how many items may be at the links before the one with the rate."""
        self.throttles = throttles
        self._redis = redis
        self._complaints = complaints
        self._asking: dict[Rate, list[Item]] = {}
        self._held_back: dict[str, float] = {}  # chain -> until when nothing of it is claimed
        self._ahead = {  # chain -> how many slots come in SHARE_S
            route.name: _slots_in(SHARE_S, rates) for route in routes if (rates := _rates_of(route))
        }
        self._before = {  # chain -> how many items may be on their way to a slot besides
            route.name: 0 if route.rate or route.names[0] in route.rates else threads
            for route in routes
            if route.name in self._ahead
        }
        self._due_s: dict[str, list[float]] = {chain: [] for chain in self._ahead}  # heaps
        self._full: set[str] = set()  # chains of which as many are parked

    def ask(self, item: Item, rate: Rate) -> None:
        """Take a slot of a rate for an item with the next `flush`."""
        self._asking.setdefault(rate, []).append(item)

    def flush(self, now_s: float) -> Sequence[tuple[Item, Rate, float]]:
        """Take the slots.

        Returns:
            For each item its rate and the seconds until its slot. An item whose rate cannot be
            asked (its key has another type) gets no slot, and the time until it asks again.
        """
        if not self._asking:
            return ()
        asking, self._asking = self._asking, {}
        found: list[tuple[Item, Rate, float]] = []
        for rate, items in asking.items():
            waits_s = self._slots(rate, len(items))
            if waits_s is None:
                found += [(item, rate, WRONG_TYPE_WAIT_S) for item in items]
                continue
            for item, wait_s in zip(items, waits_s, strict=True):
                slot = rate.name if wait_s >= 0 else AGAIN + rate.name
                others = [one for one in item.progress.rate_slots if one != AGAIN + rate.name]
                item.progress.rate_slots = [*others, slot]
                found.append((item, rate, abs(wait_s)))
                if wait_s and item.route.name in self._due_s:
                    heapq.heappush(self._due_s[item.route.name], now_s + abs(wait_s))
        return found

    def tell_throttles(self) -> None:
        """Tell the other workers which links are throttled, as far as this one has met it."""
        for link, left_s in self.throttles.unreported():
            log.get_logger().warning("link_throttled", link=link, after_s=round(left_s, 1))
            answer = self._redis.call(limits.throttle(link, int(left_s * 1000)))
            if answer != 1:  # Only this worker knows, until an operator has mended the key.
                self._complaints.tell(answer[1].decode(), answer[2].decode())

    def throttled(self, item: Item, link: str, wait_s: float, now_s: float) -> None:
        """An item has come to a link that is throttled for so long, and is going to be parked.

        Where that is its chain's first link, the others are better off in their list. But some may
        need a storage only: they are looked for once in LOOK_S.
        """
        if link == item.route.names[0]:
            self._hold_back(item, min(wait_s, LOOK_S + AHEAD_S), now_s)

    def _hold_back(self, item: Item, wait_s: float, now_s: float) -> None:
        if wait_s > AHEAD_S:
            self._held_back[item.route.name] = now_s + wait_s - AHEAD_S

    def slow_down(self, rate: Rate, after_s: float) -> None:
        """Nobody gets a slot of this rate for so long: a server has asked for that."""
        self._redis.call(
            limits.slots(
                rate.name, rate.interval_us, rate.burst, 0, none_for_us=int(after_s * 1_000_000)
            )
        )

    def claimable(self, room: dict[str, int], now_s: float, held: Iterable[Item]) -> dict[str, int]:
        """The part of a claim's room that is for chains which are not held back. held: the items
        that the worker has.
        """
        if not (self._held_back or self._ahead):
            return room
        found = {}
        for chain, most in room.items():
            if chain in self._held_back:
                continue
            left = self._slots_left(chain, now_s, held) if chain in self._ahead else most
            if left > 0:
                # One more: a list waiter may have put an item before those that have come back.
                found[chain] = min(most, left + 1)
        return found

    def _slots_left(self, chain: str, now_s: float, held: Iterable[Item]) -> int:
        due_s = self._due_s[chain]
        while due_s and due_s[0] <= now_s:
            heapq.heappop(due_s)
        left = self._ahead[chain] - len(due_s)
        if left <= 0:
            self._full.add(chain)
            return 0
        self._full.discard(chain)
        coming = sum(item.route.name == chain and _is_to_ask(item) for item in held)
        return left - max(coming - self._before[chain], 0)

    def let_go(self, now_s: float) -> bool:
        """Hold back no longer what is due by now. Returns whether there was any."""
        if not (self._held_back or self._full):
            return False
        due = [name for name, until_s in self._held_back.items() if until_s <= now_s]
        for name in due:
            del self._held_back[name]
        returned = {name for name in self._full if self._come_back_s(name) <= now_s}
        self._full -= returned
        return bool(due or returned)

    def due_in_s(self, now_s: float) -> float | None:
        """Seconds until the first chain is held back no longer; None where none is."""
        if not (self._held_back or self._full):
            return None
        times_s = [*self._held_back.values(), *map(self._come_back_s, self._full)]
        return max(min(times_s) - now_s, 0.0)

    def _come_back_s(self, chain: str) -> float:
        return self._due_s[chain][0] + COME_BACK_S

    def _slots(self, rate: Rate, wanted: int) -> list[float] | None:
        """The seconds until each slot; for one that is not given, until to ask again, negative."""
        farthest_us = math.ceil(max(AHEAD_S * 1_000_000, rate.interval_us))
        call = limits.slots(
            rate.name, rate.interval_us, rate.burst, wanted, farthest_us=farthest_us
        )
        answer = self._redis.call(call)
        if answer and answer[0] == b"type":
            self._complaints.tell(answer[1].decode(), answer[2].decode())
            return None
        return [int(wait_us) / 1_000_000 for wait_us in answer]


def _is_to_ask(item: Item) -> bool:
    """Whether the item, which is at work, is on its way to a rate and has no slot."""
    route, progress = item.route, item.progress
    if item.link in route.rates or any(not slot.startswith(AGAIN) for slot in progress.rate_slots):
        return False
    if route.rate is not None:
        return not (item.link or progress.links)
    return not any(link in route.rates for link in progress.links)


def _rates_of(route: Route) -> list[Rate]:
    return [*route.rates.values(), *([] if route.rate is None else [route.rate])]


def _slots_in(seconds: float, rates: Sequence[Rate]) -> int:
    """How many slots the slowest of these rates has in that time; 1 at least."""
    return max(1, int(seconds * 1_000_000 / max(rate.interval_us for rate in rates)))

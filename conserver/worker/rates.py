"""Rates: limits how often chains and links start per second, over all workers and hosts.

A rate slot is a moment that is reserved for one item. If an item comes to a link with a rate and
has no slot, its chain thread ends the run with the outcome RATE. The worker loop then reserves
slots in Redis for all such items, in one call per rate. What follows:

    the slot is now           the item goes back to the chain threads
    the slot is later         the item is parked until then; its record keeps the slot
    Redis gave no slot        the item is parked until it is to ask again

So no thread waits for a slot. Claims leave out closed chains. A chain is closed:

    for a rate          while the worker has parked the chain's share: as many items as the chain
                        has slots in SHARE_S. The other items stay in their list, in order
    for a throttle      see `throttled`

A parked item that is due is in `returned`, from which claims take first. Any worker may claim it,
also if the worker that parked it has died.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
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
"""Redis gives the slots up to this far ahead. It gives the next free slot even if that is further
ahead, because a slow rate has none earlier.
"""
SHARE_S = 2.0
"""A worker parks at most as many items of a chain as have slots in this time, and at least 1."""
COME_BACK_S = 0.1
"""The coordinator returns a parked item to its list within this time after the item is due."""
LOOK_S = 30.0
WRONG_TYPE_WAIT_S = 30.0


@dataclass(frozen=True, slots=True)
class Rate:
    """A rate of a chain or link.

    name: in the name of its Redis key. text: as it was configured. interval_us: time between two
    slots. burst: how many slots may be used at once after a pause.
    """

    name: str
    text: str
    interval_us: float
    burst: int


def rate_of(kind: str, name: str, text: str | None, burst: int | None) -> Rate | None:
    """The rate of a chain or link; None if no rate is configured (`text` is None)."""
    if text is None:
        return None
    per_s = rate_per_s(text)
    return Rate(f"{kind}:{name}", text, 1_000_000 / per_s, burst or max(1, math.ceil(per_s)))


@dataclass(slots=True)
class _RatedChain:
    """The slots that this worker uses of a chain with a rate.

    share: how many slots the chain has in SHARE_S.
    uncounted: that many held items do not count against the share, because they may be in links
        before the one with the rate: one per thread; 0 if the first link has the rate.
    back_s: a heap of the times at which parked items are back in their list.
    """

    share: int
    uncounted: int
    back_s: list[float] = field(default_factory=list)


class Rates:
    """Reserves rate slots for items. Used by the worker loop only."""

    def __init__(
        self,
        redis: RetryingConnection,
        complaints: Complaints,
        throttles: Throttles,
        routes: Iterable[Route] = (),
        threads: int = 0,
    ) -> None:
        """threads: the number of the worker's chain threads."""
        self.throttles = throttles
        self._redis = redis
        self._complaints = complaints
        self._asking: dict[Rate, list[Item]] = {}
        self._throttled: dict[str, float] = {}  # chain -> when it opens
        self._rated = {
            route.name: _RatedChain(
                _slots_in(SHARE_S, rates),
                0 if route.rate or route.names[0] in route.rates else threads,
            )
            for route in routes
            if (rates := _rates_of(route))
        }

    def ask(self, item: Item, rate: Rate) -> None:
        """Queue an item for which the next `flush` is to reserve a slot of a rate."""
        self._asking.setdefault(rate, []).append(item)

    def flush(self, now_s: float) -> Sequence[tuple[Item, Rate, float]]:
        """Reserve slots for the queued items.

        Returns:
            For each item its rate, and the seconds until its slot or, if it got no slot, until it
            is to ask again.
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
                if wait_s and item.route.name in self._rated:
                    back_s = now_s + abs(wait_s) + COME_BACK_S
                    heapq.heappush(self._rated[item.route.name].back_s, back_s)
        return found

    def tell_throttles(self) -> None:
        """Write to Redis which links were throttled in this worker, for the other workers."""
        for link, left_s in self.throttles.unreported():
            log.get_logger().warning("link_throttled", link=link, after_s=round(left_s, 1))
            answer = self._redis.call(limits.throttle(link, int(left_s * 1000)))
            if answer != 1:  # The key has the wrong type. Only this worker throttles the link.
                self._complaints.tell(answer[1].decode(), answer[2].decode())

    def throttled(self, item: Item, link: str, wait_s: float, now_s: float) -> None:
        """Close the item's chain for a while if its first link is the throttled one.

        The chain's other items would only be parked as well. But some of them may owe only
        storages, so the chain opens once per LOOK_S.
        """
        closed_s = min(wait_s - AHEAD_S, LOOK_S)
        if link == item.route.names[0] and closed_s > 0:
            self._throttled[item.route.name] = now_s + closed_s

    def slow_down(self, rate: Rate, after_s: float) -> None:
        """Let Redis give no slot of this rate for after_s, because a server has asked for that."""
        self._redis.call(
            limits.slots(
                rate.name, rate.interval_us, rate.burst, 0, none_for_us=int(after_s * 1_000_000)
            )
        )

    def claimable(self, room: dict[str, int], now_s: float, held: Iterable[Item]) -> dict[str, int]:
        """Reduce a claim's room (chain -> items). Closed chains are left out. A chain with a rate
        gets at most its free slots and one more; it is left out if it has no free slot. held: the
        worker's items.
        """
        closed = self._closed(now_s)
        found = {}
        for chain, most in room.items():
            if chain in closed:
                continue
            left = most
            if rated := self._rated.get(chain):
                coming = sum(one.route.name == chain and _will_need_slot(one) for one in held)
                left = rated.share - len(rated.back_s) - max(coming - rated.uncounted, 0)
            if left > 0:
                # A list waiter may have put a new item into `returned`, ahead of a parked item that
                # is due. Ask for one more, so that this one is claimed, too.
                found[chain] = min(most, left + 1)
        return found

    def opens_in_s(self, now_s: float) -> float | None:
        """Seconds until a closed chain opens; None if no chain is closed."""
        if not (self._rated or self._throttled):
            return None  # Spares most workers the dict, which each turn of the loop would make.
        opens_s = min(self._closed(now_s).values(), default=None)
        return None if opens_s is None else opens_s - now_s

    def _closed(self, now_s: float) -> dict[str, float]:
        """Chain -> when it opens; only the chains that are closed."""
        closed = {name: opens_s for name, opens_s in self._throttled.items() if opens_s > now_s}
        for name, rated in self._rated.items():
            back_s = rated.back_s
            while back_s and back_s[0] <= now_s:
                heapq.heappop(back_s)
            if len(back_s) >= rated.share:
                closed[name] = max(closed.get(name, 0.0), back_s[0])
        return closed

    def _slots(self, rate: Rate, wanted: int) -> list[float] | None:
        """For each wanted slot the seconds until it. A negative number says that no slot was given,
        and after how many seconds to ask again. None if the key has the wrong type.
        """
        farthest_us = math.ceil(max(AHEAD_S * 1_000_000, rate.interval_us))
        call = limits.slots(
            rate.name, rate.interval_us, rate.burst, wanted, farthest_us=farthest_us
        )
        answer = self._redis.call(call)
        if answer and answer[0] == b"type":
            self._complaints.tell(answer[1].decode(), answer[2].decode())
            return None
        return [int(wait_us) / 1_000_000 for wait_us in answer]


def _will_need_slot(item: Item) -> bool:
    """Whether a held item will come to a chain or link with a rate and has no slot for it."""
    route, progress = item.route, item.progress
    if item.link in route.rates or any(not slot.startswith(AGAIN) for slot in progress.rate_slots):
        return False
    if route.rate is not None:
        return not (item.link or progress.links)
    return not any(link in route.rates for link in progress.links)


def _rates_of(route: Route) -> list[Rate]:
    return [*route.rates.values(), *([] if route.rate is None else [route.rate])]


def _slots_in(seconds: float, rates: Sequence[Rate]) -> int:
    """How many slots the slowest of these rates has in `seconds`; at least 1."""
    return max(1, int(seconds * 1_000_000 / max(rate.interval_us for rate in rates)))

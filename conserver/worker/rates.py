"""Rates: how often the links of an item may begin, over all workers and hosts.

A chain thread that comes to a link with a rate, and has no slot for it, hands the item back (the
outcome RATE). The worker loop takes slots in Redis for all such items in one call per rate. An item
whose slot is free now goes on at once; another one is parked until its slot, and keeps it. So no
item asks twice, and nobody waits in a thread.

While its next start time for a chain is more than AHEAD_S away, a worker claims nothing for that
chain: the items wait in their list, where they keep their order.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from conserver.config.rates import rate_per_s
from conserver.queue import limits
from conserver.queue.retrying_connection import RetryingConnection
from conserver.queue.wrong_type import Complaints
from conserver.telemetry import log
from conserver.worker.throttles import Throttles

if TYPE_CHECKING:
    from conserver.worker.item import Item

AHEAD_S = 5.0
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
        self, redis: RetryingConnection, complaints: Complaints, throttles: Throttles
    ) -> None:
        self.throttles = throttles
        self._redis = redis
        self._complaints = complaints
        self._asking: dict[Rate, list[Item]] = {}
        self._held_back: dict[str, float] = {}  # chain -> until when nothing of it is claimed

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
                item.progress.slots.append(rate.name)
                found.append((item, rate, wait_s))
                self._hold_back(item, wait_s, now_s)
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

    def claimable(self, room: dict[str, int]) -> dict[str, int]:
        """The part of a claim's room that is for chains which are not held back."""
        if not self._held_back:
            return room
        return {name: most for name, most in room.items() if name not in self._held_back}

    def let_go(self, now_s: float) -> bool:
        """Hold back no longer what is due by now. Returns whether there was any."""
        if not self._held_back:
            return False
        due = [name for name, until_s in self._held_back.items() if until_s <= now_s]
        for name in due:
            del self._held_back[name]
        return bool(due)

    def due_in_s(self, now_s: float) -> float | None:
        """Seconds until the first chain is held back no longer; None where none is."""
        if not self._held_back:
            return None
        return max(min(self._held_back.values()) - now_s, 0.0)

    def _slots(self, rate: Rate, wanted: int) -> list[float] | None:
        answer = self._redis.call(limits.slots(rate.name, rate.interval_us, rate.burst, wanted))
        if answer and answer[0] == b"type":
            self._complaints.tell(answer[1].decode(), answer[2].decode())
            return None
        return [int(wait_us) / 1_000_000 for wait_us in answer]

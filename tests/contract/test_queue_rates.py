"""A rate over many workers, minute by minute: their claims and the slots in Redis, on a clock of
the test's own.
"""

from __future__ import annotations

import heapq
from collections import deque
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from conserver.queue.script import Call
from conserver.worker.rates import AHEAD_S, COME_BACK_S, LOOK_S, SHARE_S, Rate, Rates
from conserver.worker.throttles import Throttles
from tests.queues import Queue

STEP_S = 0.05
RETURN_S = 0.9 * COME_BACK_S
"""How late the coordinator returns a parked item. Regression: a worker had claimed newer items by
then, and the parked one missed its slot.
"""
EPOCH_S = 1_790_000_000


@dataclass
class Hosts:
    """Workers of some hosts, with what Redis holds of one list: simulated but for the slots."""

    queue: Queue
    rate: Rate
    workers: int
    waiting: int
    now_s: float = 0.0
    ran_s: list[float] = field(default_factory=list)
    parked: list[tuple[float, int, Any]] = field(default_factory=list)
    most_parked: int = 0

    def __post_init__(self) -> None:
        self.route: Any = SimpleNamespace(
            name="main", names=("asr",), rate=None, rates={"asr": self.rate}
        )
        self.returned: deque[Any] = deque()
        self.claims = [self._rates() for _ in range(self.workers)]

    def call(self, call: Call) -> Any:
        """Take slots at the time of the simulation."""
        now_us = int((EPOCH_S + self.now_s) * 1_000_000)
        return self.queue.run(call._replace(args=[*call.args[:-2], now_us, call.args[-1]]))

    def pass_time(self, seconds: float, *, claiming: bool = True) -> None:
        """Let so much time pass."""
        for step in range(round(seconds / STEP_S)):
            self.now_s += STEP_S
            while self.parked and self.parked[0][0] + RETURN_S <= self.now_s:
                self.returned.append(heapq.heappop(self.parked)[2])
            for place in range(self.workers if claiming else 0):
                self._turn(self.claims[(step + place) % self.workers])
            self.most_parked = max(self.most_parked, len(self.parked))

    def in_minute(self, minute: int) -> int:
        """How many ran in it."""
        return sum(60 * minute <= at_s < 60 * (minute + 1) for at_s in self.ran_s)

    def die(self) -> None:
        """Kill all workers: their successors know of no slot."""
        self.claims = [self._rates() for _ in range(self.workers)]

    def _rates(self) -> Rates:
        redis: Any = self
        complaints: Any = None
        return Rates(redis, complaints, Throttles(), [self.route])

    def _turn(self, rates: Rates) -> None:
        for _ in range(rates.claimable({"main": 256}, self.now_s, ()).get("main", 0)):
            if self.returned:
                item = self.returned.popleft()
            elif self.waiting:
                self.waiting -= 1
                item = SimpleNamespace(route=self.route, progress=SimpleNamespace(rate_slots=[]))
            else:
                break
            if self.rate.name in item.progress.rate_slots:
                self.ran_s.append(self.now_s)
            else:
                rates.ask(item, self.rate)
        for item, _, wait_s in rates.flush(self.now_s):
            if wait_s == 0:
                self.ran_s.append(self.now_s)
            else:
                heapq.heappush(self.parked, (self.now_s + wait_s, id(item), item))


def rate(per_minute: float, burst: int = 1) -> Rate:
    """A rate of the link asr."""
    return Rate("link:asr", f"{per_minute}/min", 60_000_000 / per_minute, burst)


@pytest.mark.parametrize(("workers", "per_minute"), [(1, 120), (3, 30), (3, 600), (8, 120)])
def test_each_minute_has_what_the_rate_allows(queue: Queue, workers: int, per_minute: int) -> None:
    """Within 5 %, although each worker takes in as much as it can, and faster than the rate."""
    hosts = Hosts(queue, rate(per_minute), workers, waiting=10 * per_minute)
    hosts.pass_time(120)
    found = [hosts.in_minute(minute) for minute in range(2)]
    assert all(abs(count - per_minute) <= max(0.05 * per_minute, 1) for count in found), found
    # The others wait in their list, in their order.
    assert hosts.most_parked <= workers * (SHARE_S * per_minute / 60 + 2)


def test_workers_that_die_cost_no_slot_of_the_minute(queue: Queue) -> None:
    """What the dead have parked is due soon, and the others claim it when it is."""
    hosts = Hosts(queue, rate(120), workers=3, waiting=1000)
    for _ in range(12):
        hosts.pass_time(10)
        hosts.die()
    assert [hosts.in_minute(minute) for minute in range(2)] == pytest.approx([120, 120], rel=0.05)


def test_after_an_hour_without_workers_what_is_parked_is_all_that_begins_at_once(
    queue: Queue,
) -> None:
    hosts = Hosts(queue, rate(120), workers=3, waiting=1000)
    hosts.pass_time(60)
    hosts.pass_time(3600, claiming=False)
    before = len(hosts.ran_s)
    hosts.pass_time(STEP_S)
    assert len(hosts.ran_s) - before <= 3 * (SHARE_S * 2 + 2)


def test_a_rate_of_a_few_an_hour_misses_no_slot(queue: Queue) -> None:
    """Each worker has one item in the future, and takes the next only when that has begun."""
    hosts = Hosts(queue, rate(1), workers=2, waiting=20)
    hosts.pass_time(600)
    assert len(hosts.ran_s) in (10, 11)
    assert hosts.most_parked <= 4


def test_a_closed_chain_opens_when_the_first_parked_item_is_back(queue: Queue) -> None:
    hosts = Hosts(queue, rate(1), workers=1, waiting=10)
    hosts.pass_time(STEP_S)
    [rates] = hosts.claims
    began_s = hosts.now_s
    assert (len(hosts.ran_s), len(hosts.parked)) == (1, 1)
    assert rates.claimable({"main": 256, "other": 7}, began_s, ()) == {"other": 7}
    assert rates.opens_in_s(began_s) == pytest.approx(60 + COME_BACK_S, abs=0.01)
    # Another link of the chain has a faster rate: its slot comes later, with an earlier time.
    quick = Rate("link:quick", "6/min", 10_000_000, 1)
    for _ in range(2):
        item: Any = SimpleNamespace(route=hosts.route, progress=SimpleNamespace(rate_slots=[]))
        rates.ask(item, quick)
    assert [wait_s for _, _, wait_s in rates.flush(began_s)] == pytest.approx([0, 10], abs=0.01)
    opens_s = rates.opens_in_s(began_s)
    assert opens_s == pytest.approx(10 + COME_BACK_S, abs=0.01)
    assert rates.claimable({"main": 256}, began_s + 10, ()) == {}, "it is not in its list yet"


def test_a_chain_whose_first_link_is_throttled_opens_once_per_look(queue: Queue) -> None:
    hosts = Hosts(queue, rate(1), workers=1, waiting=0)
    [rates] = hosts.claims
    item: Any = SimpleNamespace(route=hosts.route)
    for link, wait_s, closed_s in (
        ("second", 3600.0, None),
        ("asr", AHEAD_S, None),
        ("asr", AHEAD_S + 1, 1.0),
        ("asr", 3600.0, LOOK_S),
    ):
        rates.throttled(item, link, wait_s, 0.0)
        assert rates.opens_in_s(0.0) == closed_s
        assert ("main" in rates.claimable({"main": 9}, 0.0, ())) is (closed_s is None)
    assert rates.opens_in_s(LOOK_S) is None
    assert "main" in rates.claimable({"main": 9}, LOOK_S, ())

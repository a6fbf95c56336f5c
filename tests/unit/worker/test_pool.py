"""pool.py: who runs what, who is woken for what, and how much is claimed for it.

The threads are real. What an item does while it "runs" is a function of the test, and gates are
events: the order of things is the test's, not the clock's.
"""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import pytest

from conserver.config.model import ChainConfig
from conserver.queue.record import Claimed, Progress
from conserver.worker.item import Item, Route
from conserver.worker.pool import WorkQueue, ChainPool, ItemDurations
from tests.helpers import eventually


@dataclass(eq=False)
class Watched(Item):
    """An item that a weak reference can point at."""


def item(chain: str, name: str = "", claimed_at_s: float = 0.0, list_name: str = "q") -> Item:
    claimed = Claimed(name or chain, 1, 0, False, 0, list_name, b"", b"u1")
    route = Route(chain, ChainConfig(ingress_lists=["q"]), (), (), (), None, 0.0)
    return Watched(claimed, route, Progress(), 0, claimed_at_s)


def nobody() -> None:
    """Nobody is rung."""


def tokens(items: list[Item]) -> list[str]:
    return [one.token for one in items]


# ---- the backlog, without threads ----------------------------------------------------------------


def test_items_are_taken_in_the_order_of_their_claim() -> None:
    backlog = WorkQueue({"a": 9, "b": 9}, nobody)
    backlog.put([item("a", "1"), item("b", "2"), item("a", "3")])
    taken = [backlog.take(None)[0].token for _ in range(3)]
    assert taken == ["1", "3", "2"], "one chain at a time, the first to have been claimed"
    assert (len(backlog), backlog.running) == (0, 3)


def test_a_cap_holds_back_its_own_chain_only() -> None:
    backlog = WorkQueue({"slow": 1, "fast": 9}, nobody)
    backlog.put([item("slow", "1"), item("slow", "2"), item("fast", "3"), item("fast", "4")])
    assert backlog.take(None)[0].token == "1"
    assert backlog.take(None)[0].token == "3"
    assert backlog.take("fast")[0].token == "4"
    assert backlog.take("slow")[0].token == "2", "its place was freed in the same step"


def test_what_waits_is_taken_back_with_the_last_of_a_list_first() -> None:
    backlog = WorkQueue({"a": 9, "b": 9}, nobody)
    backlog.put(
        [item("a", "1", 1.0), item("b", "2", 1.0), item("a", "3", 2.0), item("a", "4", 9.0)]
    )
    assert tokens(backlog.take_back(5.0)) == ["2", "3", "1"]
    assert (len(backlog), backlog.waiting("a"), backlog.waiting("b")) == (1, 1, 0)
    assert backlog.take(None)[0].token == "4"
    backlog.put([item("b", "5")])
    assert backlog.take(None)[0].token == "5"
    assert backlog.take_back(float("inf")) == []


# ---- with threads --------------------------------------------------------------------------------


class Runner:
    """Runs items by doing what the test said of them."""

    def __init__(self) -> None:
        self.gates: dict[str, threading.Event] = {}
        self.running: set[str] = set()
        self.most_at_once = 0
        self._lock = threading.Lock()

    def gate(self, token: str) -> threading.Event:
        """The item of that token runs until this is set."""
        return self.gates.setdefault(token, threading.Event())

    def open_all(self) -> None:
        for gate in self.gates.values():
            gate.set()

    def run(self, one: Item) -> None:
        with self._lock:
            self.running.add(one.token)
            self.most_at_once = max(self.most_at_once, len(self.running))
        gate = self.gates.get(one.token)
        assert gate is None or gate.wait(30)
        with self._lock:
            self.running.discard(one.token)


class Bell:
    """Counts how often the keeper was woken, and can be waited for."""

    def __init__(self) -> None:
        self.rings = threading.Semaphore(0)

    def __call__(self) -> None:
        self.rings.release()

    def rung(self, times: int = 1) -> bool:
        """Whether it has been rung so often, within ten seconds; forgets these."""
        return all(self.rings.acquire(timeout=10) for _ in range(times))

    def silent(self) -> bool:
        return not self.rings.acquire(blocking=False)


@dataclass
class Pool:
    pool: ChainPool
    backlog: WorkQueue
    runner: Runner
    bell: Bell


Make = Callable[..., Pool]


@pytest.fixture
def make() -> Iterator[Make]:
    """Makes started pools; their threads are let go at the end."""
    with ExitStack() as stack:

        def start(threads: int, **caps: int) -> Pool:
            runner, bell = Runner(), Bell()
            stack.callback(runner.open_all)
            backlog = WorkQueue(caps or {"a": threads}, bell)
            pool = ChainPool(threads, backlog, runner, bell)  # type: ignore[arg-type]
            pool.start()
            assert bell.rung(threads), "each thread says that it has nothing to do"
            return Pool(pool, backlog, runner, bell)

        yield start


def collected(pool: Pool, count: int) -> list[str]:
    found: list[str] = []

    def enough() -> bool:
        found.extend(tokens(pool.pool.collect()))
        return len(found) >= count

    eventually(enough)
    return found


def test_an_idle_thread_takes_what_is_put_and_says_when_it_is_done(make: Make) -> None:
    pool = make(1)
    pool.backlog.put([item("a", "1")])
    assert pool.bell.rung()
    assert tokens(pool.pool.collect()) == ["1"]
    assert pool.bell.silent(), "nobody is woken for a batch of one but once"
    assert pool.backlog.running == 0


def test_a_finished_item_is_told_of_although_its_batch_mate_is_slow(make: Make) -> None:
    pool = make(1)
    gate = pool.runner.gate("slow")
    pool.backlog.put([item("a", "fast"), item("a", "slow")])
    eventually(lambda: "slow" in pool.runner.running)
    assert pool.bell.rung()
    assert tokens(pool.pool.collect()) == ["fast"]
    gate.set()
    assert pool.bell.rung()
    assert tokens(pool.pool.collect()) == ["slow"]


def test_the_keeper_is_woken_once_for_a_batch_until_it_looks(make: Make) -> None:
    pool = make(1)
    first, last = pool.runner.gate("0"), pool.runner.gate("99")
    pool.backlog.put([item("a", str(number)) for number in range(100)])
    eventually(lambda: "0" in pool.runner.running)
    pool.bell.rings = threading.Semaphore(0)
    first.set()
    eventually(lambda: "99" in pool.runner.running)
    assert pool.bell.rung()
    assert pool.bell.silent()
    assert len(pool.pool.collect()) == 99
    last.set()
    assert pool.bell.rung()
    assert len(pool.pool.collect()) == 1


def test_as_many_threads_are_woken_as_items_come(make: Make) -> None:
    pool = make(4)
    for token in "123":
        pool.runner.gate(token)
    pool.backlog.put([item("a", token) for token in "123"])
    eventually(lambda: len(pool.runner.running) == 3)
    assert pool.backlog.running == {"a": 3}
    assert pool.backlog.idle_threads == 1


def test_called_threads_are_not_idle_any_more_before_they_wake(make: Make) -> None:
    pool = make(3)
    gate = pool.runner.gate("1")
    pool.backlog.put([item("a", "1")])
    assert pool.backlog.idle_threads == 2, "whether or not the thread has had its turn"
    gate.set()
    collected(pool, 1)
    eventually(lambda: pool.backlog.idle_threads == 3)


def test_a_place_that_becomes_free_goes_to_whoever_waits(make: Make) -> None:
    # The cap of one chain held its second item back; an idle thread slept beside it.
    pool = make(3, slow=1, fast=3)
    gate = pool.runner.gate("s1")
    second = pool.runner.gate("s2")
    pool.backlog.put([item("slow", "s1"), item("slow", "s2"), item("fast", "f1")])
    eventually(lambda: pool.runner.running == {"s1"} and pool.pool.waiting == 1)
    assert pool.backlog.waiting("slow") == 1
    assert pool.backlog.running == {"slow": 1, "fast": 0}
    eventually(lambda: pool.backlog.idle_threads == 2)
    gate.set()
    eventually(lambda: pool.runner.running == {"s2"})
    second.set()
    assert sorted(collected(pool, 3)) == ["f1", "s1", "s2"]
    eventually(lambda: pool.backlog.idle_threads == 3)


def test_nothing_is_left_lying_by_many_threads_and_tight_caps(make: Make) -> None:
    pool = make(8, a=1, b=2, c=8)
    expected = []
    for number in range(300):
        chain = "abc"[number % 3]
        expected.append(f"{chain}{number}")
        pool.backlog.put([item(chain, f"{chain}{number}")])
    assert sorted(collected(pool, 300)) == sorted(expected)
    eventually(lambda: pool.backlog.idle_threads == 8)
    assert (len(pool.backlog), pool.backlog.running) == (0, 0)
    assert pool.runner.most_at_once <= 8


def test_an_idle_thread_keeps_nothing_of_what_it_has_run(make: Make) -> None:
    pool = make(2)
    one = item("a", "1")
    ghost = weakref.ref(one)
    pool.backlog.put([one])
    collected(pool, 1)
    eventually(lambda: pool.backlog.idle_threads == 2)
    del one
    gc.collect()
    assert ghost() is None, "documents are large, and the next item may not come for hours"


def test_stuck_names_the_chains_of_threads_that_are_at_one_item_for_long(make: Make) -> None:
    pool = make(2, a=2, b=2)
    gates = [pool.runner.gate("1"), pool.runner.gate("2")]
    assert pool.pool.stuck() == []
    pool.backlog.put([item("a", "1"), item("b", "2")])
    eventually(lambda: sorted(pool.pool.stuck()) == ["a", "b"])
    for gate in gates:
        gate.set()
    collected(pool, 2)
    eventually(lambda: pool.pool.stuck() == [])


# ---- the meter -----------------------------------------------------------------------------------


def test_one_item_is_claimed_while_nothing_is_known() -> None:
    assert ItemDurations().most("a", 4) == 1


def test_as_much_is_claimed_as_the_threads_finish_within_the_horizon() -> None:
    meter = ItemDurations()
    meter.add("a", 0.002)
    assert meter.most("a", 1) == 50
    assert meter.most("a", 4) == 200
    assert meter.most("b", 4) == 1


def test_one_at_a_time_where_an_item_takes_longer() -> None:
    meter = ItemDurations()
    meter.add("a", 30.0)
    assert meter.most("a", 8) == 1


def test_a_slow_item_is_believed_at_once_and_fast_ones_little_by_little() -> None:
    meter = ItemDurations()
    for _ in range(20):
        meter.add("a", 0.001)
    assert meter.most("a", 1) == 100
    meter.add("a", 2.0)
    assert meter.most("a", 1) == 1
    for _ in range(10):
        meter.add("a", 0.001)
    assert meter.most("a", 1) == 1
    for _ in range(100):
        meter.add("a", 0.001)
    assert meter.most("a", 1) >= 50


def test_items_that_take_no_time_are_bounded_all_the_same() -> None:
    meter = ItemDurations()
    meter.add("a", 0.0)
    assert meter.most("a", 1) == 100_000, "the places on the page bound what is really claimed"


def test_it_is_quick_where_the_items_of_any_chain_are() -> None:
    meter = ItemDurations()
    assert not meter.is_quick(0.003)  # nothing is known
    meter.add("slow", 0.02)
    assert not meter.is_quick(0.003)
    meter.add("quick", 0.001)
    assert meter.is_quick(0.003)

"""pool.py and work_queue.py: which items run, in what order, and when the worker loop is woken.

The threads are real. An item "runs" until the test opens its gate, so that no test depends on time.
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
from conserver.process.shared_status import Phase, SharedStatus
from conserver.queue.record import Claimed, Progress
from conserver.worker.chain import ChainRunner
from conserver.worker.inbox import WorkerInbox
from conserver.worker.item import ChainOutcome, Item, OutcomeKind, Route
from conserver.worker.pool import ChainPool
from conserver.worker.prefetch import HORIZON_S
from conserver.worker.work_queue import WorkQueue
from tests.helpers import eventually


@dataclass(eq=False)
class Watched(Item):
    """An item that a weak reference can point at."""


def item(chain: str, name: str = "", claimed_at_s: float = 0.0, list_name: str = "q") -> Item:
    claimed = Claimed(name or chain, 1, 0, False, 0, list_name, b"", b"u1")
    route = Route(chain, ChainConfig(ingress_lists=["q"]), (), (), (), None, 0.0)
    return Watched(claimed, route, Progress(), 0, claimed_at_s)


def tokens(items: list[Item]) -> list[str]:
    return [one.token for one in items]


class Inbox(WorkerInbox):
    """Counts how often the worker loop was woken."""

    def __init__(self) -> None:
        super().__init__(SharedStatus.create("test"))
        self.wakeups = threading.Semaphore(0)

    def wake(self) -> None:
        self.wakeups.release()

    def woken_times(self, times: int = 1) -> bool:
        """Wait until there were so many wakeups since the last call; False after a minute."""
        return all(self.wakeups.acquire(timeout=60) for _ in range(times))

    def is_silent(self) -> bool:
        """Whether there was no wakeup since the last call."""
        return not self.wakeups.acquire(blocking=False)


# ---- the queue, without threads ------------------------------------------------------------------


def test_items_are_taken_in_the_order_of_their_claim() -> None:
    queue = WorkQueue({"a": 9, "b": 9}, Inbox())
    queue.put([item("a", "1"), item("b", "2"), item("a", "3")])
    taken = [queue.take(None)[0].token for _ in range(3)]
    assert taken == ["1", "3", "2"], "one chain after the other, the first claimed first"
    assert (len(queue), queue.total_running) == (0, 3)


def test_a_concurrency_limit_holds_back_only_its_own_chain() -> None:
    queue = WorkQueue({"slow": 1, "fast": 9}, Inbox())
    queue.put([item("slow", "1"), item("slow", "2"), item("fast", "3"), item("fast", "4")])
    assert queue.take(None)[0].token == "1"
    assert queue.take(None)[0].token == "3"
    assert queue.take("fast")[0].token == "4"
    assert queue.take("slow")[0].token == "2", "take(finished) frees the limit"


def test_an_item_that_waits_to_run_again_is_not_blamed_for_a_death() -> None:
    inbox = Inbox()
    status, again = inbox.status, item("a", "1")
    status.hold(again.status_slot, again.token, 1, "u1", "a")
    status.set_phase(again.status_slot, Phase.FINISHING)
    WorkQueue({"a": 9}, inbox).put([again])
    [shown] = status.read().items
    assert (shown.phase, shown.phase.at_work) == (Phase.QUEUED, False)


def test_items_are_taken_back_with_the_last_claimed_first() -> None:
    queue = WorkQueue({"a": 9, "b": 9}, Inbox())
    queue.put([item("a", "1", 1.0), item("b", "2", 1.0), item("a", "3", 2.0), item("a", "4", 9.0)])
    assert tokens(queue.take_back(5.0)) == ["2", "3", "1"]
    assert (len(queue), queue.queued("a"), queue.queued("b")) == (1, 1, 0)
    assert queue.take(None)[0].token == "4"
    queue.put([item("b", "5")])
    assert queue.take(None)[0].token == "5"
    assert queue.take_back(float("inf")) == []


def test_an_item_whose_links_go_on_is_not_taken_back() -> None:
    """Its progress since the last checkpoint is in this worker alone, and its rate slot is now."""
    queue, goes_on = WorkQueue({"a": 9}, Inbox()), item("a", "2")
    goes_on.outcome = ChainOutcome(OutcomeKind.RATE)
    queue.put([item("a", "1"), goes_on, item("a", "3")])
    assert tokens(queue.take_back(float("inf"))) == ["3", "1"]
    assert queue.take(None)[0] is goes_on


# ---- with threads --------------------------------------------------------------------------------


class Runner(ChainRunner):
    """Lets an item run until the test opens the gate of its token, if it has one."""

    def __init__(self) -> None:
        self.gates: dict[str, threading.Event] = {}
        self.running: set[str] = set()
        self.most_at_once = 0
        self._lock = threading.Lock()

    def gate(self, token: str) -> threading.Event:
        """The item of this token runs until the event is set."""
        return self.gates.setdefault(token, threading.Event())

    def open_all(self) -> None:
        for gate in self.gates.values():
            gate.set()

    def run(self, one: Item) -> None:
        with self._lock:
            self.running.add(one.token)
            self.most_at_once = max(self.most_at_once, len(self.running))
        gate = self.gates.get(one.token)
        assert gate is None or gate.wait(300)
        with self._lock:
            self.running.discard(one.token)


@dataclass
class Pool:
    pool: ChainPool
    queue: WorkQueue
    runner: Runner
    inbox: Inbox


Make = Callable[..., Pool]


@pytest.fixture
def make() -> Iterator[Make]:
    """Makes started pools, whose gates are opened at the end."""
    with ExitStack() as stack:

        def start(threads: int, **limits: int) -> Pool:
            runner, inbox = Runner(), Inbox()
            stack.callback(runner.open_all)
            queue = WorkQueue(limits or {"a": threads}, inbox)
            pool = ChainPool(threads, queue, runner, inbox)
            pool.start()
            assert inbox.woken_times(threads), "by each thread, because it has no item"
            return Pool(pool, queue, runner, inbox)

        yield start


def collected(pool: Pool, count: int) -> list[str]:
    found: list[str] = []

    def enough() -> bool:
        found.extend(tokens(pool.pool.collect()))
        return len(found) >= count

    eventually(enough)
    return found


def test_an_idle_thread_runs_an_item_and_wakes_the_worker_loop(make: Make) -> None:
    pool = make(1)
    pool.queue.put([item("a", "1")])
    assert pool.inbox.woken_times()
    assert tokens(pool.pool.collect()) == ["1"]
    assert pool.inbox.is_silent(), "woken once"
    assert pool.queue.total_running == 0


def test_a_finished_item_wakes_the_worker_loop_although_the_next_one_is_slow(make: Make) -> None:
    pool = make(1)
    gate = pool.runner.gate("slow")
    pool.queue.put([item("a", "fast"), item("a", "slow")])
    eventually(lambda: "slow" in pool.runner.running)
    assert pool.inbox.woken_times()
    assert tokens(pool.pool.collect()) == ["fast"]
    gate.set()
    assert pool.inbox.woken_times()
    assert tokens(pool.pool.collect()) == ["slow"]


def test_the_worker_loop_is_woken_once_for_a_batch_until_it_collects(make: Make) -> None:
    pool = make(1)
    first, last = pool.runner.gate("0"), pool.runner.gate("99")
    pool.queue.put([item("a", str(number)) for number in range(100)])
    eventually(lambda: "0" in pool.runner.running)
    pool.inbox.wakeups = threading.Semaphore(0)
    first.set()
    eventually(lambda: "99" in pool.runner.running)
    assert pool.inbox.woken_times()
    assert pool.inbox.is_silent()
    assert len(pool.pool.collect()) == 99
    last.set()
    assert pool.inbox.woken_times()
    assert len(pool.pool.collect()) == 1


def test_as_many_threads_are_notified_as_items_are_put(make: Make) -> None:
    pool = make(4)
    for token in "123":
        pool.runner.gate(token)
    pool.queue.put([item("a", token) for token in "123"])
    eventually(lambda: len(pool.runner.running) == 3)
    assert pool.queue.running == {"a": 3}
    assert pool.queue.idle_threads == 1


def test_a_notified_thread_does_not_count_as_idle(make: Make) -> None:
    pool = make(3)
    gate = pool.runner.gate("1")
    pool.queue.put([item("a", "1")])
    assert pool.queue.idle_threads == 2, "whether or not the thread runs already"
    gate.set()
    collected(pool, 1)
    eventually(lambda: pool.queue.idle_threads == 3)


def test_an_item_held_back_by_its_limit_starts_when_another_one_ends(make: Make) -> None:
    # Regression: when the first item of the chain ended, no idle thread was notified.
    pool = make(3, slow=1, fast=3)
    gate = pool.runner.gate("s1")
    second = pool.runner.gate("s2")
    pool.queue.put([item("slow", "s1"), item("slow", "s2"), item("fast", "f1")])
    eventually(lambda: pool.runner.running == {"s1"} and pool.pool.finished == 1)
    assert pool.queue.queued("slow") == 1
    assert pool.queue.running == {"slow": 1, "fast": 0}
    eventually(lambda: pool.queue.idle_threads == 2)
    gate.set()
    eventually(lambda: pool.runner.running == {"s2"})
    second.set()
    assert sorted(collected(pool, 3)) == ["f1", "s1", "s2"]
    eventually(lambda: pool.queue.idle_threads == 3)


def test_all_items_run_with_many_threads_and_tight_limits(make: Make) -> None:
    pool = make(8, a=1, b=2, c=8)
    expected = []
    for number in range(300):
        chain = "abc"[number % 3]
        expected.append(f"{chain}{number}")
        pool.queue.put([item(chain, f"{chain}{number}")])
    assert sorted(collected(pool, 300)) == sorted(expected)
    eventually(lambda: pool.queue.idle_threads == 8)
    assert (len(pool.queue), pool.queue.total_running) == (0, 0)
    assert pool.runner.most_at_once <= 8


def test_an_idle_thread_keeps_no_reference_to_an_item(make: Make) -> None:
    pool = make(2)
    one = item("a", "1")
    ghost = weakref.ref(one)
    pool.queue.put([one])
    collected(pool, 1)
    eventually(lambda: pool.queue.idle_threads == 2)
    del one
    gc.collect()
    assert ghost() is None, "documents are large, and the next item may not come for hours"


def test_the_chains_of_items_that_run_for_long_are_named(make: Make) -> None:
    pool = make(2, a=2, b=2)
    gates = [pool.runner.gate("1"), pool.runner.gate("2")]
    assert pool.pool.busy_longer_than(HORIZON_S) == []
    pool.queue.put([item("a", "1"), item("b", "2")])
    eventually(lambda: sorted(pool.pool.busy_longer_than(HORIZON_S)) == ["a", "b"])
    for gate in gates:
        gate.set()
    collected(pool, 2)
    eventually(lambda: pool.pool.busy_longer_than(HORIZON_S) == [])

"""loop.py: a whole worker in one process, with its worker loop, chain threads and writers.

Gates in links and storages put events in an order; no test depends on how long something takes.
"""

from __future__ import annotations

import gc
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from servers import Redis
from structlog.testing import capture_logs

from conserver.errors import Retry
from conserver.process import wakeup
from conserver.process.shared_status import State
from conserver.queue import clients, keys
from conserver.queue.cancellation import cancel
from conserver.queue.record import Progress
from conserver.vcon.document import Vcon
from conserver.worker.item import Item
from conserver.worker.loop import HoldsNothing, SupervisorGone
from tests.conftest import Private, unique
from tests.helpers import TcpProxy, eventually
from tests.modules import memory
from tests.queues import record
from tests.workers import RunningWorker, document, link, nothing, storage, tag

Make = Callable[..., RunningWorker]
HOUR_MS = 3_600_000


@pytest.fixture
def make(redis_url: str) -> Iterator[Make]:
    """Makes workers that are not started yet and are closed at the end."""
    with ExitStack() as stack:

        def made(*arguments: Any, **settings: Any) -> RunningWorker:
            worker = RunningWorker(redis_url, *arguments, **settings)
            stack.callback(worker.close)
            return worker

        yield made


class Gate:
    """A link that blocks a vCon with a subject until the test opens the gate of that subject."""

    def __init__(self) -> None:
        self.runs: Counter[str] = Counter()
        self._gates: dict[str, threading.Event] = {}
        self._lock = threading.Lock()

    def of(self, subject: str) -> threading.Event:
        with self._lock:
            return self._gates.setdefault(subject, threading.Event())

    def __call__(self, vcon: Vcon, context: Any) -> Vcon:
        subject = str(vcon.view.get("subject") or "")
        with self._lock:
            self.runs[subject] += 1
        if subject:
            assert self.of(subject).wait(300)
        return tag(vcon, context)

    def running(self, subject: str, times: int = 1) -> None:
        """Wait until it has been called so often for this subject."""
        eventually(lambda: self.runs[subject] >= times)


@pytest.fixture
def gate() -> Iterator[Gate]:
    """A Gate whose gates are all opened at the end."""
    made = Gate()
    yield made
    for event in made._gates.values():
        event.set()


def arrived(worker: RunningWorker, uuids: list[str], name: str = "out") -> None:
    """Wait until an egress list has exactly these."""
    eventually(lambda: sorted(worker.out(name)) == sorted(uuids))


# ---- work ----------------------------------------------------------------------------------------


def test_many_items_go_through_links_checkpoints_and_storages_once_each(make: Make) -> None:
    shelves = [unique("one-"), unique("two-")]
    worker = make(
        links=[link("a", tag, costly=True), link("b", nothing)],
        storages=[storage(name) for name in shelves],
        vcon_concurrency=4,
    )
    uuids = worker.supply(300)
    whole = document("whole")
    worker.queue.push("in", whole)
    with worker:
        arrived(worker, [*uuids, "whole"])
        eventually(lambda: worker.inflight == 0)
        assert worker.status.read().items_done == 301
    for name in shelves:
        shelf = memory.shelf(name)
        assert shelf.documents.keys() == {*uuids, "whole"}
        assert all(Vcon.parse(one.body).tags == {"seen": "yes"} for one in shelf.documents.values())
    assert worker.queue.places("in") == {}


def test_nothing_is_kept_of_what_has_been_settled(make: Make) -> None:
    chain = unique("chain-")
    worker = make(
        {chain: {}},
        links=[link("a", tag)],
        storages=[storage(unique("shelf-"))],
        vcon_concurrency=2,
    )
    uuids = worker.supply(50)
    with worker:
        arrived(worker, uuids)

        def forgotten() -> bool:
            gc.collect()
            items = [one for one in gc.get_objects() if isinstance(one, Item)]
            return not any(one.route.name == chain for one in items)

        eventually(forgotten)
        eventually(lambda: worker.status.state is State.IDLE)


def test_a_finished_item_does_not_wait_for_its_batch_mate(make: Make, gate: Gate) -> None:
    worker = make(links=[link("a", gate)])
    warm = worker.supply(5)
    with worker:
        arrived(worker, warm)  # their duration is known now: the next ones are claimed together
        fast = worker.supply(3)
        [slow] = worker.supply(1, subject="slow")
        gate.running("slow")
        arrived(worker, [*warm, *fast])
        gate.of("slow").set()
        arrived(worker, [*warm, *fast, slow])


def test_items_that_no_thread_starts_within_a_second_are_released(make: Make, gate: Gate) -> None:
    worker = make(links=[link("a", gate)], tick_interval_ms=10)
    warm = worker.supply(20)
    with worker:
        arrived(worker, warm)
        rest = [f"u{number}" for number in range(10)]
        for uuid in ("slow", *rest):
            worker.queue.store(uuid, document(uuid, subject="slow" if uuid == "slow" else ""))
        worker.queue.push("in", "slow", *rest)  # all are claimed at once
        eventually(lambda: worker.queue.waiting("in") == [uuid.encode() for uuid in rest])
        claims = worker.loop._intake.claims
        beaten = worker.status.read().heartbeats
        eventually(lambda: worker.status.read().heartbeats >= beaten + 3)
        assert worker.inflight == 1
        assert worker.loop._intake.claims == claims, "they are not claimed again and again"
        gate.of("slow").set()
        arrived(worker, [*warm, "slow", *rest])


def test_items_behind_a_slow_one_are_released_long_before_that(make: Make, gate: Gate) -> None:
    """Regression: an item waited for a second behind a slow one, beside an idle worker."""
    worker = make(links=[link("a", gate)], tick_interval_ms=10)
    warm = worker.supply(20)
    with worker:
        arrived(worker, warm)
        worker.loop._duties_at_s = float("inf")  # What is done once a second does not help.
        rest = [f"u{number}" for number in range(10)]
        for uuid in ("slow", *rest):
            worker.queue.store(uuid, document(uuid, subject="slow" if uuid == "slow" else ""))
        worker.queue.push("in", "slow", *rest)
        eventually(lambda: worker.queue.waiting("in") == [uuid.encode() for uuid in rest])
        gate.of("slow").set()
        arrived(worker, [*warm, "slow", *rest])


def test_a_chain_at_its_concurrency_claims_no_more_and_delays_no_other(
    make: Make, gate: Gate
) -> None:
    # Regression: its next items were claimed for the idle threads and released after a second, for
    # ever.
    worker = make(
        {"capped": {"ingress_lists": ["c"], "concurrency": 1}, "free": {"ingress_lists": ["f"]}},
        links=[link("a", gate)],
        vcon_concurrency=4,
        tick_interval_ms=10,
    )
    slow = worker.supply(5, "c", subject="slow")
    with worker:
        gate.running("slow")
        free = worker.supply(20, "f")
        arrived(worker, free)
        beaten = worker.status.read().heartbeats
        most = 0

        def ten_more_looks() -> bool:
            nonlocal most
            most = max(most, worker.inflight)
            return worker.status.read().heartbeats >= beaten + 10

        eventually(ten_more_looks)
        assert most == 1, "only the one that runs"
        gate.of("slow").set()
        arrived(worker, [*free, *slow])
    assert gate.runs["slow"] == 5


def test_many_lists_are_served_in_their_order(make: Make) -> None:
    worker = make({"main": {"ingress_lists": [f"in{number}" for number in range(200)]}})
    uuids = [worker.supply(1, f"in{number}")[0] for number in reversed(range(200))]
    with worker:
        arrived(worker, uuids)
    assert worker.out()[0] == uuids[-1]


def test_an_item_that_owes_only_a_storage_is_stored_in_the_turn_of_its_claim(make: Make) -> None:
    name = unique("shelf-")
    worker = make(storages=[storage(name)], tick_interval_ms=HOUR_MS)
    worker.queue.store("u1", document("u1"))
    state = Progress(owed=[name]).dump()
    worker.client.rpush("conserver:returned:in", record("t1", "u1", "in", state=state))
    with worker:
        arrived(worker, ["u1"])


def test_a_worker_with_an_idle_thread_can_be_woken(make: Make, gate: Gate) -> None:
    # Regression: IDLE was sent when the worker loop woke next, with a slow item a tick later.
    worker = make(links=[link("a", gate)], vcon_concurrency=2, tick_interval_ms=HOUR_MS)
    worker.supply(1, subject="slow")
    with worker:
        gate.running("slow")
        said: list[bytes] = []

        def idle() -> bool:
            said.extend(worker.sent_to_coordinator())
            return b"".join(said).endswith(wakeup.IDLE)

        eventually(idle)
        [second] = worker.supply(1)
        worker.coordinator.send(wakeup.WAKE)
        arrived(worker, [second])
        gate.of("slow").set()


def test_the_items_of_a_storage_that_hangs_are_parked_and_the_others_go_on(make: Make) -> None:
    hangs, works = unique("hangs-"), unique("works-")
    opened = threading.Event()
    worker = make(
        {
            "one": {"ingress_lists": ["one"], "storages": [hangs]},
            "two": {"ingress_lists": ["two"], "storages": [works]},
        },
        storages=[storage(hangs, 0.1), storage(works)],
    )
    memory.shelf(hangs).on_save.append(memory.waits_for(opened))
    stuck, free = worker.supply(1, "one"), worker.supply(5, "two")
    with worker:
        arrived(worker, free)
        eventually(lambda: len(worker.queue.parked("one")) == 1)
        assert worker.inflight == 0
        opened.set()
        eventually(lambda: worker.queue.promote("one") or worker.out().count(stuck[0]))


def test_shared_status_shows_which_storages_are_unavailable(make: Make) -> None:
    names = sorted((unique("shelf-"), unique("shelf-")))
    shelf = memory.shelf(names[1])
    shelf.on_save += [memory.away()]
    worker = make(links=[link("a", nothing)], storages=[storage(name) for name in names])
    with worker:
        worker.supply(1)
        eventually(lambda: worker.status.read().away == {1: "away"})

        def is_back() -> bool:
            worker.supply(1)  # for the breaker's probe
            return worker.status.read().away == {}

        eventually(is_back)


def test_a_process_with_too_many_hung_calls_retires(make: Make) -> None:
    name = unique("hangs-")
    worker = make(storages=[storage(name, 0.01)])
    opened = threading.Event()
    writer = worker.loop._writers[name]
    writer._hung_calls_max = 1
    memory.shelf(name).on_save.append(memory.waits_for(opened))
    worker.supply(1)
    worker.start()
    eventually(lambda: "retiring" in worker.sent_to_supervisor())
    assert worker.joined() == 0
    assert len(worker.queue.parked("in")) == 1
    opened.set()


def test_a_process_with_a_hung_call_retires_if_suspects_wait(make: Make) -> None:
    name = unique("hangs-")
    worker = make(storages=[storage(name, 0.01)])
    opened = threading.Event()
    memory.shelf(name).on_save.append(memory.waits_for(opened))
    worker.supply(1)
    worker.start()
    eventually(lambda: worker.queue.parked("in"))
    worker.queue.suspect("bad", "in")
    eventually(lambda: "retiring" in worker.sent_to_supervisor())
    assert worker.joined() == 0
    assert [one.deaths for one in worker.queue.suspects("in")] == [0]
    opened.set()


# ---- cancelling ----------------------------------------------------------------------------------


def test_a_running_item_that_is_cancelled_ends_before_its_next_link(make: Make, gate: Gate) -> None:
    ran: list[str] = []

    def late(vcon: Vcon, context: Any) -> Vcon:
        ran.append(context.uuid)
        return vcon

    worker = make(links=[link("a", gate), link("b", late)])
    [uuid] = worker.supply(1, subject="slow")
    with worker:
        gate.running("slow")
        assert cancel(worker.client, uuid).running == 1
        eventually(lambda: worker.loop._inbox.cancelled)
        gate.of("slow").set()
        eventually(lambda: worker.inflight == 0)
    assert (ran, worker.out()) == ([], [])
    assert worker.queue.places("in") == {}


def test_a_cancelled_item_whose_link_fails_is_not_tried_again(make: Make, gate: Gate) -> None:

    def fail(vcon: Vcon, context: Any) -> Vcon:
        gate(vcon, context)
        raise Retry(0.1, "later")

    worker = make(links=[link("a", fail)])
    [uuid] = worker.supply(1, subject="slow")
    with worker:
        gate.running("slow")
        assert cancel(worker.client, uuid).running == 1
        eventually(lambda: worker.loop._inbox.cancelled)
        gate.of("slow").set()
        eventually(lambda: worker.inflight == 0)
    assert worker.out() == []
    assert worker.queue.places("in") == {}


def test_a_cancelled_item_that_no_thread_has_started_is_not_released(make: Make) -> None:
    worker = make(links=[link("a", tag)])
    loop = worker.loop  # not started: what is claimed stays queued
    loop._intake.prefetch.durations.add("main", 0.001)
    first, second = worker.supply(2)
    loop._intake.claim()
    assert cancel(worker.client, first).running == 1
    loop._inbox.cancelled = loop._intake.read_cancelled(set())
    loop._release_unstarted(float("inf"), "shutdown")
    loop._outbox.flush()
    assert worker.queue.waiting("in") == [second.encode()]
    assert sum(worker.queue.places("in").values()) == 1
    assert worker.out() == []


def test_a_set_of_cancelled_items_of_another_type_is_logged(make: Make, gate: Gate) -> None:
    worker = make(links=[link("a", gate)])
    key = f"conserver:cancelled:{worker.boot.consumer}"
    worker.client.set(key, "x")
    worker.supply(1, subject="slow")
    with capture_logs() as lines, worker:
        gate.running("slow")
        eventually(lambda: [line for line in lines if line.get("key") == key])
        gate.of("slow").set()
        eventually(lambda: len(worker.out()) == 1)


# ---- strays and the end --------------------------------------------------------------------------


def test_an_item_that_only_redis_knows_of_is_returned(make: Make) -> None:
    """A failover has undone the settle of an item: it is in flight of a worker that lives."""
    worker = make(links=[link("a", tag)]).start()
    eventually(lambda: worker.loop._intake.claims >= 1)
    worker.queue.store("u1", document("u1"))
    worker.client.hset(keys.inflight(worker.boot.consumer), "token", record("token", "u1", "in"))
    worker.loop._strays_at_s = 0.0  # at once, and not within a minute
    eventually(lambda: worker.out() == ["u1"])
    assert worker.drain() == 0
    assert worker.queue.places("in") == {}


def test_a_drain_finishes_what_runs_and_releases_the_rest_in_order(make: Make, gate: Gate) -> None:
    worker = make(links=[link("a", gate)])
    warm = worker.supply(5)
    worker.start()
    arrived(worker, warm)
    [running] = worker.supply(1, subject="slow")
    rest = worker.supply(5)
    gate.running("slow")
    worker.send_drain()
    eventually(lambda: worker.queue.waiting("in") == [uuid.encode() for uuid in rest])
    assert worker.status.state is State.DRAINING
    gate.of("slow").set()
    assert worker.joined() == 0
    assert worker.out() == [*warm, running]
    assert worker.inflight == 0


def test_a_checkpoint_is_made_during_a_drain(make: Make, gate: Gate) -> None:
    def half(vcon: Vcon, context: Any) -> Vcon:
        gate(vcon, context)
        context.checkpoint()
        return vcon

    worker = make(links=[link("a", half), link("b", tag, costly=True), link("c", nothing)])
    [uuid] = worker.supply(1, subject="slow")
    worker.start()
    gate.running("slow")
    worker.send_drain()
    eventually(lambda: worker.status.state is State.DRAINING)
    gate.of("slow").set()
    assert worker.joined() == 0
    assert worker.out() == [uuid]


def test_a_drain_waits_for_look_ups_in_storages(make: Make, gate: Gate) -> None:
    name = unique("shelf-")
    opened = threading.Event()
    begun = threading.Event()
    worker = make(links=[link("a", gate)], storages=[storage(name)], vcon_concurrency=2)
    memory.shelf(name).on_get.append(memory.waits_for(opened, begun))
    worker.queue.push("in", "lost")
    worker.start()
    assert begun.wait(60)
    [running] = worker.supply(1, subject="slow")
    gate.running("slow")
    worker.send_drain()
    eventually(lambda: worker.status.state is State.DRAINING)
    gate.of("slow").set()
    opened.set()
    assert worker.joined() == 0
    assert worker.out() == [running]
    # No storage has it. It is dead-lettered, or released if no thread has started it by then.
    assert [*worker.queue.dead("in"), *worker.queue.waiting("in")] == [b"lost"]


def test_a_failed_item_is_parked_during_a_drain(make: Make, gate: Gate) -> None:
    def fail(vcon: Vcon, context: Any) -> Vcon:
        gate(vcon, context)
        raise Retry(60.0)

    worker = make(links=[link("a", fail)])
    worker.supply(1, subject="slow")
    worker.start()
    gate.running("slow")
    worker.send_drain()
    eventually(lambda: worker.status.state is State.DRAINING)
    gate.of("slow").set()
    assert worker.joined() == 0
    assert len(worker.queue.parked("in")) == 1


def test_a_worker_whose_registration_is_void_ends_at_once(make: Make, gate: Gate) -> None:
    worker = make(links=[link("a", gate)], tick_interval_ms=10, vcon_concurrency=2)
    worker.supply(1, subject="slow")
    worker.start()
    gate.running("slow")
    worker.client.hset(keys.host(worker.boot.host), f"consumer:{worker.boot.consumer}", "void")
    assert worker.joined() == 0
    assert "void" in worker.sent_to_supervisor()


@pytest.mark.parametrize("where", ["link", "checkpoint", "storage"])
def test_a_worker_ends_when_its_supervisor_is_gone(
    make: Make, gate: Gate, where: str, private: Private
) -> None:
    name = unique("shelf-")
    opened, begun = threading.Event(), threading.Event()

    def link_(vcon: Vcon, context: Any) -> Vcon:
        if vcon.view.get("subject") == "slow":
            begun.set()
            if where == "link":
                assert opened.wait(300)
            if where == "checkpoint":
                worker.loop._redis.close()
                proxy.stall()
                context.checkpoint()
        return vcon

    redis = private(Redis())
    with ExitStack() as stack:
        proxy = stack.enter_context(TcpProxy(redis.port))
        worker = RunningWorker(
            proxy.url(redis.url), links=[link("a", link_)], storages=[storage(name)]
        )
        stack.callback(worker.close)
        worker.loop._intake.prefetch.durations.add("main", 0.001)
        if where == "storage":
            memory.shelf(name).on_save.append(memory.waits_for(opened, begun))
        worker.supply(1, subject="slow")
        rest = worker.supply(3)
        worker.start()
        assert begun.wait(60)
        worker.cut_lifeline()
        worker.wait_for_end()
        assert isinstance(worker.failure, SupervisorGone)
        if where == "link":
            worker.loop.abandon()
            assert worker.queue.waiting("in") == [uuid.encode() for uuid in rest]
            assert worker.inflight == 1, "the coordinator returns the one that was started"
        proxy.flow()
        opened.set()


def test_a_worker_waits_for_redis_and_beats_meanwhile(private: Private, gate: Gate) -> None:
    redis = private(Redis())
    with ExitStack() as stack:
        proxy = stack.enter_context(TcpProxy(redis.port))
        worker = RunningWorker(proxy.url(redis.url), links=[link("a", gate)], tick_interval_ms=10)
        stack.callback(worker.close)
        uuids = worker.supply(2)
        worker.start()
        arrived(worker, uuids)
        proxy.stall()
        beaten = worker.status.read().heartbeats
        began_s = time.monotonic()
        eventually(lambda: worker.status.read().heartbeats >= beaten + 3)
        assert time.monotonic() - began_s < 30
        proxy.refuse()
        proxy.flow()
        beaten = worker.status.read().heartbeats
        eventually(lambda: worker.status.read().heartbeats >= beaten + 3)
        proxy.start()
        with clients.client(redis.url) as client:
            client.set("vcon:u9", document("u9"))
            client.rpush("in", "u9")
            eventually(lambda: client.lrange("out", 0, -1)[-1:] == [b"u9"])
        assert worker.drain() == 0


def test_a_drain_does_not_wait_for_redis_if_the_worker_holds_nothing(private: Private) -> None:
    redis = private(Redis())
    with ExitStack() as stack:
        worker = RunningWorker(redis.url, links=[link("a", tag)], tick_interval_ms=HOUR_MS)
        stack.callback(worker.close)
        uuids = worker.supply(1)
        worker.start()
        arrived(worker, uuids)
        eventually(lambda: b"I" in worker.sent_to_coordinator())
        redis.kill()
        worker.coordinator.send(wakeup.WAKE)
        eventually(lambda: worker.loop._redis.repeats > 1)
        worker.send_drain()
        worker.wait_for_end()
        assert isinstance(worker.failure, HoldsNothing)


def test_a_drain_waits_for_a_claim_that_may_have_taken_items(private: Private) -> None:
    redis = private(Redis())
    with ExitStack() as stack:
        proxy = stack.enter_context(TcpProxy(redis.port))
        worker = RunningWorker(
            proxy.url(redis.url), links=[link("a", tag)], tick_interval_ms=HOUR_MS
        )
        stack.callback(worker.close)
        uuids = worker.supply(1)
        worker.start()
        arrived(worker, uuids)
        eventually(lambda: b"I" in worker.sent_to_coordinator())
        proxy.stall()
        worker.coordinator.send(wakeup.WAKE)
        eventually(lambda: worker.loop._redis.unsure)
        worker.send_drain()
        eventually(lambda: worker.status.state is State.DRAINING)
        beaten = worker.status.read().heartbeats
        eventually(lambda: worker.status.read().heartbeats >= beaten + 3)
        with clients.client(redis.url) as client:
            client.set("vcon:u9", document("u9"))
            client.rpush("in", "u9")
        proxy.flow()
        assert worker.joined() == 0
        assert worker.inflight == 0, "the claim took the item, and the worker did not keep it"

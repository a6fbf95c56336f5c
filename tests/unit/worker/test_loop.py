"""worker.py: the keeper with its chain threads and writers, all of them real, in one process.

What has to happen in an order is held by gates; nothing here looks at how long something takes.
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
from conserver.queue import calls
from conserver.queue.cancellation import cancel
from conserver.queue.record import Progress
from conserver.vcon.document import Vcon
from conserver.worker.item import Item
from conserver.worker.loop import SupervisorGone
from tests.conftest import Private, unique
from tests.helpers import TcpProxy, eventually
from tests.modules import memory
from tests.queues import record
from tests.workers import RunningWorker, document, link, nothing, storage, tag

Make = Callable[..., RunningWorker]
HOUR_MS = 3_600_000


@pytest.fixture
def make(redis_url: str) -> Iterator[Make]:
    """Makes workshops that are not yet started."""
    with ExitStack() as stack:

        def made(*arguments: Any, **settings: Any) -> RunningWorker:
            worker = RunningWorker(redis_url, *arguments, **settings)
            stack.callback(worker.close)
            return worker

        yield made


class Gate:
    """A link that lets a vCon pass as soon as the test opens it for its subject."""

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
            assert self.of(subject).wait(60)
        return tag(vcon, context)

    def running(self, subject: str, times: int = 1) -> None:
        """Wait until it runs."""
        eventually(lambda: self.runs[subject] >= times)


@pytest.fixture
def gate() -> Iterator[Gate]:
    """All gates are opened at the end."""
    made = Gate()
    yield made
    for event in made._gates.values():
        event.set()


def arrived(worker: RunningWorker, uuids: list[str], name: str = "out") -> None:
    """Wait until exactly these are at an egress list."""
    eventually(lambda: sorted(worker.out(name)) == sorted(uuids), 20)


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
        arrived(worker, warm)  # its rate is known now: the next ones are claimed together
        fast = worker.supply(3)
        [slow] = worker.supply(1, subject="slow")
        gate.running("slow")
        arrived(worker, [*warm, *fast])
        gate.of("slow").set()
        arrived(worker, [*warm, *fast, slow])


def test_what_has_not_begun_for_a_second_is_given_back_and_left_to_others(
    make: Make, gate: Gate
) -> None:
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
        heartbeats = worker.status.read().heartbeats
        eventually(lambda: worker.status.read().heartbeats >= heartbeats + 3)
        assert worker.inflight == 1
        assert worker.loop._intake.claims == claims, "it does not take them again and again"
        gate.of("slow").set()
        arrived(worker, [*warm, "slow", *rest])


def test_a_chain_at_its_cap_claims_no_more_and_holds_nobody_up(make: Make, gate: Gate) -> None:
    # Idle threads had its next items claimed, which waited a second and were given back, for ever.
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
        heartbeats = worker.status.read().heartbeats
        most = 0

        def ten_more_looks() -> bool:
            nonlocal most
            most = max(most, worker.inflight)
            return worker.status.read().heartbeats >= heartbeats + 10

        eventually(ten_more_looks, 30)
        assert most == 1, "the one that runs"
        gate.of("slow").set()
        arrived(worker, [*free, *slow])
    assert gate.runs["slow"] == 5


def test_many_lists_are_served_in_their_order(make: Make) -> None:
    worker = make({"main": {"ingress_lists": [f"in{number}" for number in range(200)]}})
    uuids = [worker.supply(1, f"in{number}")[0] for number in reversed(range(200))]
    with worker:
        arrived(worker, uuids)
    assert worker.out()[0] == uuids[-1]


def test_an_item_that_owes_a_storage_is_with_its_writer_at_once(make: Make) -> None:
    name = unique("shelf-")
    worker = make(storages=[storage(name)], tick_interval_ms=HOUR_MS)
    worker.queue.store("u1", document("u1"))
    state = Progress(owed=[name]).dump()
    worker.client.rpush("conserver:returned:in", record("t1", "u1", "in", state=state))
    with worker:
        arrived(worker, ["u1"])


def test_a_worker_with_a_thread_to_spare_can_be_rung(make: Make, gate: Gate) -> None:
    # It said that it is idle when its keeper woke next, which a slow item let happen a tick later.
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


def test_a_storage_that_hangs_holds_nobody_up_and_its_items_are_parked(make: Make) -> None:
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


def test_the_page_tells_which_storages_are_away(make: Make) -> None:
    names = sorted((unique("shelf-"), unique("shelf-")))
    shelf = memory.shelf(names[1])
    shelf.on_save += [memory.away()]
    worker = make(links=[link("a", nothing)], storages=[storage(name) for name in names])
    with worker:
        worker.supply(1)
        eventually(lambda: worker.status.read().away == 0b10)

        def is_back() -> bool:
            worker.supply(1)  # one more to probe it with
            return worker.status.read().away == 0

        eventually(is_back)


def test_a_process_full_of_calls_that_hang_asks_to_be_replaced(make: Make) -> None:
    name = unique("hangs-")
    worker = make(storages=[storage(name, 0.01)])
    opened = threading.Event()
    writer = worker.loop._writers[name]
    writer._hung_most = 1
    memory.shelf(name).on_save.append(memory.waits_for(opened))
    worker.supply(1)
    worker.start()
    eventually(lambda: "retiring" in worker.sent_to_supervisor())
    assert worker.joined() == 0
    assert len(worker.queue.parked("in")) == 1
    opened.set()


def test_a_process_with_a_call_that_hangs_makes_room_for_suspects(make: Make) -> None:
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
    assert [one.deliveries for one in worker.queue.suspects("in")] == [0]
    opened.set()


# ---- cancelling ----------------------------------------------------------------------------------


def test_a_running_item_that_is_cancelled_ends_at_its_next_edge(make: Make, gate: Gate) -> None:
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


def test_what_is_cancelled_is_not_tried_again(make: Make, gate: Gate) -> None:
    """Its link fails after the operator's word: it would have come back as if nothing had been."""

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


def test_what_is_cancelled_is_not_given_back(make: Make) -> None:
    """An item that no thread has begun when the worker drains, or after a second."""
    worker = make(links=[link("a", tag)])
    loop = worker.loop  # its threads are not started: what is claimed waits
    loop._intake.prefetch.durations.add("main", 0.001)
    first, second = worker.supply(2)
    loop._intake.claim(loop._settling)
    assert cancel(worker.client, first).running == 1
    loop._look_for_cancelled()
    loop._release_unstarted(float("inf"), "shutdown")
    loop._outbox.flush()
    assert worker.queue.waiting("in") == [second.encode()]
    assert sum(worker.queue.places("in").values()) == 1
    assert worker.out() == []


def test_cancellations_that_cannot_be_read_end_no_worker(make: Make, gate: Gate) -> None:
    worker = make(links=[link("a", gate)])
    key = f"conserver:cancelled:{worker.boot.consumer}"
    worker.client.set(key, "x")
    worker.supply(1, subject="slow")
    with capture_logs() as lines, worker:
        gate.running("slow")
        eventually(lambda: [line for line in lines if line.get("key") == key])
        gate.of("slow").set()
        eventually(lambda: len(worker.out()) == 1)


# ---- the end -------------------------------------------------------------------------------------


def test_what_lies_under_a_worker_that_does_not_know_it_comes_back(make: Make) -> None:
    """A failover brings back an item that its worker has settled: nobody else would look there."""
    worker = make(links=[link("a", tag)]).start()
    eventually(lambda: worker.loop._intake.claims >= 1)
    worker.queue.store("u1", document("u1"))
    worker.client.hset(
        calls.inflight_key(worker.boot.consumer), "token", record("token", "u1", "in")
    )
    worker.loop._strays_at_s = 0.0  # else it looks once a minute
    eventually(lambda: worker.out() == ["u1"], 10)
    assert worker.drain() == 0
    assert worker.queue.places("in") == {}


def test_a_drain_finishes_what_runs_and_gives_back_the_rest_in_order(
    make: Make, gate: Gate
) -> None:
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


def test_a_drain_waits_for_storages_that_are_being_asked(make: Make, gate: Gate) -> None:
    name = unique("shelf-")
    opened = threading.Event()
    begun = threading.Event()
    worker = make(links=[link("a", gate)], storages=[storage(name)], vcon_concurrency=2)
    memory.shelf(name).on_get.append(memory.waits_for(opened, begun))
    worker.queue.push("in", "lost")
    worker.start()
    assert begun.wait(10)
    [running] = worker.supply(1, subject="slow")
    gate.running("slow")
    worker.send_drain()
    eventually(lambda: worker.status.state is State.DRAINING)
    gate.of("slow").set()
    opened.set()
    assert worker.joined() == 0
    assert worker.out() == [running]
    # Nobody has it. Whether a thread came to say so, or the drain was quicker, it is somewhere.
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
    worker.client.hset(calls.host_key(worker.boot.host), f"consumer:{worker.boot.consumer}", "void")
    assert worker.joined() == 0
    assert "void" in worker.sent_to_supervisor()


@pytest.mark.parametrize("where", ["link", "checkpoint", "storage"])
def test_when_the_supervisor_is_gone_the_worker_is_too(
    make: Make, gate: Gate, where: str, private: Private
) -> None:
    name = unique("shelf-")
    opened, begun = threading.Event(), threading.Event()

    def link_(vcon: Vcon, context: Any) -> Vcon:
        if vcon.view.get("subject") == "slow":
            begun.set()
            if where == "link":
                assert opened.wait(60)
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
        assert begun.wait(10)
        worker.cut_lifeline()
        worker.wait_for_end()
        assert isinstance(worker.failure, SupervisorGone)
        if where == "link":
            worker.loop.abandon()
            assert worker.queue.waiting("in") == [uuid.encode() for uuid in rest]
            assert worker.inflight == 1, "the coordinator returns what has begun"
        proxy.flow()
        opened.set()


def test_redis_away_kills_nobody_and_the_page_is_stamped(private: Private, gate: Gate) -> None:
    redis = private(Redis())
    with ExitStack() as stack:
        proxy = stack.enter_context(TcpProxy(redis.port))
        worker = RunningWorker(proxy.url(redis.url), links=[link("a", gate)], tick_interval_ms=10)
        stack.callback(worker.close)
        uuids = worker.supply(2)
        worker.start()
        arrived(worker, uuids)
        proxy.stall()
        heartbeats = worker.status.read().heartbeats
        began_s = time.monotonic()
        eventually(lambda: worker.status.read().heartbeats >= heartbeats + 3, 30)
        assert time.monotonic() - began_s < 10
        proxy.refuse()
        proxy.flow()
        heartbeats = worker.status.read().heartbeats
        eventually(lambda: worker.status.read().heartbeats >= heartbeats + 3, 30)
        proxy.start()
        with worker.beside(redis.url) as client:
            client.set("vcon:u9", document("u9"))
            client.rpush("in", "u9")
            eventually(lambda: client.lrange("out", 0, -1)[-1:] == [b"u9"], 20)
        assert worker.drain() == 0

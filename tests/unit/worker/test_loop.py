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
from tests.workshop import Workshop, document, link, nothing, storage, tag

Make = Callable[..., Workshop]
HOUR_MS = 3_600_000


@pytest.fixture
def make(redis_url: str) -> Iterator[Make]:
    """Makes workshops that are not yet started."""
    with ExitStack() as stack:

        def made(*arguments: Any, **settings: Any) -> Workshop:
            shop = Workshop(redis_url, *arguments, **settings)
            stack.callback(shop.leave)
            return shop

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


def arrived(shop: Workshop, uuids: list[str], name: str = "out") -> None:
    """Wait until exactly these are at an egress list."""
    eventually(lambda: sorted(shop.out(name)) == sorted(uuids), 20)


# ---- work ----------------------------------------------------------------------------------------


def test_many_items_go_through_links_checkpoints_and_storages_once_each(make: Make) -> None:
    shelves = [unique("one-"), unique("two-")]
    shop = make(
        links=[link("a", tag, costly=True), link("b", nothing)],
        storages=[storage(name) for name in shelves],
        vcon_concurrency=4,
    )
    uuids = shop.supply(300)
    whole = document("whole")
    shop.queue.push("in", whole)
    with shop:
        arrived(shop, [*uuids, "whole"])
        eventually(lambda: shop.held == 0)
        assert shop.status.read().items_done == 301
    for name in shelves:
        shelf = memory.shelf(name)
        assert shelf.documents.keys() == {*uuids, "whole"}
        assert all(Vcon.parse(one.body).tags == {"seen": "yes"} for one in shelf.documents.values())
    assert shop.queue.places("in") == {}


def test_nothing_is_kept_of_what_has_been_settled(make: Make) -> None:
    chain = unique("chain-")
    shop = make(
        {chain: {}},
        links=[link("a", tag)],
        storages=[storage(unique("shelf-"))],
        vcon_concurrency=2,
    )
    uuids = shop.supply(50)
    with shop:
        arrived(shop, uuids)

        def forgotten() -> bool:
            gc.collect()
            items = [one for one in gc.get_objects() if isinstance(one, Item)]
            return not any(one.route.name == chain for one in items)

        eventually(forgotten)
        eventually(lambda: shop.status.state is State.IDLE)


def test_a_finished_item_does_not_wait_for_its_batch_mate(make: Make, gate: Gate) -> None:
    shop = make(links=[link("a", gate)])
    warm = shop.supply(5)
    with shop:
        arrived(shop, warm)  # its rate is known now: the next ones are claimed together
        fast = shop.supply(3)
        [slow] = shop.supply(1, subject="slow")
        gate.running("slow")
        arrived(shop, [*warm, *fast])
        gate.of("slow").set()
        arrived(shop, [*warm, *fast, slow])


def test_what_has_not_begun_for_a_second_is_given_back_and_left_to_others(
    make: Make, gate: Gate
) -> None:
    shop = make(links=[link("a", gate)], tick_interval_ms=10)
    warm = shop.supply(20)
    with shop:
        arrived(shop, warm)
        rest = [f"u{number}" for number in range(10)]
        for uuid in ("slow", *rest):
            shop.queue.store(uuid, document(uuid, subject="slow" if uuid == "slow" else ""))
        shop.queue.push("in", "slow", *rest)  # all are claimed at once
        eventually(lambda: shop.queue.waiting("in") == [uuid.encode() for uuid in rest])
        claims = shop.loop._intake.claims
        beaten = shop.status.read().heartbeats
        eventually(lambda: shop.status.read().heartbeats >= beaten + 3)
        assert shop.held == 1
        assert shop.loop._intake.claims == claims, "it does not take them again and again"
        gate.of("slow").set()
        arrived(shop, [*warm, "slow", *rest])


def test_a_chain_at_its_cap_claims_no_more_and_holds_nobody_up(make: Make, gate: Gate) -> None:
    # Idle threads had its next items claimed, which waited a second and were given back, for ever.
    shop = make(
        {"capped": {"ingress_lists": ["c"], "concurrency": 1}, "free": {"ingress_lists": ["f"]}},
        links=[link("a", gate)],
        vcon_concurrency=4,
        tick_interval_ms=10,
    )
    slow = shop.supply(5, "c", subject="slow")
    with shop:
        gate.running("slow")
        free = shop.supply(20, "f")
        arrived(shop, free)
        beaten = shop.status.read().heartbeats
        most = 0

        def ten_more_looks() -> bool:
            nonlocal most
            most = max(most, shop.held)
            return shop.status.read().heartbeats >= beaten + 10

        eventually(ten_more_looks, 30)
        assert most == 1, "the one that runs"
        gate.of("slow").set()
        arrived(shop, [*free, *slow])
    assert gate.runs["slow"] == 5


def test_many_lists_are_served_in_their_order(make: Make) -> None:
    shop = make({"main": {"ingress_lists": [f"in{number}" for number in range(200)]}})
    uuids = [shop.supply(1, f"in{number}")[0] for number in reversed(range(200))]
    with shop:
        arrived(shop, uuids)
    assert shop.out()[0] == uuids[-1]


def test_an_item_that_owes_a_storage_is_with_its_writer_at_once(make: Make) -> None:
    name = unique("shelf-")
    shop = make(storages=[storage(name)], tick_interval_ms=HOUR_MS)
    shop.queue.store("u1", document("u1"))
    state = Progress(owed=[name]).dump()
    shop.client.rpush("conserver:returned:in", record("t1", "u1", "in", state=state))
    with shop:
        arrived(shop, ["u1"])


def test_a_worker_with_a_thread_to_spare_can_be_rung(make: Make, gate: Gate) -> None:
    # It said that it is idle when its keeper woke next, which a slow item let happen a tick later.
    shop = make(links=[link("a", gate)], vcon_concurrency=2, tick_interval_ms=HOUR_MS)
    shop.supply(1, subject="slow")
    with shop:
        gate.running("slow")
        said: list[bytes] = []

        def idle() -> bool:
            said.extend(shop.words_to_coordinator())
            return b"".join(said).endswith(wakeup.IDLE)

        eventually(idle)
        [second] = shop.supply(1)
        shop.coordinator.send(wakeup.WAKE)
        arrived(shop, [second])
        gate.of("slow").set()


def test_a_storage_that_hangs_holds_nobody_up_and_its_items_are_parked(make: Make) -> None:
    hangs, works = unique("hangs-"), unique("works-")
    opened = threading.Event()
    shop = make(
        {
            "one": {"ingress_lists": ["one"], "storages": [hangs]},
            "two": {"ingress_lists": ["two"], "storages": [works]},
        },
        storages=[storage(hangs, 0.1), storage(works)],
    )
    memory.shelf(hangs).on_save.append(memory.waits_for(opened))
    stuck, free = shop.supply(1, "one"), shop.supply(5, "two")
    with shop:
        arrived(shop, free)
        eventually(lambda: len(shop.queue.parked("one")) == 1)
        assert shop.held == 0
        opened.set()
        eventually(lambda: shop.queue.promote("one") or shop.out().count(stuck[0]))


def test_the_page_tells_which_storages_are_away(make: Make) -> None:
    names = sorted((unique("shelf-"), unique("shelf-")))
    shelf = memory.shelf(names[1])
    shelf.on_save += [memory.away()]
    shop = make(links=[link("a", nothing)], storages=[storage(name) for name in names])
    with shop:
        shop.supply(1)
        eventually(lambda: shop.status.read().away == 0b10)

        def is_back() -> bool:
            shop.supply(1)  # one more to probe it with
            return shop.status.read().away == 0

        eventually(is_back)


def test_a_process_full_of_calls_that_hang_asks_to_be_replaced(make: Make) -> None:
    name = unique("hangs-")
    shop = make(storages=[storage(name, 0.01)])
    opened = threading.Event()
    writer = shop.loop._writers[name]
    writer._hung_most = 1
    memory.shelf(name).on_save.append(memory.waits_for(opened))
    shop.supply(1)
    shop.start()
    eventually(lambda: "retiring" in shop.told())
    assert shop.joined() == 0
    assert len(shop.queue.parked("in")) == 1
    opened.set()


def test_a_process_with_a_call_that_hangs_makes_room_for_suspects(make: Make) -> None:
    name = unique("hangs-")
    shop = make(storages=[storage(name, 0.01)])
    opened = threading.Event()
    memory.shelf(name).on_save.append(memory.waits_for(opened))
    shop.supply(1)
    shop.start()
    eventually(lambda: shop.queue.parked("in"))
    shop.queue.suspect("bad", "in")
    eventually(lambda: "retiring" in shop.told())
    assert shop.joined() == 0
    assert [one.deliveries for one in shop.queue.suspects("in")] == [0]
    opened.set()


# ---- cancelling ----------------------------------------------------------------------------------


def test_a_running_item_that_is_cancelled_ends_at_its_next_edge(make: Make, gate: Gate) -> None:
    ran: list[str] = []

    def late(vcon: Vcon, context: Any) -> Vcon:
        ran.append(context.uuid)
        return vcon

    shop = make(links=[link("a", gate), link("b", late)])
    [uuid] = shop.supply(1, subject="slow")
    with shop:
        gate.running("slow")
        assert cancel(shop.client, uuid).running == 1
        eventually(lambda: shop.loop._cancelled)
        gate.of("slow").set()
        eventually(lambda: shop.held == 0)
    assert (ran, shop.out()) == ([], [])
    assert shop.queue.places("in") == {}


def test_what_is_cancelled_is_not_tried_again(make: Make, gate: Gate) -> None:
    """Its link fails after the operator's word: it would have come back as if nothing had been."""

    def fail(vcon: Vcon, context: Any) -> Vcon:
        gate(vcon, context)
        raise Retry(0.1, "later")

    shop = make(links=[link("a", fail)])
    [uuid] = shop.supply(1, subject="slow")
    with shop:
        gate.running("slow")
        assert cancel(shop.client, uuid).running == 1
        eventually(lambda: shop.loop._cancelled)
        gate.of("slow").set()
        eventually(lambda: shop.held == 0)
    assert shop.out() == []
    assert shop.queue.places("in") == {}


def test_what_is_cancelled_is_not_given_back(make: Make) -> None:
    """An item that no thread has begun when the worker drains, or after a second."""
    shop = make(links=[link("a", tag)])
    loop = shop.loop  # its threads are not started: what is claimed waits
    loop._intake.meter.add("main", 0.001)
    first, second = shop.supply(2)
    loop._intake.claim(loop._settling)
    assert cancel(shop.client, first).running == 1
    loop._look_for_cancelled()
    loop._release_unstarted(float("inf"), "shutdown")
    loop._outbox.flush()
    assert shop.queue.waiting("in") == [second.encode()]
    assert sum(shop.queue.places("in").values()) == 1
    assert shop.out() == []


def test_cancellations_that_cannot_be_read_end_no_worker(make: Make, gate: Gate) -> None:
    shop = make(links=[link("a", gate)])
    key = f"conserver:cancelled:{shop.boot.consumer}"
    shop.client.set(key, "x")
    shop.supply(1, subject="slow")
    with capture_logs() as lines, shop:
        gate.running("slow")
        eventually(lambda: [line for line in lines if line.get("key") == key])
        gate.of("slow").set()
        eventually(lambda: len(shop.out()) == 1)


# ---- the end -------------------------------------------------------------------------------------


def test_what_lies_under_a_worker_that_does_not_know_it_comes_back(make: Make) -> None:
    """A failover brings back an item that its worker has settled: nobody else would look there."""
    shop = make(links=[link("a", tag)]).start()
    eventually(lambda: shop.loop._intake.claims >= 1)
    shop.queue.store("u1", document("u1"))
    shop.client.hset(calls.inflight_key(shop.boot.consumer), "token", record("token", "u1", "in"))
    shop.loop._strays_at_s = 0.0  # else it looks once a minute
    eventually(lambda: shop.out() == ["u1"], 10)
    assert shop.end() == 0
    assert shop.queue.places("in") == {}


def test_a_drain_finishes_what_runs_and_gives_back_the_rest_in_order(
    make: Make, gate: Gate
) -> None:
    shop = make(links=[link("a", gate)])
    warm = shop.supply(5)
    shop.start()
    arrived(shop, warm)
    [running] = shop.supply(1, subject="slow")
    rest = shop.supply(5)
    gate.running("slow")
    shop.tell_to_drain()
    eventually(lambda: shop.queue.waiting("in") == [uuid.encode() for uuid in rest])
    assert shop.status.state is State.DRAINING
    gate.of("slow").set()
    assert shop.joined() == 0
    assert shop.out() == [*warm, running]
    assert shop.held == 0


def test_a_checkpoint_is_made_during_a_drain(make: Make, gate: Gate) -> None:
    def half(vcon: Vcon, context: Any) -> Vcon:
        gate(vcon, context)
        context.checkpoint()
        return vcon

    shop = make(links=[link("a", half), link("b", tag, costly=True), link("c", nothing)])
    [uuid] = shop.supply(1, subject="slow")
    shop.start()
    gate.running("slow")
    shop.tell_to_drain()
    eventually(lambda: shop.status.state is State.DRAINING)
    gate.of("slow").set()
    assert shop.joined() == 0
    assert shop.out() == [uuid]


def test_a_drain_waits_for_storages_that_are_being_asked(make: Make, gate: Gate) -> None:
    name = unique("shelf-")
    opened = threading.Event()
    begun = threading.Event()
    shop = make(links=[link("a", gate)], storages=[storage(name)], vcon_concurrency=2)
    memory.shelf(name).on_get.append(memory.waits_for(opened, begun))
    shop.queue.push("in", "lost")
    shop.start()
    assert begun.wait(10)
    [running] = shop.supply(1, subject="slow")
    gate.running("slow")
    shop.tell_to_drain()
    eventually(lambda: shop.status.state is State.DRAINING)
    gate.of("slow").set()
    opened.set()
    assert shop.joined() == 0
    assert shop.out() == [running]
    # Nobody has it. Whether a thread came to say so, or the drain was quicker, it is somewhere.
    assert [*shop.queue.dead("in"), *shop.queue.waiting("in")] == [b"lost"]


def test_a_failed_item_is_parked_during_a_drain(make: Make, gate: Gate) -> None:
    def fail(vcon: Vcon, context: Any) -> Vcon:
        gate(vcon, context)
        raise Retry(60.0)

    shop = make(links=[link("a", fail)])
    shop.supply(1, subject="slow")
    shop.start()
    gate.running("slow")
    shop.tell_to_drain()
    eventually(lambda: shop.status.state is State.DRAINING)
    gate.of("slow").set()
    assert shop.joined() == 0
    assert len(shop.queue.parked("in")) == 1


def test_a_worker_whose_registration_is_void_ends_at_once(make: Make, gate: Gate) -> None:
    shop = make(links=[link("a", gate)], tick_interval_ms=10, vcon_concurrency=2)
    shop.supply(1, subject="slow")
    shop.start()
    gate.running("slow")
    shop.client.hset(calls.host_key(shop.boot.host), f"consumer:{shop.boot.consumer}", "void")
    assert shop.joined() == 0
    assert "void" in shop.told()


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
                shop.loop._line.close()
                proxy.stall()
                context.checkpoint()
        return vcon

    redis = private(Redis())
    with ExitStack() as stack:
        proxy = stack.enter_context(TcpProxy(redis.port))
        shop = Workshop(proxy.url(redis.url), links=[link("a", link_)], storages=[storage(name)])
        stack.callback(shop.leave)
        shop.loop._intake.meter.add("main", 0.001)
        if where == "storage":
            memory.shelf(name).on_save.append(memory.waits_for(opened, begun))
        shop.supply(1, subject="slow")
        rest = shop.supply(3)
        shop.start()
        assert begun.wait(10)
        shop.cut_lifeline()
        shop.joined_or_gone()
        assert isinstance(shop.failure, SupervisorGone)
        if where == "link":
            shop.loop.abandon()
            assert shop.queue.waiting("in") == [uuid.encode() for uuid in rest]
            assert shop.held == 1, "the coordinator returns what has begun"
        proxy.flow()
        opened.set()


def test_redis_away_kills_nobody_and_the_page_is_stamped(private: Private, gate: Gate) -> None:
    redis = private(Redis())
    with ExitStack() as stack:
        proxy = stack.enter_context(TcpProxy(redis.port))
        shop = Workshop(proxy.url(redis.url), links=[link("a", gate)], tick_interval_ms=10)
        stack.callback(shop.leave)
        uuids = shop.supply(2)
        shop.start()
        arrived(shop, uuids)
        proxy.stall()
        beaten = shop.status.read().heartbeats
        began_s = time.monotonic()
        eventually(lambda: shop.status.read().heartbeats >= beaten + 3, 30)
        assert time.monotonic() - began_s < 10
        proxy.refuse()
        proxy.flow()
        beaten = shop.status.read().heartbeats
        eventually(lambda: shop.status.read().heartbeats >= beaten + 3, 30)
        proxy.start()
        with shop.beside(redis.url) as client:
            client.set("vcon:u9", document("u9"))
            client.rpush("in", "u9")
            eventually(lambda: client.lrange("out", 0, -1)[-1:] == [b"u9"], 20)
        assert shop.end() == 0

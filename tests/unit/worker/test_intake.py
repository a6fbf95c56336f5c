"""intake.py: how much is claimed and when, what the coordinator is told, and how documents come
in."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import pairwise
from typing import Any

import orjson
import pytest
from structlog.testing import capture_logs

from conserver.process import wakeup
from conserver.process.shared_status import ITEMS_MAX, Phase
from conserver.queue import calls, script
from conserver.queue.record import Progress
from conserver.vcon.document import Vcon
from conserver.worker import intake
from conserver.worker.pool import ItemDurations
from tests.conftest import unique
from tests.helpers import eventually
from tests.modules import memory
from tests.queues import record
from tests.workers import FAST_S, SteppedWorker, document, link, nothing, storage, tag

Make = Callable[..., SteppedWorker]
HOUR_MS = 3_600_000
TWO = {"fast": {"ingress_lists": ["f"]}, "slow": {"ingress_lists": ["s"]}}


@pytest.fixture
def make(redis_url: str) -> Iterator[Make]:
    """Makes benches."""
    with ExitStack() as stack:
        yield lambda *arguments, **settings: stack.enter_context(
            SteppedWorker(redis_url, *arguments, **settings)
        )


def ring(worker: SteppedWorker, word: bytes = wakeup.WAKE) -> None:
    """The coordinator says something."""
    worker.coordinator.send(word)
    worker.schedule.receive()


def slow_down(worker: SteppedWorker, chain: str) -> None:
    worker.durations.add(chain, 60.0)


def speed_up(worker: SteppedWorker, chain: str) -> None:
    for _ in range(200):
        worker.durations.add(chain, FAST_S)


# ---- how much ------------------------------------------------------------------------------------


def test_claims_what_the_threads_finish_within_the_horizon(make: Make) -> None:
    worker = make()
    worker.supply(300)
    worker.durations = ItemDurations()
    worker.durations.add("main", 0.002)
    worker.claim_if_due()
    assert len(worker.held.by_token) == 50
    assert worker.inflight == 50


def test_one_call_claims_so_many_at_most(make: Make) -> None:
    worker = make()
    worker.supply(300)
    worker.claim_if_due()
    assert worker.inflight == calls.BATCH_ITEMS


def test_while_enough_waits_nothing_is_claimed(make: Make) -> None:
    worker = make()
    worker.supply(300)
    worker.claim_if_due()
    claims = worker.intake.claims
    worker.claim_if_due()
    assert worker.intake.claims == claims
    assert worker.intake.next_claim_s(0.0) is None, "only an item that ends makes room"


def test_a_worker_holds_no_more_than_its_page_has_places(make: Make) -> None:
    worker = make(storages=[storage(unique("shelf-"))])
    worker.supply(ITEMS_MAX + 50)
    for _ in range(4):
        worker.claim_if_due()
        worker.run(*worker.take_queued())
    assert worker.inflight == ITEMS_MAX
    worker.flush()
    claims = worker.intake.claims
    worker.claim_if_due()
    assert worker.intake.claims == claims


def test_places_are_not_filled_up_one_by_one(make: Make) -> None:
    # Many small claims cost more than they bring.
    worker = make()
    worker.supply(ITEMS_MAX + 50)
    held = []
    for _ in range(2):
        worker.claim_if_due()
        held += worker.take_queued()
    assert len(held) == ITEMS_MAX
    for item in held[:31]:
        worker.held.remove(item)
    claims = worker.intake.claims
    worker.claim_if_due()
    assert worker.intake.claims == claims
    worker.held.remove(held[31])
    worker.claim_if_due()
    assert worker.intake.claims == claims + 1


def test_a_worker_holds_no_more_than_64_mib_and_one_claim(
    make: Make, redis_session_url: str
) -> None:
    worker = make()
    large = "x" * (1 << 20)
    uuids = worker.supply(1)
    body = document(uuids[0], attachments=[{"body": large}])
    worker.client.set(f"vcon:{uuids[0]}", body)
    worker.client.rpush("in", *(uuids[0] for _ in range(120)))
    counts = []
    for _ in range(40):
        worker.claim_if_due()
        worker.take_queued()
        counts.append(len(worker.held.by_token))
    size = len(body)
    most = intake.HELD_BYTES_MAX + size
    assert intake.HELD_BYTES_MAX <= counts[-1] * size <= most
    assert max(b - a for a, b in pairwise(counts)) <= 4, (
        "a claim has 4 MiB of documents, those that it does not carry included"
    )
    for item in list(worker.held.by_token.values()):
        worker.held.remove(item)
    assert worker.held.document_bytes == 0
    assert worker.held.free_slots == ITEMS_MAX


def test_slow_items_are_claimed_only_by_idle_threads(make: Make) -> None:
    worker = make()
    worker.supply(5)
    slow_down(worker, "main")
    worker.idle = False
    worker.claim_if_due()
    assert worker.intake.claims == 0
    worker.idle = True
    worker.claim_if_due()
    assert (worker.intake.claims, worker.inflight) == (1, 1)


# ---- when, and what the coordinator is told
# ----------------------------------------------------------


def test_an_answer_that_left_nothing_behind_is_as_good_as_an_empty_one(make: Make) -> None:
    worker = make(tick_interval_ms=HOUR_MS)
    worker.supply(2)
    worker.claim_if_due()
    assert worker.sent_to_coordinator() == [wakeup.ANSWERED]
    worker.run_queued()
    worker.claim_if_due()
    assert worker.intake.claims == 1, "no empty claim: the bell takes what comes next"
    assert worker.sent_to_coordinator() == [wakeup.IDLE]
    worker.claim_if_due()
    assert worker.sent_to_coordinator() == [], "said once"
    worker.supply(1)
    ring(worker)
    worker.claim_if_due()
    assert worker.intake.claims == 2
    assert worker.sent_to_coordinator() == [wakeup.ANSWERED]


def test_what_is_left_behind_is_told_and_claimed_as_soon_as_there_is_room(make: Make) -> None:
    worker = make(tick_interval_ms=HOUR_MS)
    worker.supply(250)
    worker.claim_if_due()
    assert worker.sent_to_coordinator() == [wakeup.MORE]
    worker.run_queued()
    worker.claim_if_due()
    assert worker.sent_to_coordinator() == [wakeup.ANSWERED]
    assert worker.intake.claims == 2


def test_it_looks_by_itself_when_nobody_rings(make: Make) -> None:
    worker = make(tick_interval_ms=10)
    worker.claim_if_due()
    worker.supply(1)

    def claimed() -> bool:
        worker.claim_if_due()
        return worker.inflight == 1

    eventually(claimed)


def test_a_claim_of_nothing_makes_it_idle_at_once(make: Make) -> None:
    # It said so the next time around, and by then the next claim was due: it never did.
    worker = make()
    worker.claim_if_due()
    assert worker.sent_to_coordinator() == [wakeup.IDLE]


def test_it_is_idle_only_while_a_thread_is(make: Make) -> None:
    # It was rung for an item that it could not begin, and the item lay there for a second.
    worker = make(TWO, tick_interval_ms=HOUR_MS)
    worker.idle = False
    worker.claim_if_due()
    worker.claim_if_due()
    assert worker.intake.claims == 1
    assert worker.sent_to_coordinator() == []
    worker.idle = True
    worker.claim_if_due()
    assert worker.intake.claims == 1
    assert worker.sent_to_coordinator() == [wakeup.IDLE]


def test_a_chain_that_was_left_out_is_asked_as_soon_as_it_has_room(make: Make) -> None:
    # After a claim of the other chain had come back empty, it waited for a tick.
    worker = make(TWO, tick_interval_ms=HOUR_MS)
    worker.supply(1, "s")
    slow_down(worker, "slow")
    worker.idle = False
    worker.claim_if_due()
    assert (worker.intake.claims, worker.inflight) == (1, 0)
    worker.idle = True
    worker.claim_if_due()
    assert (worker.intake.claims, worker.inflight) == (2, 1)
    worker.claim_if_due()
    assert worker.intake.claims == 2


CAPPED = {
    "fast": {"ingress_lists": ["f"]},
    "slow": {"ingress_lists": ["s"], "concurrency": 1},
}


def test_a_worker_whose_chain_is_full_passes_what_it_was_rung_for(make: Make) -> None:
    # It said that it was idle, as if there had been nothing, and the item waited for a tick.
    worker = make(CAPPED, tick_interval_ms=HOUR_MS, vcon_concurrency=2)
    slow_down(worker, "slow")
    worker.work_queue.running["slow"] = 1
    worker.supply(1, "s")
    ring(worker)
    worker.claim_if_due()
    assert worker.inflight == 0
    assert worker.sent_to_coordinator() == [wakeup.PASSED]
    worker.supply(1, "f")
    ring(worker)
    worker.claim_if_due()
    assert worker.inflight == 1
    assert worker.sent_to_coordinator() == [wakeup.MORE], "what it was rung for may still wait"
    worker.run_queued()
    worker.work_queue.running["slow"] = 0
    worker.claim_if_due()
    assert worker.inflight == 1, "as soon as there is room, without a bell"


def test_a_worker_without_any_room_says_so_when_it_is_rung(make: Make) -> None:
    # It did not answer, and the next one was rung a second later.
    worker = make(
        {"slow": {"ingress_lists": ["s"], "concurrency": 1}},
        tick_interval_ms=HOUR_MS,
        vcon_concurrency=2,
    )
    worker.claim_if_due()
    assert worker.sent_to_coordinator() == [wakeup.IDLE]
    worker.work_queue.running["slow"] = 1
    slow_down(worker, "slow")
    worker.supply(1, "s")
    ring(worker)
    worker.claim_if_due()
    worker.claim_if_due()
    assert worker.sent_to_coordinator() == [wakeup.BUSY]
    worker.work_queue.running["slow"] = 0
    worker.claim_if_due()
    assert worker.inflight == 1


def test_a_list_full_of_poison_does_not_make_it_wait(make: Make) -> None:
    worker = make(tick_interval_ms=HOUR_MS)
    for number in range(300):
        poison = record(f"t{number}", f"u{number}", "in", deliveries=3)
        worker.client.rpush("conserver:returned:in", poison)
    [uuid] = worker.supply(1)
    for _ in range(4):
        worker.claim_if_due()
    assert [item.uuid for item in worker.take_queued()] == [uuid]
    assert len(worker.queue.dead("in")) == 300


def test_a_void_registration_ends_the_worker(make: Make) -> None:
    worker = make()
    worker.client.delete(calls.host_key(worker.boot.host))
    assert not worker.intake.claim(worker.outcomes)
    assert b"void" in worker.supervisor.recv(1000)


def complaints(worker: SteppedWorker) -> list[tuple[str, str, str]]:
    """What is told of keys when the worker looks twice."""
    with capture_logs() as lines:
        for _ in range(2):
            ring(worker)
            worker.claim_if_due()
    return [(line["event"], line["key"], line["found"]) for line in lines]


def test_a_list_of_another_type_is_told_of_and_the_others_are_served(make: Make) -> None:
    worker = make(TWO)
    worker.queue.make_key("f", "hash")
    worker.supply(1, "s")
    assert complaints(worker) == [("wrong_type", "f", "hash")]
    assert worker.inflight == 1


def test_a_host_key_that_is_none_is_told_of_and_waited_for(make: Make) -> None:
    worker = make()
    worker.supply(1)
    key = calls.host_key(worker.boot.host)
    kept = worker.client.dump(key)
    worker.client.set(key, "x")
    assert complaints(worker) == [("wrong_type", key, "string")]
    assert worker.inflight == 0
    worker.client.restore(key, 0, kept, replace=True)
    ring(worker)
    worker.claim_if_due()
    assert worker.inflight == 1


def test_what_the_claim_itself_has_buried_is_told_as_a_dead_letter(make: Make) -> None:
    worker = make(max_payload_bytes=1000)
    body = document("large", subject="x" * 2000)
    worker.queue.suspect("bad", "in", deliveries=3)
    worker.queue.push("in", body)
    with capture_logs() as lines:
        worker.claim_if_due()
    told = [line for line in lines if line["event"] == "dead_letter"]
    assert [(line["vcon"], line["chain"], line["list"], line["reason"]) for line in told] == [
        ("bad", "main", "in", "poison"),
        ("large", "main", "in", "oversized"),
    ]
    assert told[0]["deliveries"] == 3
    assert "died 3 times" in told[0]["error"]
    assert all(line["log_level"] == "error" for line in told)
    assert worker.status.read().items_failed == 2, "status counts them too"


# ---- progress and its document -------------------------------------------------------------------


def test_what_was_done_for_a_document_that_was_replaced_is_done_again(make: Make) -> None:
    """Its storages would differ for ever, and the corrected one would lack what its chain does."""
    name = unique("shelf-")
    worker = make(links=[link("a", tag)], storages=[storage(name)])
    memory.shelf(name).on_save.append(memory.away())
    [uuid] = worker.supply(1)
    worker.run(worker.claim_one())
    worker.store()
    [parked] = worker.queue.parked("in")
    assert Progress.load(parked.state).owed == [name]
    worker.queue.store(uuid, document(uuid, subject="corrected"))
    worker.queue.promote("in")
    item = worker.claim_one()
    assert item.progress.links == []
    assert item.progress.owed is None
    worker.run(item)
    worker.flush()
    written = Vcon.parse(worker.client.get(f"vcon:{uuid}") or b"")
    assert (written.data["subject"], written.tags) == ("corrected", {"seen": "yes"})
    assert item.progress.owed == [name], "all storages get it, also those that had the old one"


def test_what_has_been_tried_counts_although_the_document_was_replaced(make: Make) -> None:
    worker = make(links=[link("a", tag)])
    progress = Progress(links=["a"], attempts=2, failures=2, runs={"a": 2}, error="no")
    worker.queue.store("u1", document("u1"))
    text = record("token", "u1", "in", state=progress.dump(), revision=0)
    worker.client.rpush("conserver:returned:in", text)
    item = worker.claim_one()
    assert item.claimed.replaced, "it is about no revision that is known"
    assert item.progress == Progress(attempts=2, failures=2, runs={"a": 2}, error="no")
    item.revert_to_saved()
    assert item.progress.attempts == 2


# ---- suspects ------------------------------------------------------------------------------------


def test_a_suspect_is_claimed_alone_and_marked_before_it_runs(make: Make) -> None:
    worker = make(tick_interval_ms=HOUR_MS)
    worker.supply(3)
    worker.queue.store("bad", document("bad"))
    worker.queue.suspect("bad", "in", deliveries=1)
    [suspect] = worker.claim()
    assert suspect.uuid == "bad"
    assert b" 1 sb " in worker.client.hvals(calls.inflight_key(worker.boot.consumer))[0]
    ring(worker)
    worker.claim_if_due()
    assert worker.inflight == 1, "nothing beside it"
    worker.run(suspect)
    worker.flush()
    worker.claim_if_due()
    assert worker.inflight == 3, "and then the others at once"


def test_nothing_is_claimed_beside_a_suspect_although_redis_has_forgotten_it(make: Make) -> None:
    """A failover undid its claim: to Redis this worker is as good as any other."""
    worker = make(tick_interval_ms=HOUR_MS)
    worker.queue.store("bad", document("bad"))
    worker.queue.suspect("bad", "in")
    [suspect] = worker.claim()
    worker.client.delete(calls.inflight_key(worker.boot.consumer))
    worker.client.hdel(calls.host_key(worker.boot.host), "suspect")
    worker.supply(3)
    ring(worker)
    worker.claim_if_due()
    assert [*worker.held.by_token.values()] == [suspect]
    worker.run(suspect)
    worker.flush()
    worker.claim_if_due()
    assert worker.inflight == 3


def test_who_holds_something_gets_no_suspect_although_redis_has_forgotten_it(make: Make) -> None:
    """A failover undid the claim of an ordinary item, which is at work."""
    worker = make(tick_interval_ms=HOUR_MS)
    worker.supply(1)
    [item] = worker.claim()
    worker.client.delete(calls.inflight_key(worker.boot.consumer))
    worker.queue.store("bad", document("bad"))
    worker.queue.suspect("bad", "in")
    ring(worker)
    worker.claim_if_due()
    assert [*worker.held.by_token.values()] == [item]
    assert worker.queue.suspects("in")


def test_no_suspect_runs_beside_a_call_that_hangs(make: Make, shelves: list[str]) -> None:
    """That call may crash the process later, and the suspect would be counted for it."""
    worker = make(storages=[storage(shelves[0], 0.05)], tick_interval_ms=HOUR_MS)
    gate = threading.Event()
    memory.shelf(shelves[0]).on_save.append(memory.waits_for(gate))
    worker.supply(1)
    worker.run(worker.claim_one())
    worker.flush()
    worker.outcomes.flush()
    writer = worker.writers[shelves[0]]

    def given_up() -> bool:
        writer.check_timeout()
        return bool(worker.inbox.reports)

    eventually(given_up)
    worker.receive_report()
    worker.flush()
    assert worker.held.by_token == {}
    worker.queue.store("bad", document("bad"))
    worker.queue.suspect("bad", "in")
    ring(worker)
    worker.claim_if_due()
    assert worker.held.by_token == {}
    assert worker.schedule.suspects_wait
    gate.set()
    eventually(lambda: not writer.has_hung_calls)
    [suspect] = worker.claim()
    assert suspect.uuid == "bad"


def test_a_suspect_that_was_taken_away_before_it_ran_is_dropped(make: Make) -> None:
    def steal(worker: SteppedWorker, words: tuple[Any, ...]) -> None:
        if script.load("begin").sha in words:
            worker.client.delete(calls.inflight_key(worker.boot.consumer))

    worker = make(before_command=steal)
    worker.queue.store("bad", document("bad"))
    worker.queue.suspect("bad", "in")
    ring(worker)
    worker.claim_if_due()
    assert worker.held.by_token == {}
    assert worker.status.read().items == ()
    assert worker.take_queued() == []
    worker.supply(1)
    ring(worker)
    worker.claim_if_due()
    assert worker.inflight == 1


def test_a_busy_worker_tells_of_suspects_and_is_emptied_for_them(make: Make) -> None:
    worker = make(tick_interval_ms=HOUR_MS)
    worker.supply(1)
    [item] = worker.claim()
    worker.sent_to_coordinator()
    worker.queue.store("bad", document("bad"))
    worker.queue.suspect("bad", "in")
    worker.supply(3)
    ring(worker)
    worker.claim_if_due()
    assert wakeup.SUSPECTS in worker.sent_to_coordinator()
    busy = [item, *worker.take_queued()]
    worker.supply(1)
    ring(worker, wakeup.EMPTY)
    worker.claim_if_due()
    assert worker.inflight == 4, "it takes nothing more"
    worker.run(*busy)
    worker.flush()
    [suspect] = worker.claim()
    assert suspect.uuid == "bad"


# ---- what it holds -------------------------------------------------------------------------------


def test_a_claimed_item_is_on_the_page_until_it_ends(make: Make) -> None:
    worker = make()
    [uuid] = worker.supply(1)
    item = worker.claim_one()
    [shown] = worker.status.read().items
    assert (shown.phase, shown.token, shown.epoch) == (Phase.HELD, item.token, 1)
    assert (shown.uuid, shown.chain) == (uuid, "main")
    worker.run(item)
    worker.flush()
    assert worker.status.read().items == ()
    worker.held.remove(item)
    assert worker.held.free_slots == ITEMS_MAX, "ended twice, it gives its place back once"


def test_the_page_knows_the_uuid_of_a_pushed_document_while_its_links_run(make: Make) -> None:
    """Whoever dies of it is blamed by a name that an operator can look for."""
    worker: SteppedWorker
    shown: list[str] = []

    def look(vcon: Vcon, _context: Any) -> Vcon:
        shown.extend(item.uuid for item in worker.status.read().items)
        return vcon

    worker = make(links=[link("look", look)])
    worker.queue.push("in", document("u1"))
    worker.run(worker.claim_one())
    assert shown == ["u1"]


def test_an_item_that_comes_again_under_its_token_is_another_one(make: Make) -> None:
    # A failover undid a claim: the end of the old one took the new one's place.
    worker = make()
    worker.queue.store("u1", document("u1"))
    text = record("token", "u1", "in", state=Progress(attempts=1).dump())
    worker.client.rpush("conserver:returned:in", text)
    first = worker.claim_one()
    worker.client.delete(calls.inflight_key(worker.boot.consumer))
    worker.client.rpush("conserver:returned:in", text)
    second = worker.claim_one()
    assert first.token == second.token
    worker.run(first)
    worker.flush()
    assert worker.held.by_token == {"token": second}
    assert [one.slot for one in worker.status.read().items] == [second.slot]
    worker.run(second)
    worker.flush()
    assert worker.out() == ["u1"]
    assert worker.held.by_token == {}
    assert (worker.held.free_slots, worker.held.document_bytes) == (ITEMS_MAX, 0)


# ---- documents -----------------------------------------------------------------------------------


def test_documents_are_read_in_calls_of_4_mib_or_one(make: Make) -> None:
    worker = make()
    body = document("u1", attachments=[{"body": "x" * (3 << 20)}])
    worker.queue.store("u1", body)
    worker.queue.supply("in", "small")
    worker.queue.push("in", "u1", "u1")
    before = worker.redis.calls
    items = worker.claim()
    assert [item.uuid for item in items] == ["small", "u1", "u1"]
    assert [item.size for item in items[1:]] == [len(body)] * 2
    assert items[2].text == body
    assert worker.redis.calls - before <= 4, "a claim (and its script), and two reads"


def test_a_document_beyond_the_bound_is_not_read(make: Make) -> None:
    worker = make(max_document_bytes=5000)
    worker.queue.store("u1", document("u1", attachments=[{"body": "x" * 5000}]))
    worker.queue.push("in", "u1")
    [item] = worker.claim()
    assert item.text == b""
    worker.run(item)
    worker.flush()
    [(why, _)] = worker.queue.reasons("in")
    assert "larger than CONSERVER_MAX_DOCUMENT_BYTES" in why["error"]


def test_a_large_document_is_on_the_page_while_it_is_read(make: Make) -> None:
    # Reading it may be what a worker has no memory for: then nobody else must be blamed.
    blamed: list[list[str]] = []

    def look(worker: SteppedWorker, words: tuple[Any, ...]) -> None:
        if words[0] == "MGET":
            blamed.append([item.uuid for item in worker.status.read().items if item.phase.blamed])

    worker = make(before_command=look)
    worker.queue.store("u1", document("u1", attachments=[{"body": "x" * calls.BATCH_BYTES}]))
    worker.queue.supply("in", "u2", "u3")
    worker.queue.push("in", "u1")
    worker.claim()
    assert blamed == [[], ["u1"]]
    assert {item.phase for item in worker.status.read().items} == {Phase.HELD}


@pytest.mark.parametrize(
    ("kind", "words_"), [("none", "does not exist"), ("hash", "is a Redis hash")]
)
def test_a_document_that_goes_between_claim_and_reading(make: Make, kind: str, words_: str) -> None:
    def go(worker: SteppedWorker, words: tuple[Any, ...]) -> None:
        if words[0] == "MGET":
            worker.client.delete("vcon:u1")
            if kind != "none":
                worker.queue.make_key("vcon:u1", kind)

    worker = make(before_command=go)
    worker.queue.supply("in", "u1", "u2", "u3")  # of fewer they would come with the claim
    items = worker.claim()
    assert items[1].text == worker.client.get("vcon:u2"), "its neighbour is well"
    worker.run(*items)
    worker.flush()
    [(why, _)] = worker.queue.reasons("in")
    assert words_ in why["error"]


@pytest.mark.parametrize(
    ("kind", "words_"), [("hash", "is a Redis hash"), ("list", "is a Redis list")]
)
def test_a_key_that_is_no_document_is_a_dead_letter(make: Make, kind: str, words_: str) -> None:
    worker = make(storages=[storage(unique("shelf-"))])
    worker.queue.make_key("vcon:u1", kind)
    worker.queue.push("in", "u1")
    worker.work()
    [(why, _)] = worker.queue.reasons("in")
    assert words_ in why["error"]


# ---- documents that Redis does not have ----------------------------------------------------------


@pytest.fixture
def shelves() -> list[str]:
    """Names of two storages."""
    return [unique("one-"), unique("two-")]


def keep(shelf: str, uuid: str, **members: Any) -> bytes:
    """A storage has the document."""
    from storage.contract import Document

    text = document(uuid, **members)
    memory.shelf(shelf).put([Document(uuid, text, 1)])
    return text


def test_a_missing_document_comes_back_from_the_storage_that_has_it(
    make: Make, shelves: list[str]
) -> None:
    worker = make(links=[link("a", tag)], storages=[storage(name) for name in shelves])
    text = keep(shelves[1], "u1")
    worker.queue.push("in", "u1")
    assert worker.claim() == []
    worker.receive_report()
    worker.receive_report()
    worker.flush()
    [item] = worker.take_queued()
    assert (item.text, item.size) == (text, len(text)), "it counts against the worker's bound"
    assert worker.client.get("vcon:u1") == text, "given back, it need not be looked for again"
    worker.run(item)
    for _ in shelves:
        worker.store()
    assert worker.out() == ["u1"]
    assert Vcon.parse(worker.client.get("vcon:u1") or b"").tags == {"seen": "yes"}
    assert worker.held.document_bytes == 0


def test_a_document_that_nobody_has_is_a_dead_letter(make: Make, shelves: list[str]) -> None:
    worker = make(storages=[storage(name) for name in shelves])
    worker.queue.push("in", "u1")
    assert worker.claim() == []
    worker.receive_report()
    worker.receive_report()
    worker.run(*worker.take_queued())
    worker.flush()
    [(why, _)] = worker.queue.reasons("in")
    assert "neither in Redis nor in the storages" in why["error"]
    assert [memory.shelf(name).lookups for name in shelves] == [["u1"], ["u1"]]


def test_a_storage_that_is_away_may_have_it_so_it_waits(make: Make, shelves: list[str]) -> None:
    # It was buried as missing while the one that had it was down.
    worker = make(storages=[storage(name) for name in shelves])
    keep(shelves[0], "u1")
    memory.shelf(shelves[0]).on_get.append(memory.breaks())
    worker.queue.push("in", "u1")
    assert worker.claim() == []
    worker.receive_report()
    worker.receive_report()
    worker.flush()
    [parked] = worker.queue.parked("in")
    assert Progress.load(parked.state).owed is None, "nothing of it has been done"
    assert worker.inflight == 0


def test_a_look_up_that_hangs_ends_as_one_that_is_away(make: Make, shelves: list[str]) -> None:
    # Its item stayed in the worker for ever, or came back as one that owed nothing.
    worker = make(storages=[storage(shelves[0], 0.05), storage(shelves[1])])
    keep(shelves[1], "u1")
    gate = threading.Event()
    memory.shelf(shelves[0]).on_get.append(memory.waits_for(gate))
    worker.queue.push("in", "u1")
    assert worker.claim() == []

    def given_up() -> bool:
        worker.writers[shelves[0]].check_timeout()
        return bool(worker.inbox.reports)

    eventually(given_up)
    gate.set()
    worker.receive_report()
    worker.receive_report()
    worker.flush()
    [item] = worker.take_queued()
    assert item.text == document("u1"), "the other one has it"
    assert (item.unavailable, item.after_s) == ({}, 0.0)


def test_what_a_storage_had_does_not_replace_what_was_pushed_meanwhile(
    make: Make, shelves: list[str]
) -> None:
    # The producer's correction was overwritten with the old copy.
    worker = make(links=[link("a", tag)], storages=[storage(shelves[0])])
    keep(shelves[0], "u1", subject="old")
    worker.queue.push("in", "u1")
    assert worker.claim() == []
    worker.receive_report()
    worker.client.set("vcon:u1", document("u1", subject="corrected"))
    worker.flush()
    [item] = worker.take_queued()
    worker.run(item)
    worker.store()
    body = orjson.loads(worker.client.get("vcon:u1") or b"{}")
    assert body["subject"] == "corrected"
    assert Vcon.parse(orjson.dumps(body)).tags == {"seen": "yes"}
    assert worker.out() == ["u1"]


def test_a_document_is_found_where_another_chain_has_stored_it(
    make: Make, shelves: list[str]
) -> None:
    # That chain lets it expire while an item of this one is parked.
    chains = {
        "main": {"ingress_lists": ["in"], "storages": [shelves[0]]},
        "other": {"ingress_lists": ["other"], "storages": [shelves[1]]},
    }
    storages = [storage(shelves[0]), storage(shelves[1])]
    worker = make(links=[link("a", nothing)], storages=storages, chains=chains)
    text = keep(shelves[1], "u1")
    worker.queue.push("in", "u1")
    assert worker.claim() == []
    worker.receive_report()
    worker.receive_report()
    worker.flush()
    [item] = worker.take_queued()
    assert item.text == text


def test_what_is_no_uuid_is_not_looked_up(make: Make, shelves: list[str]) -> None:
    worker = make(links=[link("a", nothing)], storages=[storage(shelves[0])])
    worker.queue.push("in", "../../etc/passwd")
    worker.work()
    assert memory.shelf(shelves[0]).lookups == []
    assert len(worker.queue.dead("in")) == 1


@pytest.mark.parametrize("flags", ["-", "s"])
@pytest.mark.parametrize("state", [b"{broken", b"[]", b'{"links":3}', b'{"pushes":[1]}'])
def test_a_record_whose_progress_cannot_be_read_ends_no_worker(
    make: Make, state: bytes, flags: str
) -> None:
    worker = make(links=[link("a", nothing)])
    place = "suspects" if flags == "s" else "returned"
    worker.client.rpush(f"conserver:{place}:in", record("t1", "u1", "in", flags=flags, state=state))
    assert worker.claim() == []
    worker.flush()
    [(why, letter)] = worker.queue.reasons("in")
    assert (why["reason"], letter.payload) == ("rejected", b"u1")
    assert state.decode() in why["error"], "nothing of it is lost"
    worker.supply(1)
    worker.work()
    assert len(worker.out()) == 1

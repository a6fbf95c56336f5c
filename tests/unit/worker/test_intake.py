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
from conserver.worker.pool import RateMeter
from tests.conftest import unique
from tests.helpers import eventually
from tests.modules import memory
from tests.queues import record
from tests.workshop import FAST_S, Bench, document, link, nothing, storage, tag

Make = Callable[..., Bench]
HOUR_MS = 3_600_000
TWO = {"fast": {"ingress_lists": ["f"]}, "slow": {"ingress_lists": ["s"]}}


@pytest.fixture
def make(redis_url: str) -> Iterator[Make]:
    """Makes benches."""
    with ExitStack() as stack:
        yield lambda *arguments, **settings: stack.enter_context(
            Bench(redis_url, *arguments, **settings)
        )


def ring(bench: Bench, word: bytes = wakeup.WAKE) -> None:
    """The coordinator says something."""
    bench.coordinator.send(word)
    bench.intake.hear_the_bell()


def slow_down(bench: Bench, chain: str) -> None:
    bench.intake.meter.add(chain, 60.0)


def speed_up(bench: Bench, chain: str) -> None:
    for _ in range(200):
        bench.intake.meter.add(chain, FAST_S)


# ---- how much ------------------------------------------------------------------------------------


def test_claims_what_the_threads_finish_within_the_horizon(make: Make) -> None:
    bench = make()
    bench.supply(300)
    bench.intake.meter = RateMeter()
    bench.intake.meter.add("main", 0.002)
    bench.look()
    assert len(bench.intake.held) == 50
    assert bench.held == 50


def test_one_call_claims_so_many_at_most(make: Make) -> None:
    bench = make()
    bench.supply(300)
    bench.look()
    assert bench.held == calls.BATCH_ITEMS


def test_while_enough_waits_nothing_is_claimed(make: Make) -> None:
    bench = make()
    bench.supply(300)
    bench.look()
    claims = bench.intake.claims
    bench.look()
    assert bench.intake.claims == claims
    assert bench.intake.next_claim_s(0.0) is None, "only an item that ends makes room"


def test_a_worker_holds_no_more_than_its_page_has_places(make: Make) -> None:
    bench = make(storages=[storage(unique("shelf-"))])
    bench.supply(ITEMS_MAX + 50)
    for _ in range(4):
        bench.look()
        bench.run(*bench.waiting())
    assert bench.held == ITEMS_MAX
    bench.flush()
    claims = bench.intake.claims
    bench.look()
    assert bench.intake.claims == claims


def test_places_are_not_filled_up_one_by_one(make: Make) -> None:
    # Many small claims cost more than they bring.
    bench = make()
    bench.supply(ITEMS_MAX + 50)
    held = []
    for _ in range(2):
        bench.look()
        held += bench.waiting()
    assert len(held) == ITEMS_MAX
    for item in held[:31]:
        bench.intake.forget(item)
    claims = bench.intake.claims
    bench.look()
    assert bench.intake.claims == claims
    bench.intake.forget(held[31])
    bench.look()
    assert bench.intake.claims == claims + 1


def test_a_worker_holds_no_more_than_64_mib_and_one_claim(
    make: Make, redis_session_url: str
) -> None:
    bench = make()
    large = "x" * (1 << 20)
    uuids = bench.supply(1)
    body = document(uuids[0], attachments=[{"body": large}])
    bench.client.set(f"vcon:{uuids[0]}", body)
    bench.client.rpush("in", *(uuids[0] for _ in range(120)))
    counts = []
    for _ in range(40):
        bench.look()
        bench.waiting()
        counts.append(len(bench.intake.held))
    size = len(body)
    most = intake.HELD_BYTES_MAX + size
    assert intake.HELD_BYTES_MAX <= counts[-1] * size <= most
    assert max(b - a for a, b in pairwise(counts)) <= 4, (
        "a claim has 4 MiB of documents, those that it does not carry included"
    )
    for item in list(bench.intake.held.values()):
        bench.intake.forget(item)
    assert bench.intake._bytes == 0
    assert len(bench.intake._slots) == ITEMS_MAX


def test_slow_items_are_claimed_only_by_idle_threads(make: Make) -> None:
    bench = make()
    bench.supply(5)
    slow_down(bench, "main")
    bench.idle = False
    bench.look()
    assert bench.intake.claims == 0
    bench.idle = True
    bench.look()
    assert (bench.intake.claims, bench.held) == (1, 1)


# ---- when, and what the coordinator is told
# ----------------------------------------------------------


def test_an_answer_that_left_nothing_behind_is_as_good_as_an_empty_one(make: Make) -> None:
    bench = make(tick_interval_ms=HOUR_MS)
    bench.supply(2)
    bench.look()
    assert bench.words_to_coordinator() == [wakeup.ANSWERED]
    bench.work_off()
    bench.look()
    assert bench.intake.claims == 1, "no empty claim: the bell takes what comes next"
    assert bench.words_to_coordinator() == [wakeup.IDLE]
    bench.look()
    assert bench.words_to_coordinator() == [], "said once"
    bench.supply(1)
    ring(bench)
    bench.look()
    assert bench.intake.claims == 2
    assert bench.words_to_coordinator() == [wakeup.ANSWERED]


def test_what_is_left_behind_is_told_and_claimed_as_soon_as_there_is_room(make: Make) -> None:
    bench = make(tick_interval_ms=HOUR_MS)
    bench.supply(250)
    bench.look()
    assert bench.words_to_coordinator() == [wakeup.MORE]
    bench.work_off()
    bench.look()
    assert bench.words_to_coordinator() == [wakeup.ANSWERED]
    assert bench.intake.claims == 2


def test_it_looks_by_itself_when_nobody_rings(make: Make) -> None:
    bench = make(tick_interval_ms=10)
    bench.look()
    bench.supply(1)

    def claimed() -> bool:
        bench.look()
        return bench.held == 1

    eventually(claimed)


def test_a_claim_of_nothing_makes_it_idle_at_once(make: Make) -> None:
    # It said so the next time around, and by then the next claim was due: it never did.
    bench = make()
    bench.look()
    assert bench.words_to_coordinator() == [wakeup.IDLE]


def test_it_is_idle_only_while_a_thread_is(make: Make) -> None:
    # It was rung for an item that it could not begin, and the item lay there for a second.
    bench = make(TWO, tick_interval_ms=HOUR_MS)
    bench.idle = False
    bench.look()
    bench.look()
    assert bench.intake.claims == 1
    assert bench.words_to_coordinator() == []
    bench.idle = True
    bench.look()
    assert bench.intake.claims == 1
    assert bench.words_to_coordinator() == [wakeup.IDLE]


def test_a_chain_that_was_left_out_is_asked_as_soon_as_it_has_room(make: Make) -> None:
    # After a claim of the other chain had come back empty, it waited for a tick.
    bench = make(TWO, tick_interval_ms=HOUR_MS)
    bench.supply(1, "s")
    slow_down(bench, "slow")
    bench.idle = False
    bench.look()
    assert (bench.intake.claims, bench.held) == (1, 0)
    bench.idle = True
    bench.look()
    assert (bench.intake.claims, bench.held) == (2, 1)
    bench.look()
    assert bench.intake.claims == 2


CAPPED = {
    "fast": {"ingress_lists": ["f"]},
    "slow": {"ingress_lists": ["s"], "concurrency": 1},
}


def test_a_worker_whose_chain_is_full_passes_what_it_was_rung_for(make: Make) -> None:
    # It said that it was idle, as if there had been nothing, and the item waited for a tick.
    bench = make(CAPPED, tick_interval_ms=HOUR_MS, vcon_concurrency=2)
    slow_down(bench, "slow")
    bench.backlog.at_work["slow"] = 1
    bench.supply(1, "s")
    ring(bench)
    bench.look()
    assert bench.held == 0
    assert bench.words_to_coordinator() == [wakeup.PASSED]
    bench.supply(1, "f")
    ring(bench)
    bench.look()
    assert bench.held == 1
    assert bench.words_to_coordinator() == [wakeup.MORE], "what it was rung for may still wait"
    bench.work_off()
    bench.backlog.at_work["slow"] = 0
    bench.look()
    assert bench.held == 1, "as soon as there is room, without a bell"


def test_a_worker_without_any_room_says_so_when_it_is_rung(make: Make) -> None:
    # It did not answer, and the next one was rung a second later.
    bench = make(
        {"slow": {"ingress_lists": ["s"], "concurrency": 1}},
        tick_interval_ms=HOUR_MS,
        vcon_concurrency=2,
    )
    bench.look()
    assert bench.words_to_coordinator() == [wakeup.IDLE]
    bench.backlog.at_work["slow"] = 1
    slow_down(bench, "slow")
    bench.supply(1, "s")
    ring(bench)
    bench.look()
    bench.look()
    assert bench.words_to_coordinator() == [wakeup.BUSY]
    bench.backlog.at_work["slow"] = 0
    bench.look()
    assert bench.held == 1


def test_a_list_full_of_poison_does_not_make_it_wait(make: Make) -> None:
    bench = make(tick_interval_ms=HOUR_MS)
    for number in range(300):
        poison = record(f"t{number}", f"u{number}", "in", deliveries=3)
        bench.client.rpush("conserver:returned:in", poison)
    [uuid] = bench.supply(1)
    for _ in range(4):
        bench.look()
    assert [item.uuid for item in bench.waiting()] == [uuid]
    assert len(bench.queue.dead("in")) == 300


def test_a_void_registration_ends_the_worker(make: Make) -> None:
    bench = make()
    bench.client.delete(calls.host_key(bench.boot.host))
    assert not bench.intake.claim(bench.settling)
    assert b"void" in bench.supervisor.recv(1000)


def complaints(bench: Bench) -> list[tuple[str, str, str]]:
    """What is told of keys when the worker looks twice."""
    with capture_logs() as lines:
        for _ in range(2):
            ring(bench)
            bench.look()
    return [(line["event"], line["key"], line["found"]) for line in lines]


def test_a_list_of_another_type_is_told_of_and_the_others_are_served(make: Make) -> None:
    bench = make(TWO)
    bench.queue.make_key("f", "hash")
    bench.supply(1, "s")
    assert complaints(bench) == [("wrong_type", "f", "hash")]
    assert bench.held == 1


def test_a_host_key_that_is_none_is_told_of_and_waited_for(make: Make) -> None:
    bench = make()
    bench.supply(1)
    key = calls.host_key(bench.boot.host)
    kept = bench.client.dump(key)
    bench.client.set(key, "x")
    assert complaints(bench) == [("wrong_type", key, "string")]
    assert bench.held == 0
    bench.client.restore(key, 0, kept, replace=True)
    ring(bench)
    bench.look()
    assert bench.held == 1


def test_what_the_claim_itself_has_buried_is_told_as_a_dead_letter(make: Make) -> None:
    bench = make(max_payload_bytes=1000)
    body = document("large", subject="x" * 2000)
    bench.queue.suspect("bad", "in", deliveries=3)
    bench.queue.push("in", body)
    with capture_logs() as lines:
        bench.look()
    told = [line for line in lines if line["event"] == "dead_letter"]
    assert [(line["vcon"], line["chain"], line["list"], line["reason"]) for line in told] == [
        ("bad", "main", "in", "poison"),
        ("large", "main", "in", "oversized"),
    ]
    assert told[0]["deliveries"] == 3
    assert "died 3 times" in told[0]["error"]
    assert all(line["log_level"] == "error" for line in told)
    assert bench.status.read().items_failed == 2, "status counts them too"


# ---- progress and its document -------------------------------------------------------------------


def test_what_was_done_for_a_document_that_was_replaced_is_done_again(make: Make) -> None:
    """Its storages would differ for ever, and the corrected one would lack what its chain does."""
    name = unique("shelf-")
    bench = make(links=[link("a", tag)], storages=[storage(name)])
    memory.shelf(name).on_save.append(memory.away())
    [uuid] = bench.supply(1)
    bench.run(bench.one())
    bench.store()
    [parked] = bench.queue.parked("in")
    assert Progress.load(parked.state).owed == [name]
    bench.queue.store(uuid, document(uuid, subject="corrected"))
    bench.queue.promote("in")
    item = bench.one()
    assert item.progress.links == []
    assert item.progress.owed is None
    bench.run(item)
    bench.flush()
    written = Vcon.parse(bench.client.get(f"vcon:{uuid}") or b"")
    assert (written.data["subject"], written.tags) == ("corrected", {"seen": "yes"})
    assert item.progress.owed == [name], "all storages get it, also those that had the old one"


def test_what_has_been_tried_counts_although_the_document_was_replaced(make: Make) -> None:
    bench = make(links=[link("a", tag)])
    progress = Progress(links=["a"], attempts=2, failures=2, runs={"a": 2}, error="no")
    bench.queue.store("u1", document("u1"))
    text = record("token", "u1", "in", state=progress.dump(), revision=0)
    bench.client.rpush("conserver:returned:in", text)
    item = bench.one()
    assert item.claimed.replaced, "it is about no revision that is known"
    assert item.progress == Progress(attempts=2, failures=2, runs={"a": 2}, error="no")
    item.back_to_saved()
    assert item.progress.attempts == 2


# ---- suspects ------------------------------------------------------------------------------------


def test_a_suspect_is_claimed_alone_and_marked_before_it_runs(make: Make) -> None:
    bench = make(tick_interval_ms=HOUR_MS)
    bench.supply(3)
    bench.queue.store("bad", document("bad"))
    bench.queue.suspect("bad", "in", deliveries=1)
    [suspect] = bench.claim()
    assert suspect.uuid == "bad"
    assert b" 1 sb " in bench.client.hvals(calls.inflight_key(bench.boot.consumer))[0]
    ring(bench)
    bench.look()
    assert bench.held == 1, "nothing beside it"
    bench.run(suspect)
    bench.flush()
    bench.look()
    assert bench.held == 3, "and then the others at once"


def test_nothing_is_claimed_beside_a_suspect_although_redis_has_forgotten_it(make: Make) -> None:
    """A failover undid its claim: to Redis this worker is as good as any other."""
    bench = make(tick_interval_ms=HOUR_MS)
    bench.queue.store("bad", document("bad"))
    bench.queue.suspect("bad", "in")
    [suspect] = bench.claim()
    bench.client.delete(calls.inflight_key(bench.boot.consumer))
    bench.client.hdel(calls.host_key(bench.boot.host), "suspect")
    bench.supply(3)
    ring(bench)
    bench.look()
    assert [*bench.intake.held.values()] == [suspect]
    bench.run(suspect)
    bench.flush()
    bench.look()
    assert bench.held == 3


def test_who_holds_something_gets_no_suspect_although_redis_has_forgotten_it(make: Make) -> None:
    """A failover undid the claim of an ordinary item, which is at work."""
    bench = make(tick_interval_ms=HOUR_MS)
    bench.supply(1)
    [item] = bench.claim()
    bench.client.delete(calls.inflight_key(bench.boot.consumer))
    bench.queue.store("bad", document("bad"))
    bench.queue.suspect("bad", "in")
    ring(bench)
    bench.look()
    assert [*bench.intake.held.values()] == [item]
    assert bench.queue.suspects("in")


def test_no_suspect_runs_beside_a_call_that_hangs(make: Make, shelves: list[str]) -> None:
    """That call may crash the process later, and the suspect would be counted for it."""
    bench = make(storages=[storage(shelves[0], 0.05)], tick_interval_ms=HOUR_MS)
    gate = threading.Event()
    memory.shelf(shelves[0]).on_save.append(memory.waits_for(gate))
    bench.supply(1)
    bench.run(bench.one())
    bench.flush()
    bench.settling.flush()
    writer = bench.writers[shelves[0]]

    def given_up() -> bool:
        writer.watch()
        return bool(bench.reports)

    eventually(given_up)
    bench.hear()
    bench.flush()
    assert bench.intake.held == {}
    bench.queue.store("bad", document("bad"))
    bench.queue.suspect("bad", "in")
    ring(bench)
    bench.look()
    assert bench.intake.held == {}
    assert bench.intake.suspects_wait
    gate.set()
    eventually(lambda: not writer.hangs)
    [suspect] = bench.claim()
    assert suspect.uuid == "bad"


def test_a_suspect_that_was_taken_away_before_it_ran_is_dropped(make: Make) -> None:
    def steal(bench: Bench, words: tuple[Any, ...]) -> None:
        if script.load("begin").sha in words:
            bench.client.delete(calls.inflight_key(bench.boot.consumer))

    bench = make(before_command=steal)
    bench.queue.store("bad", document("bad"))
    bench.queue.suspect("bad", "in")
    ring(bench)
    bench.look()
    assert bench.intake.held == {}
    assert bench.status.read().items == ()
    assert bench.waiting() == []
    bench.supply(1)
    ring(bench)
    bench.look()
    assert bench.held == 1


def test_a_busy_worker_tells_of_suspects_and_is_emptied_for_them(make: Make) -> None:
    bench = make(tick_interval_ms=HOUR_MS)
    bench.supply(1)
    [item] = bench.claim()
    bench.words_to_coordinator()
    bench.queue.store("bad", document("bad"))
    bench.queue.suspect("bad", "in")
    bench.supply(3)
    ring(bench)
    bench.look()
    assert wakeup.SUSPECTS in bench.words_to_coordinator()
    busy = [item, *bench.waiting()]
    bench.supply(1)
    ring(bench, wakeup.EMPTY)
    bench.look()
    assert bench.held == 4, "it takes nothing more"
    bench.run(*busy)
    bench.flush()
    [suspect] = bench.claim()
    assert suspect.uuid == "bad"


# ---- what it holds -------------------------------------------------------------------------------


def test_a_claimed_item_is_on_the_page_until_it_ends(make: Make) -> None:
    bench = make()
    [uuid] = bench.supply(1)
    item = bench.one()
    [shown] = bench.status.read().items
    assert (shown.phase, shown.token, shown.epoch) == (Phase.HELD, item.token, 1)
    assert (shown.uuid, shown.chain) == (uuid, "main")
    bench.run(item)
    bench.flush()
    assert bench.status.read().items == ()
    bench.intake.forget(item)
    assert len(bench.intake._slots) == ITEMS_MAX, "ended twice, it gives its place back once"


def test_the_page_knows_the_uuid_of_a_pushed_document_while_its_links_run(make: Make) -> None:
    """Whoever dies of it is blamed by a name that an operator can look for."""
    bench: Bench
    shown: list[str] = []

    def look(vcon: Vcon, _context: Any) -> Vcon:
        shown.extend(item.uuid for item in bench.status.read().items)
        return vcon

    bench = make(links=[link("look", look)])
    bench.queue.push("in", document("u1"))
    bench.run(bench.one())
    assert shown == ["u1"]


def test_an_item_that_comes_again_under_its_token_is_another_one(make: Make) -> None:
    # A failover undid a claim: the end of the old one took the new one's place.
    bench = make()
    bench.queue.store("u1", document("u1"))
    text = record("token", "u1", "in", state=Progress(attempts=1).dump())
    bench.client.rpush("conserver:returned:in", text)
    first = bench.one()
    bench.client.delete(calls.inflight_key(bench.boot.consumer))
    bench.client.rpush("conserver:returned:in", text)
    second = bench.one()
    assert first.token == second.token
    bench.run(first)
    bench.flush()
    assert bench.intake.held == {"token": second}
    assert [one.slot for one in bench.status.read().items] == [second.slot]
    bench.run(second)
    bench.flush()
    assert bench.out() == ["u1"]
    assert bench.intake.held == {}
    assert (len(bench.intake._slots), bench.intake._bytes) == (ITEMS_MAX, 0)


# ---- documents -----------------------------------------------------------------------------------


def test_documents_are_read_in_calls_of_4_mib_or_one(make: Make) -> None:
    bench = make()
    body = document("u1", attachments=[{"body": "x" * (3 << 20)}])
    bench.queue.store("u1", body)
    bench.queue.supply("in", "small")
    bench.queue.push("in", "u1", "u1")
    before = bench.line.calls
    items = bench.claim()
    assert [item.uuid for item in items] == ["small", "u1", "u1"]
    assert [item.size for item in items[1:]] == [len(body)] * 2
    assert items[2].text == body
    assert bench.line.calls - before <= 4, "a claim (and its script), and two reads"


def test_a_document_beyond_the_bound_is_not_read(make: Make) -> None:
    bench = make(max_document_bytes=5000)
    bench.queue.store("u1", document("u1", attachments=[{"body": "x" * 5000}]))
    bench.queue.push("in", "u1")
    [item] = bench.claim()
    assert item.text == b""
    bench.run(item)
    bench.flush()
    [(why, _)] = bench.queue.reasons("in")
    assert "larger than CONSERVER_MAX_DOCUMENT_BYTES" in why["error"]


def test_a_large_document_is_on_the_page_while_it_is_read(make: Make) -> None:
    # Reading it may be what a worker has no memory for: then nobody else must be blamed.
    blamed: list[list[str]] = []

    def look(bench: Bench, words: tuple[Any, ...]) -> None:
        if words[0] == "MGET":
            blamed.append([item.uuid for item in bench.status.read().items if item.phase.blamed])

    bench = make(before_command=look)
    bench.queue.store("u1", document("u1", attachments=[{"body": "x" * calls.BATCH_BYTES}]))
    bench.queue.supply("in", "u2", "u3")
    bench.queue.push("in", "u1")
    bench.claim()
    assert blamed == [[], ["u1"]]
    assert {item.phase for item in bench.status.read().items} == {Phase.HELD}


@pytest.mark.parametrize(
    ("kind", "words_"), [("none", "does not exist"), ("hash", "is a Redis hash")]
)
def test_a_document_that_goes_between_claim_and_reading(make: Make, kind: str, words_: str) -> None:
    def go(bench: Bench, words: tuple[Any, ...]) -> None:
        if words[0] == "MGET":
            bench.client.delete("vcon:u1")
            if kind != "none":
                bench.queue.make_key("vcon:u1", kind)

    bench = make(before_command=go)
    bench.queue.supply("in", "u1", "u2", "u3")  # of fewer they would come with the claim
    items = bench.claim()
    assert items[1].text == bench.client.get("vcon:u2"), "its neighbour is well"
    bench.run(*items)
    bench.flush()
    [(why, _)] = bench.queue.reasons("in")
    assert words_ in why["error"]


@pytest.mark.parametrize(
    ("kind", "words_"), [("hash", "is a Redis hash"), ("list", "is a Redis list")]
)
def test_a_key_that_is_no_document_is_a_dead_letter(make: Make, kind: str, words_: str) -> None:
    bench = make(storages=[storage(unique("shelf-"))])
    bench.queue.make_key("vcon:u1", kind)
    bench.queue.push("in", "u1")
    bench.work()
    [(why, _)] = bench.queue.reasons("in")
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
    bench = make(links=[link("a", tag)], storages=[storage(name) for name in shelves])
    text = keep(shelves[1], "u1")
    bench.queue.push("in", "u1")
    assert bench.claim() == []
    bench.hear()
    bench.hear()
    bench.flush()
    [item] = bench.waiting()
    assert (item.text, item.size) == (text, len(text)), "it counts against the worker's bound"
    assert bench.client.get("vcon:u1") == text, "given back, it need not be looked for again"
    bench.run(item)
    for _ in shelves:
        bench.store()
    assert bench.out() == ["u1"]
    assert Vcon.parse(bench.client.get("vcon:u1") or b"").tags == {"seen": "yes"}
    assert bench.intake._bytes == 0


def test_a_document_that_nobody_has_is_a_dead_letter(make: Make, shelves: list[str]) -> None:
    bench = make(storages=[storage(name) for name in shelves])
    bench.queue.push("in", "u1")
    assert bench.claim() == []
    bench.hear()
    bench.hear()
    bench.run(*bench.waiting())
    bench.flush()
    [(why, _)] = bench.queue.reasons("in")
    assert "neither in Redis nor in the storages" in why["error"]
    assert [memory.shelf(name).lookups for name in shelves] == [["u1"], ["u1"]]


def test_a_storage_that_is_away_may_have_it_so_it_waits(make: Make, shelves: list[str]) -> None:
    # It was buried as missing while the one that had it was down.
    bench = make(storages=[storage(name) for name in shelves])
    keep(shelves[0], "u1")
    memory.shelf(shelves[0]).on_get.append(memory.breaks())
    bench.queue.push("in", "u1")
    assert bench.claim() == []
    bench.hear()
    bench.hear()
    bench.flush()
    [parked] = bench.queue.parked("in")
    assert Progress.load(parked.state).owed is None, "nothing of it has been done"
    assert bench.held == 0


def test_a_look_up_that_hangs_ends_as_one_that_is_away(make: Make, shelves: list[str]) -> None:
    # Its item stayed in the worker for ever, or came back as one that owed nothing.
    bench = make(storages=[storage(shelves[0], 0.05), storage(shelves[1])])
    keep(shelves[1], "u1")
    gate = threading.Event()
    memory.shelf(shelves[0]).on_get.append(memory.waits_for(gate))
    bench.queue.push("in", "u1")
    assert bench.claim() == []

    def given_up() -> bool:
        bench.writers[shelves[0]].watch()
        return bool(bench.reports)

    eventually(given_up)
    gate.set()
    bench.hear()
    bench.hear()
    bench.flush()
    [item] = bench.waiting()
    assert item.text == document("u1"), "the other one has it"
    assert (item.missed, item.after_s) == ({}, 0.0)


def test_what_a_storage_had_does_not_replace_what_was_pushed_meanwhile(
    make: Make, shelves: list[str]
) -> None:
    # The producer's correction was overwritten with the old copy.
    bench = make(links=[link("a", tag)], storages=[storage(shelves[0])])
    keep(shelves[0], "u1", subject="old")
    bench.queue.push("in", "u1")
    assert bench.claim() == []
    bench.hear()
    bench.client.set("vcon:u1", document("u1", subject="corrected"))
    bench.flush()
    [item] = bench.waiting()
    bench.run(item)
    bench.store()
    body = orjson.loads(bench.client.get("vcon:u1") or b"{}")
    assert body["subject"] == "corrected"
    assert Vcon.parse(orjson.dumps(body)).tags == {"seen": "yes"}
    assert bench.out() == ["u1"]


def test_a_document_is_found_where_another_chain_has_stored_it(
    make: Make, shelves: list[str]
) -> None:
    # That chain lets it expire while an item of this one is parked.
    chains = {
        "main": {"ingress_lists": ["in"], "storages": [shelves[0]]},
        "other": {"ingress_lists": ["other"], "storages": [shelves[1]]},
    }
    storages = [storage(shelves[0]), storage(shelves[1])]
    bench = make(links=[link("a", nothing)], storages=storages, chains=chains)
    text = keep(shelves[1], "u1")
    bench.queue.push("in", "u1")
    assert bench.claim() == []
    bench.hear()
    bench.hear()
    bench.flush()
    [item] = bench.waiting()
    assert item.text == text


def test_what_is_no_uuid_is_not_looked_up(make: Make, shelves: list[str]) -> None:
    bench = make(links=[link("a", nothing)], storages=[storage(shelves[0])])
    bench.queue.push("in", "../../etc/passwd")
    bench.work()
    assert memory.shelf(shelves[0]).lookups == []
    assert len(bench.queue.dead("in")) == 1


@pytest.mark.parametrize("flags", ["-", "s"])
@pytest.mark.parametrize("state", [b"{broken", b"[]", b'{"links":3}', b'{"pushes":[1]}'])
def test_a_record_whose_progress_cannot_be_read_ends_no_worker(
    make: Make, state: bytes, flags: str
) -> None:
    bench = make(links=[link("a", nothing)])
    place = "suspects" if flags == "s" else "returned"
    bench.client.rpush(f"conserver:{place}:in", record("t1", "u1", "in", flags=flags, state=state))
    assert bench.claim() == []
    bench.flush()
    [(why, letter)] = bench.queue.reasons("in")
    assert (why["reason"], letter.payload) == ("rejected", b"u1")
    assert state.decode() in why["error"], "nothing of it is lost"
    bench.supply(1)
    bench.work()
    assert len(bench.out()) == 1

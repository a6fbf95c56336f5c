"""intake.py, prefetch.py, claim_schedule.py and held_items.py: what a worker claims and when, and
what it sends to the coordinator. How items get their documents is in test_document_loader.py.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from structlog.testing import capture_logs

from conserver.process import wakeup
from conserver.process.shared_status import ITEMS_MAX, Phase
from conserver.queue import calls, dead_letters, keys, operator_calls, script
from conserver.queue.operator_calls import Submission
from conserver.queue.record import Progress
from conserver.telemetry import traces
from conserver.vcon.document import Vcon
from conserver.worker.held_items import HELD_BYTES_MAX
from conserver.worker.prefetch import ItemDurations
from tests.collector import Collector
from tests.conftest import unique
from tests.helpers import eventually
from tests.modules import memory
from tests.queues import record
from tests.workers import SteppedWorker, document, link, nothing, storage, tag

Make = Callable[..., SteppedWorker]
HOUR_MS = 3_600_000
TWO = {"fast": {"ingress_lists": ["f"]}, "slow": {"ingress_lists": ["s"]}}


def slow_down(worker: SteppedWorker, chain: str) -> None:
    """Let the chain's items seem to take a minute."""
    worker.durations.add(chain, 60.0)


# ---- prefetch and backpressure -------------------------------------------------------------------


def test_claims_what_the_threads_finish_within_the_horizon(make: Make) -> None:
    worker = make()
    worker.supply(300)
    worker.intake.prefetch.durations = durations = ItemDurations()
    durations.add("main", 0.002)
    worker.claim_if_due()
    assert len(worker.held.by_token) == 50
    assert worker.inflight == 50


def test_one_call_claims_a_batch_at_most(make: Make) -> None:
    worker = make()
    worker.supply(300)
    worker.claim_if_due()
    assert worker.inflight == calls.BATCH_ITEMS


def test_while_enough_items_are_queued_nothing_is_claimed(make: Make) -> None:
    worker = make()
    worker.supply(300)
    worker.claim_if_due()
    claims = worker.intake.claims
    worker.claim_if_due()
    assert worker.intake.claims == claims
    assert worker.intake.next_claim_s(0.0) is None, "not before an item has ended"


def test_a_worker_holds_no_more_items_than_shared_status_has_slots(make: Make) -> None:
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


def test_a_nearly_full_worker_claims_once_32_slots_are_free(make: Make) -> None:
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
    assert HELD_BYTES_MAX <= counts[-1] * size <= HELD_BYTES_MAX + size
    assert max(b - a for a, b in pairwise(counts)) <= 4, (
        "a claim has 4 MiB of documents, including those that it only names"
    )
    for item in list(worker.held.by_token.values()):
        worker.held.remove(item)
    assert worker.held.document_bytes == 0
    assert worker.held.free_slots == ITEMS_MAX


def test_slow_items_are_claimed_only_for_idle_threads(make: Make) -> None:
    worker = make()
    worker.supply(5)
    slow_down(worker, "main")
    worker.idle = False
    worker.claim_if_due()
    assert worker.intake.claims == 0
    worker.idle = True
    worker.claim_if_due()
    assert (worker.intake.claims, worker.inflight) == (1, 1)


# ---- when, and what the coordinator is sent ------------------------------------------------------


def test_after_a_claim_that_left_nothing_behind_it_waits_to_be_woken(make: Make) -> None:
    worker = make(tick_interval_ms=HOUR_MS)
    worker.supply(2)
    worker.claim_if_due()
    assert worker.sent_to_coordinator() == [wakeup.BUSY]
    worker.run_queued()
    worker.claim_if_due()
    assert worker.intake.claims == 1, "no empty claim"
    assert worker.sent_to_coordinator() == [wakeup.IDLE]
    worker.claim_if_due()
    assert worker.sent_to_coordinator() == [], "sent once"
    worker.supply(1)
    worker.receive()
    worker.claim_if_due()
    assert worker.intake.claims == 2
    assert worker.sent_to_coordinator() == [wakeup.BUSY]


def test_items_left_behind_are_claimed_as_soon_as_there_is_room(make: Make) -> None:
    worker = make(tick_interval_ms=HOUR_MS)
    worker.supply(250)
    worker.claim_if_due()
    assert worker.sent_to_coordinator() == [wakeup.BUSY]
    worker.run_queued()
    worker.claim_if_due()
    assert worker.sent_to_coordinator() == [], "it still is"
    assert worker.intake.claims == 2


def test_it_claims_after_a_tick_when_it_is_not_woken(make: Make) -> None:
    worker = make(tick_interval_ms=10)
    worker.claim_if_due()
    worker.supply(1)

    def claimed() -> bool:
        worker.claim_if_due()
        return worker.inflight == 1

    eventually(claimed)


def test_an_empty_claim_makes_it_idle_at_once(make: Make) -> None:
    # Regression: IDLE was sent in the next turn of the loop, when the next claim was due already,
    # and so never.
    worker = make()
    worker.claim_if_due()
    assert worker.sent_to_coordinator() == [wakeup.IDLE]


def test_it_is_idle_only_while_a_chain_thread_is(make: Make) -> None:
    # Regression: it was woken for an item that it could not start, and the item waited a second.
    worker = make(TWO, tick_interval_ms=HOUR_MS)
    worker.idle = False
    worker.claim_if_due()
    worker.claim_if_due()
    assert worker.intake.claims == 1
    assert worker.sent_to_coordinator() == [wakeup.BUSY]
    worker.idle = True
    worker.claim_if_due()
    assert worker.intake.claims == 1
    assert worker.sent_to_coordinator() == [wakeup.IDLE]


def test_a_chain_that_was_left_out_is_claimed_for_as_soon_as_it_has_room(make: Make) -> None:
    # Regression: after an empty claim for the other chain, it waited for a tick.
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


def test_a_woken_worker_whose_chain_is_full_stays_idle_for_its_other_lists(make: Make) -> None:
    # The item on the full chain's list stays in returned: the coordinator wakes another worker.
    worker = make(CAPPED, tick_interval_ms=HOUR_MS, vcon_concurrency=2)
    slow_down(worker, "slow")
    worker.work_queue.running["slow"] = 1
    worker.supply(1, "s")
    worker.receive()
    worker.claim_if_due()
    assert worker.inflight == 0
    assert worker.sent_to_coordinator() == [wakeup.IDLE]
    worker.supply(1, "f")
    worker.receive()
    worker.claim_if_due()
    assert worker.inflight == 1
    assert worker.sent_to_coordinator() == [wakeup.BUSY]
    worker.run_queued()
    worker.work_queue.running["slow"] = 0
    worker.claim_if_due()
    assert worker.inflight == 1, "as soon as there is room, without a wakeup"


def test_a_woken_worker_without_any_room_is_busy(make: Make) -> None:
    # Regression: it did not answer, and another worker was woken only a second later.
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
    worker.receive()
    worker.claim_if_due()
    worker.claim_if_due()
    assert worker.sent_to_coordinator() == [wakeup.BUSY]
    worker.work_queue.running["slow"] = 0
    worker.claim_if_due()
    assert worker.inflight == 1


def test_a_list_full_of_poison_does_not_make_it_wait(make: Make) -> None:
    worker = make(tick_interval_ms=HOUR_MS)
    for number in range(300):
        poison = record(f"t{number}", f"u{number}", "in", deaths=3)
        worker.client.rpush("conserver:returned:in", poison)
    [uuid] = worker.supply(1)
    for _ in range(3):
        worker.claim_if_due()
        worker.flush()
    assert [item.uuid for item in worker.take_queued()] == [uuid]
    assert len(worker.queue.dead("in")) == 300


def test_a_void_registration_ends_the_worker(make: Make) -> None:
    worker = make()
    worker.client.delete(keys.host(worker.boot.host))
    assert not worker.intake.claim()
    assert b"void" in worker.supervisor.recv(1000)


def wrong_type_logs(worker: SteppedWorker) -> list[tuple[str, str, str]]:
    """Let the worker claim twice. Returns event, key and type of what it logs."""
    with capture_logs() as lines:
        for _ in range(2):
            worker.receive()
            worker.claim_if_due()
    return [(line["event"], line["key"], line["found"]) for line in lines]


def test_a_list_of_another_type_is_logged_and_the_others_are_served(make: Make) -> None:
    worker = make(TWO)
    worker.queue.make_key("f", "hash")
    worker.supply(1, "s")
    assert wrong_type_logs(worker) == [("wrong_type", "f", "hash")]
    assert worker.inflight == 1


def test_a_host_key_of_another_type_is_logged_and_waited_for(make: Make) -> None:
    worker = make()
    worker.supply(1)
    key = keys.host(worker.boot.host)
    kept = worker.client.dump(key)
    worker.client.set(key, "x")
    assert wrong_type_logs(worker) == [("wrong_type", key, "string")]
    assert worker.inflight == 0
    worker.client.restore(key, 0, kept, replace=True)
    worker.receive()
    worker.claim_if_due()
    assert worker.inflight == 1


# ---- items that must not run ---------------------------------------------------------------------


def test_items_that_must_not_run_are_dead_lettered_and_logged(make: Make) -> None:
    worker = make(max_payload_bytes=1000, tick_interval_ms=HOUR_MS)
    body = document("large", subject="x" * 2000)
    worker.queue.suspect("bad", "in", deaths=3)
    worker.queue.push("in", body)
    with capture_logs() as lines:
        for _ in range(2):
            worker.claim_if_due()
            worker.flush()
    assert worker.queue.dead("in") == [b"bad", body]
    told = [line for line in lines if line["event"] == "dead_letter"]
    assert [(line["vcon"], line["chain"], line["list"], line["reason"]) for line in told] == [
        ("bad", "main", "in", "poison"),
        ("large", "main", "in", "oversized"),
    ]
    assert told[0]["deliveries"] == 3
    assert "died 3 times" in told[0]["error"]
    assert f"has {len(body)} bytes, more than 1000" in told[1]["error"]
    assert all(line["log_level"] == "error" for line in told)
    assert worker.status.read().items_failed == 2
    assert not [line for line in lines if line["event"] == "suspect_begun"]


def test_the_document_of_a_refused_item_is_not_parsed(make: Make) -> None:
    """To parse it may be what killed the workers. The first uuid in it is then its name in the log,
    and the whole payload has that of its dead letter.
    """
    worker = make(max_payload_bytes=1000)
    large = b'{"appended":{"uuid":"of-another"},"subject":"%s","uuid":"large"}' % (b"x" * 2000)
    deadly = '{"appended":{"uuid":"of-another"},"uuid":"deadly"}'
    worker.queue.suspect(deadly, "in", deaths=3)
    worker.queue.push("in", large)
    with capture_logs() as lines:
        for _ in range(2):
            worker.claim_if_due()
            worker.flush()
    told = [line["vcon"] for line in lines if line["event"] == "dead_letter"]
    assert told == ["of-another", "of-another"]
    assert {letter.name for letter in dead_letters.scan(worker.client, "in")} == {"deadly", "large"}


def test_suspects_that_must_not_run_do_not_wait_for_a_tick(make: Make) -> None:
    worker = make(tick_interval_ms=HOUR_MS)
    for number in range(3):
        worker.queue.suspect(f"bad{number}", "in", deaths=3)
    [uuid] = worker.supply(1)
    for number in range(3):
        worker.claim_if_due()
        worker.claim_if_due()
        assert worker.inflight == 1, "each is alone"
        assert b" s " in worker.client.hvals(keys.inflight(worker.boot.consumer))[0], "not begun"
        worker.flush()
        assert len(worker.queue.dead("in")) == number + 1
    worker.claim_if_due()
    assert [item.uuid for item in worker.take_queued()] == [uuid]


def test_the_dead_letter_of_a_refused_item_tells_of_the_last_death(make: Make) -> None:
    worker = make()
    state = Progress(links=["a"], attempts=1).dump()
    note = (
        "%7B%22error%22%3A%22hung%20at%20redis%3A%2F%2F%3Asecret%40h%22%2C%22link%22%3A%22a%22%7D"
    )
    text = record("t1", "u1", "in", flags=f"s:{note}", deaths=3, state=state, revision=7)
    worker.client.rpush("conserver:suspects:in", text)
    worker.claim_if_due()
    worker.flush()
    [(why, letter)] = worker.queue.reasons("in")
    assert (why["reason"], why["deliveries"], why["token"]) == ("poison", 3, "t1")
    assert (why["list"], why["uuid"], why["link"], why["attempts"]) == ("in", "u1", "a", 1)
    assert "died 3 times with nothing else to blame; the last time it hung at" in why["error"]
    assert "secret" not in why["error"]
    assert not {"type", "traceback"} & why.keys()
    assert (letter.state, letter.deaths) == (state, 3)
    [member] = worker.client.zrange("conserver:dead:in", 0, -1)
    assert f" 0 7 {len(state)} in\n".encode() in member, "the revision that its state is about"


@pytest.mark.parametrize("key", ["DLQ:in", keys.NOTIFICATIONS])
def test_a_refused_item_that_cannot_be_dead_lettered_is_parked(make: Make, key: str) -> None:
    worker = make()
    fields: list[tuple[str, str | bytes | int]] = [
        ("callback", b"{}"),
        ("callback_on", "failed"),
        ("callback_until_ms", 1000),
    ]
    submission = Submission("in", "u1", "j1", document("u1"), fields=fields)
    worker.queue.run(operator_calls.submit(submission))
    worker.claim_if_due()
    worker.queue.make_key(key, "string")
    with capture_logs() as lines:
        worker.flush()
        worker.flush()
    assert [line["key"] for line in lines if line["event"] == "wrong_type"] == [key]
    [parked] = worker.queue.parked("in")
    assert (parked.payload, parked.state, worker.inflight) == (b"u1", b"", 0)
    worker.client.delete(key)
    worker.queue.promote("in")
    worker.receive()
    worker.claim_if_due()
    worker.flush()
    [(why, _)] = worker.queue.reasons("in")
    assert (why["reason"], worker.queue.parked("in")) == ("rejected", [])
    assert worker.client.hget(keys.job("j1"), "status") == b"failed"


# ---- progress and its document -------------------------------------------------------------------


def test_what_was_done_for_a_document_that_was_replaced_is_done_again(make: Make) -> None:
    """Otherwise the storages would hold different documents for ever, and the corrected one would
    lack the work of the links.
    """
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
    assert item.progress.owed == [name], "all storages get it, including those with the old one"


def test_what_has_been_tried_counts_although_the_document_was_replaced(make: Make) -> None:
    worker = make(links=[link("a", tag)])
    progress = Progress(links=["a"], attempts=2, failures=2, runs={"a": 2}, error="no")
    worker.queue.store("u1", document("u1"))
    text = record("token", "u1", "in", state=progress.dump(), revision=0)
    worker.client.rpush("conserver:returned:in", text)
    item = worker.claim_one()
    assert item.claimed.replaced, "the revision in its record is unknown"
    assert item.progress == Progress(attempts=2, failures=2, runs={"a": 2}, error="no")
    item.revert_to_saved()
    assert item.progress.attempts == 2


# ---- suspects ------------------------------------------------------------------------------------


def test_a_suspect_is_claimed_alone_and_marked_before_it_runs(make: Make) -> None:
    worker = make(tick_interval_ms=HOUR_MS)
    worker.supply(3)
    worker.queue.store("bad", document("bad"))
    worker.queue.suspect("bad", "in", deaths=1)
    [suspect] = worker.claim()
    assert suspect.uuid == "bad"
    assert b" 1 sb " in worker.client.hvals(keys.inflight(worker.boot.consumer))[0]
    worker.receive()
    worker.claim_if_due()
    assert worker.inflight == 1, "nothing else is claimed"
    worker.run(suspect)
    worker.flush()
    worker.claim_if_due()
    assert worker.inflight == 3, "the others follow at once"


def test_a_worker_with_a_suspect_is_busy_although_a_thread_is_idle(make: Make) -> None:
    # Regression: it sent IDLE, was woken for the next item, and answered BUSY.
    worker = make(tick_interval_ms=HOUR_MS)
    worker.queue.suspect("bad", "in", deaths=3)  # It is refused, so no thread gets it.
    worker.claim_if_due()
    worker.claim_if_due()
    assert worker.work_queue.idle_threads == 1
    assert worker.sent_to_coordinator() == [wakeup.BUSY]
    worker.flush()
    worker.claim_if_due()
    assert worker.sent_to_coordinator() == [wakeup.IDLE]


def test_nothing_is_claimed_beside_a_suspect_although_redis_has_forgotten_it(make: Make) -> None:
    """A failover has undone its claim: for Redis this worker is like any other."""
    worker = make(tick_interval_ms=HOUR_MS)
    worker.queue.store("bad", document("bad"))
    worker.queue.suspect("bad", "in")
    [suspect] = worker.claim()
    worker.client.delete(keys.inflight(worker.boot.consumer))
    worker.client.hdel(keys.host(worker.boot.host), "suspect")
    worker.supply(3)
    worker.receive()
    worker.claim_if_due()
    assert [*worker.held.by_token.values()] == [suspect]
    worker.run(suspect)
    worker.flush()
    worker.claim_if_due()
    assert worker.inflight == 3


def test_a_worker_with_an_item_gets_no_suspect_although_redis_has_forgotten_it(
    make: Make,
) -> None:
    """A failover has undone the claim of an ordinary item that the worker runs."""
    worker = make(tick_interval_ms=HOUR_MS)
    worker.supply(1)
    [item] = worker.claim()
    worker.client.delete(keys.inflight(worker.boot.consumer))
    worker.queue.store("bad", document("bad"))
    worker.queue.suspect("bad", "in")
    worker.receive()
    worker.claim_if_due()
    assert [*worker.held.by_token.values()] == [item]
    assert worker.queue.suspects("in")


def test_no_suspect_runs_beside_a_call_that_hangs(make: Make, shelves: list[str]) -> None:
    """The call may crash the process later, and the death would count against the suspect."""
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
    worker.receive()
    worker.claim_if_due()
    assert worker.held.by_token == {}
    assert worker.schedule.suspects_wait
    gate.set()
    eventually(lambda: not writer.has_hung_calls)
    [suspect] = worker.claim()
    assert suspect.uuid == "bad"


def test_all_items_of_a_claim_are_held_before_the_next_command(make: Make) -> None:
    """Otherwise a worker that drains while Redis does not answer would leave without them."""
    held: list[tuple[str, int]] = []

    def note(worker: SteppedWorker, words: tuple[Any, ...]) -> None:
        held.append((words[0], len(worker.held)))

    with Collector() as collector:
        traces.start("worker", 1, "h", collector.environment)
        try:
            worker = make(before_command=note, context_expiry_s=60)
            worker.supply(2)
            worker.claim_if_due()
        finally:
            traces.stop()
    hints = [count for word, count in held if word == "LPOP"]
    assert hints == [2, 2]
    assert {count for word, count in held[held.index(("LPOP", 2)) :]} == {2}


def test_a_suspect_that_was_taken_away_before_it_ran_is_dropped(make: Make) -> None:
    def steal(worker: SteppedWorker, words: tuple[Any, ...]) -> None:
        if script.load("begin").sha in words:
            worker.client.delete(keys.inflight(worker.boot.consumer))

    worker = make(before_command=steal)
    worker.queue.store("bad", document("bad"))
    worker.queue.suspect("bad", "in")
    worker.receive()
    with capture_logs() as lines:
        worker.claim_if_due()
    # A document that was pushed is parsed for its name, which may kill the worker, too.
    assert "suspect_begun" not in {line["event"] for line in lines}, "it is marked first"
    assert worker.held.by_token == {}
    assert worker.status.read().items == ()
    assert worker.take_queued() == []
    worker.supply(1)
    worker.receive()
    worker.claim_if_due()
    assert worker.inflight == 1


def test_a_busy_worker_sends_suspects_and_can_finish_first_for_them(make: Make) -> None:
    worker = make(tick_interval_ms=HOUR_MS)
    worker.supply(1)
    [item] = worker.claim()
    worker.sent_to_coordinator()
    worker.queue.store("bad", document("bad"))
    worker.queue.suspect("bad", "in")
    worker.supply(3)
    worker.receive()
    worker.claim_if_due()
    assert wakeup.SUSPECTS in worker.sent_to_coordinator()
    busy = [item, *worker.take_queued()]
    worker.supply(1)
    worker.receive(wakeup.FINISH_FIRST)
    worker.claim_if_due()
    assert worker.inflight == 4, "it claims nothing more"
    worker.run(*busy)
    worker.flush()
    [suspect] = worker.claim()
    assert suspect.uuid == "bad"


# ---- what it holds -------------------------------------------------------------------------------


def test_a_claimed_item_is_in_shared_status_until_it_ends(make: Make) -> None:
    worker = make()
    [uuid] = worker.supply(1)
    item = worker.claim_one()
    [shown] = worker.status.read().items
    assert (shown.phase, shown.token, shown.epoch) == (Phase.QUEUED, item.token, 1)
    assert (shown.uuid, shown.chain) == (uuid, "main")
    worker.run(item)
    worker.flush()
    assert worker.status.read().items == ()
    worker.held.remove(item)
    assert worker.held.free_slots == ITEMS_MAX, "removed twice, its slot is freed once"


def test_shared_status_has_the_uuid_of_a_pushed_document_while_its_links_run(make: Make) -> None:
    """So that a death which counts against the item is logged with its uuid."""
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
    # Regression: after a failover had undone a claim, the end of the first item freed the slot of
    # the second.
    worker = make()
    worker.queue.store("u1", document("u1"))
    text = record("token", "u1", "in", state=Progress(attempts=1).dump())
    worker.client.rpush("conserver:returned:in", text)
    first = worker.claim_one()
    worker.client.delete(keys.inflight(worker.boot.consumer))
    worker.client.rpush("conserver:returned:in", text)
    second = worker.claim_one()
    assert first.token == second.token
    worker.run(first)
    worker.flush()
    assert worker.held.by_token == {"token": second}
    assert [one.slot for one in worker.status.read().items] == [second.status_slot]
    worker.run(second)
    worker.flush()
    assert worker.out() == ["u1"]
    assert worker.held.by_token == {}
    assert (worker.held.free_slots, worker.held.document_bytes) == (ITEMS_MAX, 0)


@pytest.mark.parametrize("flags", ["-", "s"])
@pytest.mark.parametrize("state", [b"{broken", b"[]", b'{"links":3}', b'{"pushes":[1]}'])
def test_a_record_whose_progress_cannot_be_read_is_a_dead_letter(
    make: Make, state: bytes, flags: str
) -> None:
    worker = make(links=[link("a", nothing)])
    place = "suspects" if flags == "s" else "returned"
    worker.client.rpush(f"conserver:{place}:in", record("t1", "u1", "in", flags=flags, state=state))
    assert worker.claim() == []
    worker.flush()
    [(why, letter)] = worker.queue.reasons("in")
    assert (why["reason"], letter.payload, letter.state) == ("rejected", b"u1", state)
    assert state.decode() in why["error"]
    worker.supply(1)
    worker.work()
    assert len(worker.out()) == 1


def test_a_requeue_of_unreadable_progress_runs_all_links(make: Make) -> None:
    worker = make(links=[link("a", nothing)])
    worker.client.set("vcon:u1", document("u1"))
    worker.client.rpush("conserver:returned:in", record("t1", "u1", "in", state=b'{"links":3}'))
    assert worker.claim() == []
    worker.flush()
    [letter] = dead_letters.scan(worker.client, "in")
    assert "progress in its record cannot be read" in letter.why["error"]
    assert dead_letters.requeue(worker.client, letter) == "returned"
    worker.work()
    assert (worker.out(), worker.queue.dead("in")) == (["u1"], [])


def test_unreadable_progress_that_cannot_be_dead_lettered_is_parked(make: Make) -> None:
    worker = make()
    state = b'{"links":3}'
    worker.client.rpush("conserver:returned:in", record("t1", "u1", "in", state=state))
    assert worker.claim() == []
    worker.queue.make_key("DLQ:in", "string")
    worker.flush()
    worker.flush()
    [parked] = worker.queue.parked("in")
    assert (parked.payload, parked.state, worker.inflight) == (b"u1", state, 0)

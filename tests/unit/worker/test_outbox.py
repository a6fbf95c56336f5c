"""outbox.py and conflicts.py: batches, conflicts, keys of the wrong type, and lost items.

The test changes Redis between the steps of a worker, as other chains, producers and operators do.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from structlog.testing import capture_logs

from conserver.errors import Rejected, Retry
from conserver.queue import calls, keys
from conserver.queue.record import Progress
from conserver.telemetry import traces
from conserver.vcon.document import Vcon
from conserver.worker.conflicts import MERGES_MAX
from conserver.worker.item import Item, OutcomeKind
from conserver.worker.outbox import WRONG_TYPE_RETRY_S
from storage.contract import Document
from tests.collector import Collector
from tests.conftest import unique
from tests.helpers import eventually
from tests.modules import memory
from tests.queues import record
from tests.workers import SteppedWorker, document, link, nothing, storage, tag

Make = Callable[..., SteppedWorker]
OTHER = {"ingress_lists": ["in2"], "egress_lists": ["out2"], "links": ["theirs"]}


def adds(name: str) -> Any:
    """A link that adds an analysis of this type."""

    def run(vcon: Vcon, _context: Any) -> Vcon:
        vcon.add_analysis({"type": name, "body": "x", "encoding": "none"})
        return vcon

    return link(name, run)


def kept(worker: SteppedWorker, uuid: str) -> Vcon:
    return Vcon.parse(worker.client.get(f"vcon:{uuid}") or b"")


def analyses(worker: SteppedWorker, uuid: str) -> list[str]:
    return [one["type"] for one in kept(worker, uuid).analysis]


def test_a_document_that_redisjson_refuses_is_a_dead_letter(json_redis_url: str) -> None:
    def nest(vcon: Vcon, _context: Any) -> Vcon:
        body: Any = 1
        for _ in range(200):
            body = {"a": body}
        vcon.add_analysis({"type": "deep", "body": body, "encoding": "json"})
        return vcon

    for stores in (False, True):
        storages = [storage(unique("shelf-"))] if stores else []
        with SteppedWorker(json_redis_url, links=[link("deep", nest)], storages=storages) as worker:
            text = document(uuid := unique("u-"))
            worker.client.execute_command("JSON.SET", f"vcon:{uuid}", "$", text)
            worker.queue.push("in", uuid)
            worker.run(worker.claim_one())
            worker.flush()
            worker.flush()
            why, _ = worker.queue.reasons("in")[-1]
            assert why["reason"] == "rejected"
            assert "RedisJSON does not take" in why["error"]
            assert worker.client.execute_command("JSON.GET", f"vcon:{uuid}") == text
            assert worker.inflight == 0


# ---- batches -------------------------------------------------------------------------------------


def test_all_that_waits_is_sent_in_one_call_of_each_kind(make: Make) -> None:
    name = unique("shelf-")
    worker = make(links=[link("a", tag)], storages=[storage(name)])
    worker.supply(40)
    items = worker.claim()
    before = worker.redis.calls
    worker.run(*items)
    worker.flush()
    writes = worker.redis.calls - before
    worker.outcomes.flush()
    worker.receive_report()
    worker.flush()
    settles = worker.redis.calls - before - writes
    assert (len(items), len(worker.out())) == (40, 40)
    assert writes <= 2, "one, and one more if Redis did not know the script"
    assert settles <= 2
    assert len(memory.shelf(name).saves) == 1


def test_calls_are_bounded_by_the_bytes_that_links_have_made(make: Make) -> None:
    # Regression: the sizes before the links ran were counted, so that 256 small vCons, each with a
    # megabyte of transcript by now, went into one call.
    def grow(vcon: Vcon, _context: Any) -> Vcon:
        vcon.add_analysis({"type": "large", "body": "x" * (calls.SCRIPT_BYTES // 2 - 5000)})
        return vcon

    worker = make(links=[link("a", grow)], storages=[storage(unique("shelf-"))])
    worker.queue.run(calls.write("nobody", 1, []))  # Redis knows the script
    worker.supply(6)
    items = worker.claim()
    worker.run(*items)
    before = worker.redis.calls
    worker.flush()
    assert worker.redis.calls - before == 3, "two of them fit into one call"


def shrink(vcon: Vcon, _context: Any) -> Vcon:
    vcon.data["subject"] = ""
    return vcon


def end(worker: SteppedWorker, item: Item, way: str) -> None:
    """Let the item end in this way."""
    if way == "park":
        worker.outbox.park(item, 60)
    elif way == "dead_letter":
        worker.outbox.dead_letter(item, "rejected", "it is no vCon")
    else:
        worker.run(item)


@pytest.mark.parametrize("way", ["release", "park", "dead_letter", "settle"])
def test_a_document_that_was_pushed_whole_counts_until_it_is_written(make: Make, way: str) -> None:
    # Its record contains the document, and every script call for the item handles the record in
    # Lua.
    worker = make(links=[link("a", shrink)])
    for call in (calls.move("park", "nobody", []), calls.settle("nobody", [])):
        worker.queue.run(call)  # Redis knows the scripts
    for number in range(6):
        size_bytes = calls.SCRIPT_BYTES // 2 - 20_000
        worker.queue.push("in", document(f"u{number}", subject="x" * size_bytes))
    items = [*worker.claim(), *worker.claim()]
    assert len(items) == 6
    before = worker.redis.calls
    if way == "release":
        worker.outbox.release(items, "not begun for a second")
    else:
        for item in items:
            end(worker, item, way)
        worker.flush()
    assert worker.redis.calls - before == 3, "two of them fit into one call"
    assert worker.inflight == 0


# ---- two chains on one vCon ----------------------------------------------------------------------


def test_a_conflict_of_a_write_is_merged_and_written_again(make: Make) -> None:
    name = unique("shelf-")
    worker = make(
        {"main": {"links": ["ours"]}, "other": {**OTHER, "storages": []}},
        links=[adds("ours"), adds("theirs")],
        storages=[storage(name)],
    )
    [uuid] = worker.supply(1)
    worker.queue.push("in2", uuid)
    ours, theirs = worker.claim()
    worker.run(theirs)
    worker.flush()
    worker.run(ours)
    worker.store()
    assert analyses(worker, uuid) == ["theirs", "ours"]
    assert worker.out("out2") == [uuid]
    stored = memory.shelf(name).documents[uuid]
    assert stored.body == worker.client.get(f"vcon:{uuid}")
    assert worker.out() == [uuid]
    assert worker.queue.places("in", "in2") == {}


def test_a_producer_that_replaces_the_document_is_merged_with(make: Make) -> None:
    worker = make(links=[adds("ours")])
    [uuid] = worker.supply(1)
    item = worker.claim_one()
    worker.client.set(f"vcon:{uuid}", document(uuid, subject="corrected"))
    worker.run(item)
    worker.flush()
    assert kept(worker, uuid).view["subject"] == "corrected"
    assert analyses(worker, uuid) == ["ours"]


def test_a_document_that_was_deleted_is_written_again(make: Make) -> None:
    worker = make(links=[adds("ours")])
    [uuid] = worker.supply(1)
    item = worker.claim_one()
    worker.client.delete(f"vcon:{uuid}", f"conserver:revision:{uuid}")
    worker.run(item)
    worker.flush()
    assert analyses(worker, uuid) == ["ours"]
    assert worker.out() == [uuid]


def expired(worker: SteppedWorker, uuid: str) -> None:
    """Let the document expire, after another chain has written, stored and settled it."""
    worker.client.delete(f"vcon:{uuid}", f"conserver:revision:{uuid}")


def test_a_document_that_expired_meanwhile_is_merged_with_a_storages_copy(make: Make) -> None:
    # Regression: what another chain had added was overwritten, in Redis and in the storages.
    name = unique("shelf-")
    worker = make(links=[adds("ours")], storages=[storage(name)])
    [uuid] = worker.supply(1)
    item = worker.claim_one()
    expired(worker, uuid)
    theirs = document(uuid, analysis=[{"type": "theirs", "body": "x", "encoding": "none"}])
    memory.shelf(name).put([Document(uuid, theirs, item.revision + 1)])
    worker.run(item)
    worker.flush()
    assert worker.receive_report().looked_up is item
    worker.store()
    assert analyses(worker, uuid) == ["theirs", "ours"]
    assert memory.shelf(name).documents[uuid].body == worker.client.get(f"vcon:{uuid}")
    assert worker.out() == [uuid]


def test_an_expired_document_that_no_storage_has_is_written_again(make: Make) -> None:
    name = unique("shelf-")
    worker = make(links=[adds("ours")], storages=[storage(name)])
    [uuid] = worker.supply(1)
    item = worker.claim_one()
    expired(worker, uuid)
    worker.run(item)
    worker.flush()
    worker.receive_report()
    worker.store()
    assert analyses(worker, uuid) == ["ours"]
    assert worker.out() == [uuid]


@pytest.mark.parametrize("costly", [False, True])
def test_an_expired_document_waits_for_an_unavailable_storage(make: Make, costly: bool) -> None:
    name = unique("shelf-")
    worker = make(
        links=[link("ours", _run_of(adds("ours")), costly=costly), link("b", nothing)],
        storages=[storage(name)],
    )
    memory.shelf(name).on_get.append(memory.breaks())
    [uuid] = worker.supply(1)
    item = worker.claim_one()
    expired(worker, uuid)
    worker.run(item)
    worker.flush()
    if not costly:
        worker.receive_report()
    worker.flush()
    [parked] = worker.queue.parked("in")
    progress = Progress.load(parked.state)
    assert (progress.links, progress.attempts, progress.failures) == ([], 1, 0)
    assert worker.inflight == 0


def test_a_conflict_that_waits_too_long_for_a_storage_is_given_up(make: Make) -> None:
    name = unique("shelf-")
    worker = make({"main": {"give_up_s": 60}}, links=[adds("ours")], storages=[storage(name)])
    memory.shelf(name).on_get.append(memory.breaks())
    [uuid] = worker.supply(1)
    item = worker.claim_one()
    item.claimed.first_seen_ms -= 3_600_000
    expired(worker, uuid)
    worker.run(item)
    worker.flush()
    worker.receive_report()
    worker.flush()
    [(why, letter)] = worker.queue.reasons("in")
    assert (why["reason"], why["attempts"], letter.payload) == ("failed", 1, uuid.encode())
    assert (worker.queue.parked("in"), worker.inflight) == ([], 0)


def test_a_write_that_was_refused_is_not_tried_again(make: Make) -> None:
    """The document of the dead letter stays in its record."""
    worker = make(links=[adds("ours")])
    body = document("u1")
    worker.queue.push("in", body)
    item = worker.claim_one()
    worker.runner.run(item)
    worker.outbox.end_attempt(item, None, Rejected("nobody takes it"))
    worker.flush()
    [(why, letter)] = worker.queue.reasons("in")
    assert (why["reason"], why["error"], letter.payload) == ("rejected", "nobody takes it", body)
    assert (worker.client.exists("vcon:u1"), worker.inflight) == (0, 0)


def test_an_item_starts_anew_from_a_newer_document_of_the_same_chain(make: Make) -> None:
    worker = make(links=[adds("ours")])
    [uuid] = worker.supply(1)
    worker.queue.push("in", uuid)
    first, second = worker.claim()
    worker.run(first)
    worker.flush()
    worker.run(second)
    worker.flush()
    assert worker.out() == [uuid], "the second has started anew"
    [again] = worker.take_queued()
    assert again is second
    assert (again.vcon, again.draft, again.outcome) == (None, None, None)
    worker.run(again)
    worker.flush()
    assert worker.out() == [uuid, uuid]
    assert analyses(worker, uuid) == ["ours", "ours"], "this link does not look for its own work"


def test_it_starts_anew_although_another_chain_has_written_since(make: Make) -> None:
    # Regression: the second item was merged with the other chain's document, which contains the
    # work of the first one.
    def once(vcon: Vcon, context: Any) -> Vcon:
        if any(one["type"] == "ours" for one in vcon.analysis):
            return vcon
        body = context.uuid + unique("-")  # never the same twice, like a model's answer
        vcon.add_analysis({"type": "ours", "body": body, "encoding": "none"})
        return vcon

    worker = make(
        {"main": {"links": ["ours"]}, "other": OTHER},
        links=[link("ours", once), adds("theirs")],
    )
    [uuid] = worker.supply(1)
    worker.queue.push("in", uuid)
    worker.queue.push("in2", uuid)
    first, second, theirs = worker.claim()
    for item in (first, theirs, second):
        worker.run(item)
        worker.flush()
    assert worker.take_queued() == [second]
    worker.run(second)
    worker.flush()
    assert analyses(worker, uuid) == ["ours", "theirs"]
    assert worker.out() == [uuid, uuid]


def test_a_checkpoint_that_meets_the_same_chain_starts_anew(make: Make) -> None:
    worker = make(links=[link("a", tag, costly=True), adds("ours")])
    [uuid] = worker.supply(1)
    worker.queue.push("in", uuid)
    first, second = worker.claim()
    worker.run(first)
    worker.flush()
    worker.run(second)
    assert worker.take_queued() == [second]
    worker.run(second)
    worker.flush()
    assert kept(worker, uuid).tags == {"seen": "yes"}


@pytest.mark.parametrize("checkpointed", [False, True])
def test_a_document_replaced_between_two_links_gets_the_work_of_both(
    make: Make, checkpointed: bool
) -> None:
    """The new document lacks what a checkpoint had written; a merge would not bring it back."""
    worker: SteppedWorker

    def replace(vcon: Vcon, _context: Any) -> Vcon:
        if vcon.data.get("subject") != "corrected":
            worker.queue.store(vcon.uuid, document(vcon.uuid, subject="corrected"))
        return vcon

    first = link("first", _run_of(adds("first")), costly=checkpointed)
    worker = make(links=[first, link("replace", replace), adds("last")])
    [uuid] = worker.supply(1)
    worker.work()
    worker.run_queued()
    assert analyses(worker, uuid) == ["first", "last"]
    assert kept(worker, uuid).data["subject"] == "corrected"
    assert worker.out() == [uuid]


def test_a_checkpoint_that_meets_another_chain_goes_on_with_the_merged_vcon(make: Make) -> None:
    seen: list[list[str]] = []
    worker: SteppedWorker

    def look(vcon: Vcon, _context: Any) -> Vcon:
        seen.append([one["type"] for one in vcon.analysis])
        return vcon

    costly = adds("ours")
    worker = make(
        {"main": {"links": ["ours", "look"]}, "other": OTHER},
        links=[link("ours", _run_of(costly), costly=True), link("look", look), adds("theirs")],
    )
    [uuid] = worker.supply(1)
    worker.queue.push("in2", uuid)
    ours, theirs = worker.claim()
    worker.run(theirs)
    worker.flush()
    worker.run(ours)
    worker.flush()
    assert seen == [["theirs", "ours"]]
    assert analyses(worker, uuid) == ["theirs", "ours"]


def _run_of(made: Any) -> Any:
    return lambda vcon, context: made.run(vcon, None, context)


def test_of_two_chains_edits_the_later_one_wins_and_is_logged(make: Make) -> None:
    def edit(word: str) -> Any:
        def run(vcon: Vcon, _context: Any) -> Vcon:
            vcon.data["subject"] = word
            return vcon

        return run

    worker = make(
        {"main": {"links": ["ours"]}, "other": OTHER},
        links=[link("ours", edit("ours")), link("theirs", edit("theirs"))],
    )
    [uuid] = worker.supply(1)
    worker.queue.push("in2", uuid)
    ours, theirs = worker.claim()
    worker.run(theirs)
    worker.flush()
    with capture_logs() as lines:
        worker.run(ours)
        worker.flush()
    assert kept(worker, uuid).view["subject"] == "ours"
    assert [line["note"] for line in lines if line["event"] == "merged"] == [
        "subject: both chains changed it, the later one wins"
    ]


def test_what_cannot_be_merged_is_a_dead_letter_that_can_be_replayed(make: Make) -> None:
    # Regression: its record listed the links as done, but their changes were lost. Replayed, it
    # would have been stored without them.
    worker = make(links=[adds("ours")])
    [uuid] = worker.supply(1)
    item = worker.claim_one()
    envelope = orjson.dumps({"payload": "e30", "signatures": [{"header": {"uuid": uuid}}]})
    worker.client.set(f"vcon:{uuid}", envelope)
    worker.run(item)
    worker.flush()
    [(why, record)] = worker.queue.reasons("in")
    assert why["error"].startswith("two chains changed the vCon: it was signed or encrypted")
    progress = Progress.load(record.state)
    assert (progress.links, progress.attempts, progress.failures) == ([], 1, 0)
    assert worker.client.get(f"vcon:{uuid}") == envelope


def test_a_document_that_never_stops_changing_is_a_dead_letter(make: Make) -> None:
    worker = make(links=[adds("ours")])
    [uuid] = worker.supply(1)
    item = worker.claim_one()
    worker.run(item)
    for number in range(MERGES_MAX + 5):
        worker.client.set(f"vcon:{uuid}", document(uuid, number=number))
        worker.outbox.flush()
    [(why, _)] = worker.queue.reasons("in")
    assert "changed 51 times" in why["error"]
    assert worker.inflight == 0


def test_a_large_newer_document_is_read_in_another_call(make: Make) -> None:
    worker = make(links=[adds("ours")])
    [uuid] = worker.supply(1)
    item = worker.claim_one()
    large = document(uuid, attachments=[{"type": "x", "body": "y" * 300_000}])
    worker.client.set(f"vcon:{uuid}", large)
    worker.run(item)
    worker.flush()
    assert analyses(worker, uuid) == ["ours"]
    assert len(kept(worker, uuid).attachments) == 1


# ---- lost items ----------------------------------------------------------------------------------


def stolen(worker: SteppedWorker) -> None:
    """Give all that the worker holds to another consumer."""
    worker.client.delete(keys.inflight(worker.boot.consumer))


@pytest.mark.parametrize("how", ["done", "stored", "failed"])
def test_nothing_is_written_for_a_lost_item(make: Make, how: str) -> None:
    def run(vcon: Vcon, context: Any) -> Vcon:
        if how == "failed":
            raise ValueError
        return tag(vcon, context)

    storages = [storage(unique("shelf-"))] if how == "stored" else []
    worker = make(links=[link("a", run)], storages=storages)
    [uuid] = worker.supply(1)
    item = worker.claim_one()
    stolen(worker)
    worker.run(item)
    worker.flush()
    assert worker.out() == []
    assert worker.held.by_token == {}
    assert worker.status.read().items == ()
    assert b"seen" not in (worker.client.get(f"vcon:{uuid}") or b"")
    assert worker.queue.places("in") == {}


def test_an_item_that_is_lost_while_it_is_stored_is_not_settled(make: Make) -> None:
    worker = make(storages=[storage(unique("shelf-"))])
    worker.supply(1)
    worker.run(worker.claim_one())
    worker.flush()
    worker.outcomes.flush()
    stolen(worker)
    worker.receive_report()
    worker.flush()
    assert worker.out() == []
    assert worker.held.by_token == {}


def test_a_checkpoint_of_a_lost_item_ends_its_links(make: Make) -> None:
    def never(_vcon: Vcon, _context: Any) -> Vcon:
        raise AssertionError("it went on")

    worker = make(links=[link("a", tag, costly=True), link("b", never)])
    worker.supply(1)
    item = worker.claim_one()
    stolen(worker)
    worker.run(item)
    worker.flush()
    assert item.outcome is not None
    assert item.outcome.kind is OutcomeKind.LOST
    assert worker.held.by_token == {}


# ---- keys of the wrong type ----------------------------------------------------------------------


def test_an_egress_list_of_another_type_parks_the_item_with_all_its_work(make: Make) -> None:
    # Regression: its record listed the links as done, but their changes were in no document.
    runs: list[str] = []

    def once(vcon: Vcon, context: Any) -> Vcon:
        runs.append(context.uuid)
        return tag(vcon, context)

    worker = make(links=[link("a", once)])
    [uuid] = worker.supply(1)
    worker.queue.make_key("out", "hash")
    with capture_logs() as lines:
        worker.work()
    assert [(line["key"], line["found"]) for line in lines if line["event"] == "wrong_type"] == [
        ("out", "hash")
    ]
    assert len(worker.queue.parked("in")) == 1
    assert kept(worker, uuid).tags == {"seen": "yes"}
    worker.client.delete("out")
    worker.queue.promote("in")
    worker.work()
    assert worker.out() == [uuid]
    assert runs == [uuid]
    assert kept(worker, uuid).tags == {"seen": "yes"}


def test_an_egress_list_of_another_type_parks_a_document_that_was_pushed_whole(
    make: Make,
) -> None:
    worker = make(links=[link("a", tag)])
    worker.queue.push("in", document("u1"))
    worker.queue.make_key("out", "set")
    worker.work()
    worker.client.delete("out")
    worker.queue.promote("in")
    worker.work()
    assert worker.out() == ["u1"]
    assert kept(worker, "u1").tags == {"seen": "yes"}


def test_a_filtering_link_whose_push_meets_another_type_runs_again(make: Make) -> None:
    def route(_vcon: Vcon, context: Any) -> None:
        context.push("aside")

    worker = make(links=[link("a", route)])
    [uuid] = worker.supply(1)
    worker.queue.make_key("aside", "hash")
    worker.work()
    assert Progress.load(worker.queue.parked("in")[0].state).pushes == []
    worker.client.delete("aside")
    worker.queue.promote("in")
    worker.work()
    assert worker.out("aside") == [uuid]


@pytest.mark.parametrize("stores", [True, False])
def test_a_document_key_of_another_type_parks_the_item_as_it_was(make: Make, stores: bool) -> None:
    # Regression: it was parked with its links listed as done and nothing written.
    storages = [storage(unique("shelf-"))] if stores else []
    worker = make(links=[link("a", tag)], storages=storages)
    [uuid] = worker.supply(1)
    item = worker.claim_one()
    worker.client.delete(f"vcon:{uuid}")
    worker.queue.make_key(f"vcon:{uuid}", "hash")
    worker.run(item)
    worker.flush()
    [parked] = worker.queue.parked("in")
    assert Progress.load(parked.state) == Progress()
    worker.client.delete(f"vcon:{uuid}")
    worker.client.set(f"vcon:{uuid}", document(uuid))
    worker.queue.promote("in")
    worker.run(*worker.claim())
    if stores:
        worker.store()
    worker.flush()
    assert worker.out() == [uuid]
    assert kept(worker, uuid).tags == {"seen": "yes"}


def test_a_checkpoint_that_meets_another_type_is_a_retry_and_no_failure(make: Make) -> None:
    worker = make(links=[link("a", tag, costly=True), link("b", nothing)])
    [uuid] = worker.supply(1)
    item = worker.claim_one()
    worker.client.delete(f"vcon:{uuid}")
    worker.queue.make_key(f"vcon:{uuid}", "list")
    worker.run(item)
    worker.flush()
    [parked] = worker.queue.parked("in")
    progress = Progress.load(parked.state)
    assert (progress.attempts, progress.failures) == (1, 0)
    assert progress.error == f"vcon:{uuid} is a Redis list"


def test_a_dead_letter_list_of_another_type_parks_the_item(make: Make) -> None:
    def fail(_vcon: Vcon, _context: Any) -> Vcon:
        raise ValueError("odd")

    worker = make({"main": {"retries": 0}}, links=[link("a", fail)])
    [uuid] = worker.supply(1)
    item = worker.claim_one()
    worker.queue.make_key("DLQ:in", "string")
    worker.run(item)
    worker.flush()
    assert len(worker.queue.parked("in")) == 1
    worker.client.delete("DLQ:in")
    worker.queue.promote("in")
    worker.work()
    assert worker.queue.dead("in") == [uuid.encode()]


def test_an_item_that_cannot_be_parked_stays_in_its_worker_and_is_parked_later(
    make: Make,
) -> None:
    def later(_vcon: Vcon, _context: Any) -> Vcon:
        raise Retry(60.0)

    worker = make(links=[link("a", later)])
    worker.supply(1)
    item = worker.claim_one()
    worker.client.set("conserver:parked:in", "x")
    worker.run(item)
    with capture_logs() as lines:
        worker.flush()
    told = [(line["key"], line["found"]) for line in lines if line["event"] == "wrong_type"]
    assert told == [("conserver:parked:in", "string")]
    assert worker.inflight == 1
    worker.client.delete("conserver:parked:in")
    worker.outbox.retry_parks(time.monotonic())
    worker.flush()
    assert worker.inflight == 1, "too early"
    worker.outbox.retry_parks(time.monotonic() + WRONG_TYPE_RETRY_S)
    worker.flush()
    assert (worker.inflight, worker.held.by_token) == (0, {})
    assert len(worker.queue.parked("in")) == 1


def test_an_item_that_cannot_be_released_is_logged_and_stays_in_flight(make: Make) -> None:
    worker = make()
    worker.client.rpush("conserver:returned:in", record("t1", "u1", "in", state=b"{}"))
    worker.queue.store("u1", document("u1"))
    worker.claim_if_due()
    worker.client.set("conserver:returned:in", "x")
    with capture_logs() as lines:
        worker.outbox.release(worker.work_queue.take_back(float("inf")), "a test")
    assert [line["key"] for line in lines if line["event"] == "wrong_type"] == [
        "conserver:returned:in"
    ]
    assert (worker.inflight, worker.held.by_token) == (1, {}), "the search for strays returns it"


# ---- release and settle --------------------------------------------------------------------------


def test_released_items_are_at_the_head_of_their_list_in_order(make: Make) -> None:
    worker = make()
    uuids = worker.supply(5)
    worker.receive()
    worker.claim_if_due()
    worker.supply(1)
    worker.outbox.release(worker.work_queue.take_back(float("inf")), "a test")
    assert worker.queue.waiting("in")[:5] == [uuid.encode() for uuid in uuids]
    assert (worker.inflight, worker.held.by_token) == (0, {})


def test_the_span_of_a_released_item_ends(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    with Collector() as collector:
        for name, value in collector.environment.items():
            monkeypatch.setenv(name, value)
        traces.start("worker", 1, "h")
        try:
            worker = make()
            worker.supply(1)
            worker.outbox.release([worker.claim_one()], "a test")
            eventually(lambda: "process in" in {one.name for one in collector.spans})
        finally:
            traces.stop()
    [span] = [one for one in collector.spans if one.name == "process in"]
    assert span.attributes["conserver.outcome"] == "released"


def test_one_line_is_logged_for_a_settled_item(make: Make) -> None:
    worker = make(links=[link("a", tag)])
    [uuid] = worker.supply(1)
    with capture_logs() as lines:
        worker.work()
    [line] = [line for line in lines if line["log_level"] == "info"]
    assert line["event"] == "done"
    assert (line["vcon"], line["chain"], line["list"]) == (uuid, "main", "in")
    assert line["duration_ms"] >= line["links_ms"] > 0
    assert worker.status.read().items_done == 1

"""outbox.py: calls in batches, conflicts, keys of the wrong type, and items that were lost.

What other chains, producers and operators do meanwhile, the test does in between.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import orjson
import pytest
from structlog.testing import capture_logs

from conserver.errors import Retry
from conserver.queue import calls
from conserver.queue.record import Progress
from conserver.vcon.document import Vcon
from conserver.worker.conflicts import REWRITES_MOST
from conserver.worker.item import Item
from conserver.worker.outbox import WRONG_TYPE_RETRY_S
from storage.contract import Document
from tests.conftest import unique
from tests.modules import memory
from tests.queues import record
from tests.workshop import Bench, document, link, nothing, storage, tag

Make = Callable[..., Bench]
OTHER = {"ingress_lists": ["in2"], "egress_lists": ["out2"], "links": ["theirs"]}


@pytest.fixture
def make(redis_url: str) -> Iterator[Make]:
    """Makes benches."""
    with ExitStack() as stack:
        yield lambda *arguments, **settings: stack.enter_context(
            Bench(redis_url, *arguments, **settings)
        )


def adds(name: str) -> Any:
    """A link that adds an analysis of its own name."""

    def run(vcon: Vcon, _context: Any) -> Vcon:
        vcon.add_analysis({"type": name, "body": "x", "encoding": "none"})
        return vcon

    return link(name, run)


def kept(bench: Bench, uuid: str) -> Vcon:
    return Vcon.parse(bench.client.get(f"vcon:{uuid}") or b"")


def analyses(bench: Bench, uuid: str) -> list[str]:
    return [one["type"] for one in kept(bench, uuid).analysis]


def test_a_document_that_redisjson_refuses_is_a_dead_letter(json_redis_url: str) -> None:
    def bury_deep(vcon: Vcon, _context: Any) -> Vcon:
        body: Any = 1
        for _ in range(200):
            body = {"a": body}
        vcon.add_analysis({"type": "deep", "body": body, "encoding": "json"})
        return vcon

    for stores in (False, True):
        storages = [storage(unique("shelf-"))] if stores else []
        with Bench(json_redis_url, links=[link("deep", bury_deep)], storages=storages) as bench:
            text = document(uuid := unique("u-"))
            bench.client.execute_command("JSON.SET", f"vcon:{uuid}", "$", text)
            bench.queue.push("in", uuid)
            bench.run(bench.one())
            bench.flush()
            bench.flush()
            why, _ = bench.queue.reasons("in")[-1]
            assert why["reason"] == "rejected"
            assert "RedisJSON does not take" in why["error"]
            assert bench.client.execute_command("JSON.GET", f"vcon:{uuid}") == text
            assert bench.held == 0


# ---- batches -------------------------------------------------------------------------------------


def test_what_waits_goes_in_one_call_of_each_kind(make: Make) -> None:
    name = unique("shelf-")
    bench = make(links=[link("a", tag)], storages=[storage(name)])
    bench.supply(40)
    items = bench.claim()
    before = bench.line.calls
    bench.run(*items)
    bench.flush()
    writes = bench.line.calls - before
    bench.settling.flush()
    bench.hear()
    bench.flush()
    settles = bench.line.calls - before - writes
    assert (len(items), len(bench.out())) == (40, 40)
    assert writes <= 2, "one, and one more if Redis did not know the script"
    assert settles <= 2
    assert len(memory.shelf(name).saves) == 1


def test_calls_are_bounded_by_the_bytes_that_links_have_made(make: Make) -> None:
    # The size before the links was counted: 256 small vCons with a megabyte of transcript each.
    def grow(vcon: Vcon, _context: Any) -> Vcon:
        vcon.add_analysis({"type": "large", "body": "x" * (calls.SCRIPT_BYTES // 2 - 5000)})
        return vcon

    bench = make(links=[link("a", grow)], storages=[storage(unique("shelf-"))])
    bench.queue.run(calls.write("nobody", 1, []))  # Redis knows the script
    bench.supply(6)
    items = bench.claim()
    bench.run(*items)
    before = bench.line.calls
    bench.flush()
    assert bench.line.calls - before == 3, "two of them fit into one call"


def shrink(vcon: Vcon, _context: Any) -> Vcon:
    vcon.data["subject"] = ""
    return vcon


def end(bench: Bench, item: Item, way: str) -> None:
    """What settling decides, put into the outbox."""
    if way == "park":
        bench.outbox.park(item, 60)
    elif way == "dead_letter":
        bench.outbox.dead_letter(item, item.why_dead("rejected", "it is no vCon"))
    else:
        bench.run(item)


@pytest.mark.parametrize("way", ["release", "park", "dead_letter", "settle"])
def test_a_document_that_was_pushed_whole_counts_until_it_is_written(make: Make, way: str) -> None:
    # Its record carries it, and whatever is done to the item takes that through Lua.
    bench = make(links=[link("a", shrink)])
    for call in (calls.park("nobody", []), calls.settle("nobody", [])):
        bench.queue.run(call)  # Redis knows the scripts
    for number in range(6):
        size_bytes = calls.SCRIPT_BYTES // 2 - 20_000
        bench.queue.push("in", document(f"u{number}", subject="x" * size_bytes))
    items = [*bench.claim(), *bench.claim()]
    assert len(items) == 6
    before = bench.line.calls
    if way == "release":
        bench.outbox.release(items, "not begun for a second")
    else:
        for item in items:
            end(bench, item, way)
        bench.flush()
    assert bench.line.calls - before == 3, "two of them fit into one call"
    assert bench.held == 0


# ---- two chains on one vCon ----------------------------------------------------------------------


def test_a_conflict_of_a_write_is_merged_and_written_again(make: Make) -> None:
    name = unique("shelf-")
    bench = make(
        {"main": {"links": ["ours"]}, "other": {**OTHER, "storages": []}},
        links=[adds("ours"), adds("theirs")],
        storages=[storage(name)],
    )
    [uuid] = bench.supply(1)
    bench.queue.push("in2", uuid)
    ours, theirs = bench.claim()
    bench.run(theirs)
    bench.flush()
    bench.run(ours)
    bench.store()
    assert analyses(bench, uuid) == ["theirs", "ours"]
    assert bench.out("out2") == [uuid]
    stored = memory.shelf(name).documents[uuid]
    assert stored.body == bench.client.get(f"vcon:{uuid}")
    assert bench.out() == [uuid]
    assert bench.queue.places("in", "in2") == {}


def test_a_producer_that_replaces_the_document_is_merged_with(make: Make) -> None:
    bench = make(links=[adds("ours")])
    [uuid] = bench.supply(1)
    item = bench.one()
    bench.client.set(f"vcon:{uuid}", document(uuid, subject="corrected"))
    bench.run(item)
    bench.flush()
    assert kept(bench, uuid).view["subject"] == "corrected"
    assert analyses(bench, uuid) == ["ours"]


def test_a_document_that_is_gone_is_written_again(make: Make) -> None:
    bench = make(links=[adds("ours")])
    [uuid] = bench.supply(1)
    item = bench.one()
    bench.client.delete(f"vcon:{uuid}", f"conserver:revision:{uuid}")
    bench.run(item)
    bench.flush()
    assert analyses(bench, uuid) == ["ours"]
    assert bench.out() == [uuid]


def expired(bench: Bench, uuid: str) -> None:
    """Another chain has written, stored and settled since we read it, and its hour is over."""
    bench.client.delete(f"vcon:{uuid}", f"conserver:revision:{uuid}")


def test_a_document_that_expired_meanwhile_is_merged_with_what_a_storage_has(make: Make) -> None:
    # What another chain had added was buried under our newer revision, in the storages too.
    name = unique("shelf-")
    bench = make(links=[adds("ours")], storages=[storage(name)])
    [uuid] = bench.supply(1)
    item = bench.one()
    expired(bench, uuid)
    theirs = document(uuid, analysis=[{"type": "theirs", "body": "x", "encoding": "none"}])
    memory.shelf(name).put([Document(uuid, theirs, item.revision + 1)])
    bench.run(item)
    bench.flush()
    assert bench.hear().looked_up is item
    bench.store()
    assert analyses(bench, uuid) == ["theirs", "ours"]
    assert memory.shelf(name).documents[uuid].body == bench.client.get(f"vcon:{uuid}")
    assert bench.out() == [uuid]


def test_an_expired_document_that_no_storage_has_is_what_we_hold(make: Make) -> None:
    name = unique("shelf-")
    bench = make(links=[adds("ours")], storages=[storage(name)])
    [uuid] = bench.supply(1)
    item = bench.one()
    expired(bench, uuid)
    bench.run(item)
    bench.flush()
    bench.hear()
    bench.store()
    assert analyses(bench, uuid) == ["ours"]
    assert bench.out() == [uuid]


@pytest.mark.parametrize("costly", [False, True])
def test_an_expired_document_waits_for_a_storage_that_is_away(make: Make, costly: bool) -> None:
    name = unique("shelf-")
    bench = make(
        links=[link("ours", _run_of(adds("ours")), costly=costly), link("b", nothing)],
        storages=[storage(name)],
    )
    memory.shelf(name).on_get.append(memory.breaks())
    [uuid] = bench.supply(1)
    item = bench.one()
    expired(bench, uuid)
    bench.run(item)
    bench.flush()
    if not costly:
        bench.hear()
    bench.flush()
    [parked] = bench.queue.parked("in")
    assert Progress.load(parked.state).links == []
    assert bench.held == 0


def test_newer_work_of_the_same_chain_is_started_from(make: Make) -> None:
    bench = make(links=[adds("ours")])
    [uuid] = bench.supply(1)
    bench.queue.push("in", uuid)
    first, second = bench.claim()
    bench.run(first)
    bench.flush()
    bench.run(second)
    bench.flush()
    assert bench.out() == [uuid], "the second has started anew"
    [again] = bench.waiting()
    assert again is second
    assert (again.vcon, again.draft, again.outcome) == (None, None, None)
    bench.run(again)
    bench.flush()
    assert bench.out() == [uuid, uuid]
    assert analyses(bench, uuid) == ["ours", "ours"], "the link does not look for its own traces"


def test_it_is_started_from_whoever_has_written_after_it(make: Make) -> None:
    # The second was joined with the other chain's document, which has the first one's work in it.
    def once(vcon: Vcon, context: Any) -> Vcon:
        if any(one["type"] == "ours" for one in vcon.analysis):
            return vcon
        body = context.uuid + unique("-")  # as what a model says: never the same twice
        vcon.add_analysis({"type": "ours", "body": body, "encoding": "none"})
        return vcon

    bench = make(
        {"main": {"links": ["ours"]}, "other": OTHER},
        links=[link("ours", once), adds("theirs")],
    )
    [uuid] = bench.supply(1)
    bench.queue.push("in", uuid)
    bench.queue.push("in2", uuid)
    first, second, theirs = bench.claim()
    for item in (first, theirs, second):
        bench.run(item)
        bench.flush()
    assert bench.waiting() == [second]
    bench.run(second)
    bench.flush()
    assert analyses(bench, uuid) == ["ours", "theirs"]
    assert bench.out() == [uuid, uuid]


def test_a_checkpoint_that_meets_the_same_chain_starts_anew(make: Make) -> None:
    bench = make(links=[link("a", tag, costly=True), adds("ours")])
    [uuid] = bench.supply(1)
    bench.queue.push("in", uuid)
    first, second = bench.claim()
    bench.run(first)
    bench.flush()
    bench.run(second)
    assert bench.waiting() == [second]
    bench.run(second)
    bench.flush()
    assert kept(bench, uuid).tags == {"seen": "yes"}


@pytest.mark.parametrize("checkpointed", [False, True])
def test_a_producers_set_between_two_links_loses_neither_ones_work(
    make: Make, checkpointed: bool
) -> None:
    """What was checkpointed is not in the new document: joined with the rest, it was gone."""
    bench: Bench

    def replace(vcon: Vcon, _context: Any) -> Vcon:
        if vcon.data.get("subject") != "corrected":
            bench.queue.store(vcon.uuid, document(vcon.uuid, subject="corrected"))
        return vcon

    first = link("first", _run_of(adds("first")), costly=checkpointed)
    bench = make(links=[first, link("replace", replace), adds("last")])
    [uuid] = bench.supply(1)
    bench.work()
    bench.work_off()
    assert analyses(bench, uuid) == ["first", "last"]
    assert kept(bench, uuid).data["subject"] == "corrected"
    assert bench.out() == [uuid]


def test_a_checkpoint_that_meets_another_chain_goes_on_with_the_merged_vcon(make: Make) -> None:
    seen: list[list[str]] = []
    bench: Bench

    def look(vcon: Vcon, _context: Any) -> Vcon:
        seen.append([one["type"] for one in vcon.analysis])
        return vcon

    costly = adds("ours")
    bench = make(
        {"main": {"links": ["ours", "look"]}, "other": OTHER},
        links=[link("ours", _run_of(costly), costly=True), link("look", look), adds("theirs")],
    )
    [uuid] = bench.supply(1)
    bench.queue.push("in2", uuid)
    ours, theirs = bench.claim()
    bench.run(theirs)
    bench.flush()
    bench.run(ours)
    bench.flush()
    assert seen == [["theirs", "ours"]]
    assert analyses(bench, uuid) == ["theirs", "ours"]


def _run_of(made: Any) -> Any:
    return lambda vcon, context: made.run(vcon, None, context)


def test_edits_of_two_chains_are_decided_for_the_later_one_and_logged(make: Make) -> None:
    def edit(word: str) -> Any:
        def run(vcon: Vcon, _context: Any) -> Vcon:
            vcon.data["subject"] = word
            return vcon

        return run

    bench = make(
        {"main": {"links": ["ours"]}, "other": OTHER},
        links=[link("ours", edit("ours")), link("theirs", edit("theirs"))],
    )
    [uuid] = bench.supply(1)
    bench.queue.push("in2", uuid)
    ours, theirs = bench.claim()
    bench.run(theirs)
    bench.flush()
    with capture_logs() as lines:
        bench.run(ours)
        bench.flush()
    assert kept(bench, uuid).view["subject"] == "ours"
    assert [line["note"] for line in lines if line["event"] == "merged"] == [
        "subject: both chains changed it, the later one wins"
    ]


def test_what_cannot_be_joined_is_a_dead_letter_that_can_be_replayed(make: Make) -> None:
    # Its record said that the links were done, whose changes were nowhere: replayed, it would
    # have been stored without them.
    bench = make(links=[adds("ours")])
    [uuid] = bench.supply(1)
    item = bench.one()
    envelope = orjson.dumps({"payload": "e30", "signatures": [{"header": {"uuid": uuid}}]})
    bench.client.set(f"vcon:{uuid}", envelope)
    bench.run(item)
    bench.flush()
    [(why, record)] = bench.queue.reasons("in")
    assert why["error"].startswith("two chains changed the vCon: it was signed or encrypted")
    assert Progress.load(record.state) == Progress()
    assert bench.client.get(f"vcon:{uuid}") == envelope


def test_a_document_that_changes_without_end_is_given_up(make: Make) -> None:
    bench = make(links=[adds("ours")])
    [uuid] = bench.supply(1)
    item = bench.one()
    bench.run(item)
    for number in range(REWRITES_MOST + 5):
        bench.client.set(f"vcon:{uuid}", document(uuid, number=number))
        bench.outbox.flush()
    [(why, _)] = bench.queue.reasons("in")
    assert "changed 51 times" in why["error"]
    assert bench.held == 0


def test_a_large_newer_document_is_read_apart(make: Make) -> None:
    bench = make(links=[adds("ours")])
    [uuid] = bench.supply(1)
    item = bench.one()
    large = document(uuid, attachments=[{"type": "x", "body": "y" * 300_000}])
    bench.client.set(f"vcon:{uuid}", large)
    bench.run(item)
    bench.flush()
    assert analyses(bench, uuid) == ["ours"]
    assert len(kept(bench, uuid).attachments) == 1


# ---- lost items ----------------------------------------------------------------------------------


def stolen(bench: Bench) -> None:
    """What the worker holds is given to somebody else."""
    bench.client.delete(calls.inflight_key(bench.boot.consumer))


@pytest.mark.parametrize("kind", ["done", "stored", "failed", "rejected", "anew"])
def test_a_lost_item_ends_in_silence(make: Make, kind: str) -> None:
    def run(vcon: Vcon, context: Any) -> Vcon:
        if kind == "failed":
            raise ValueError
        return tag(vcon, context)

    storages = [storage(unique("shelf-"))] if kind == "stored" else []
    bench = make(links=[link("a", run)], storages=storages)
    [uuid] = bench.supply(1)
    item = bench.one()
    stolen(bench)
    bench.run(item)
    bench.flush()
    assert bench.out() == []
    assert bench.intake.held == {}
    assert bench.status.read().items == ()
    assert b"seen" not in (bench.client.get(f"vcon:{uuid}") or b"")
    assert bench.queue.places("in") == {}


def test_a_storage_that_answers_for_a_lost_item_does_no_harm(make: Make) -> None:
    bench = make(storages=[storage(unique("shelf-"))])
    bench.supply(1)
    bench.run(bench.one())
    bench.flush()
    bench.settling.flush()
    stolen(bench)
    bench.hear()
    bench.flush()
    assert bench.out() == []
    assert bench.intake.held == {}


def test_a_checkpoint_of_a_lost_item_ends_its_links(make: Make) -> None:
    def never(_vcon: Vcon, _context: Any) -> Vcon:
        raise AssertionError("it went on")

    bench = make(links=[link("a", tag, costly=True), link("b", never)])
    bench.supply(1)
    item = bench.one()
    stolen(bench)
    bench.run(item)
    bench.flush()
    assert item.outcome is not None
    assert item.outcome.kind == "lost"
    assert bench.intake.held == {}


# ---- keys of the wrong type ----------------------------------------------------------------------


def test_an_egress_list_of_another_type_parks_the_item_with_all_its_work(make: Make) -> None:
    # Its record said that the links were done, but their changes were in no document.
    runs: list[str] = []

    def once(vcon: Vcon, context: Any) -> Vcon:
        runs.append(context.uuid)
        return tag(vcon, context)

    bench = make(links=[link("a", once)])
    [uuid] = bench.supply(1)
    bench.queue.make_key("out", "hash")
    with capture_logs() as lines:
        bench.work()
    assert [(line["key"], line["found"]) for line in lines if line["event"] == "wrong_type"] == [
        ("out", "hash")
    ]
    assert len(bench.queue.parked("in")) == 1
    assert kept(bench, uuid).tags == {"seen": "yes"}
    bench.client.delete("out")
    bench.queue.promote("in")
    bench.work()
    assert bench.out() == [uuid]
    assert runs == [uuid]
    assert kept(bench, uuid).tags == {"seen": "yes"}


def test_a_whole_document_is_not_lost_to_an_egress_list_of_another_type(make: Make) -> None:
    bench = make(links=[link("a", tag)])
    bench.queue.push("in", document("u1"))
    bench.queue.make_key("out", "set")
    bench.work()
    bench.client.delete("out")
    bench.queue.promote("in")
    bench.work()
    assert bench.out() == ["u1"]
    assert kept(bench, "u1").tags == {"seen": "yes"}


def test_a_filtering_link_asks_for_its_effects_again_after_such_a_wait(make: Make) -> None:
    def route(_vcon: Vcon, context: Any) -> None:
        context.push("aside")

    bench = make(links=[link("a", route)])
    [uuid] = bench.supply(1)
    bench.queue.make_key("aside", "hash")
    bench.work()
    assert Progress.load(bench.queue.parked("in")[0].state).pushes == []
    bench.client.delete("aside")
    bench.queue.promote("in")
    bench.work()
    assert bench.out("aside") == [uuid]


@pytest.mark.parametrize("stores", [True, False])
def test_a_document_key_of_another_type_parks_the_item_as_it_was(make: Make, stores: bool) -> None:
    # It was parked with its links done and nothing written: what they did was lost.
    storages = [storage(unique("shelf-"))] if stores else []
    bench = make(links=[link("a", tag)], storages=storages)
    [uuid] = bench.supply(1)
    item = bench.one()
    bench.client.delete(f"vcon:{uuid}")
    bench.queue.make_key(f"vcon:{uuid}", "hash")
    bench.run(item)
    bench.flush()
    [parked] = bench.queue.parked("in")
    assert Progress.load(parked.state) == Progress()
    bench.client.delete(f"vcon:{uuid}")
    bench.client.set(f"vcon:{uuid}", document(uuid))
    bench.queue.promote("in")
    bench.run(*bench.claim())
    if stores:
        bench.store()
    bench.flush()
    assert bench.out() == [uuid]
    assert kept(bench, uuid).tags == {"seen": "yes"}


def test_a_checkpoint_before_such_a_key_is_a_retry_and_no_failure(make: Make) -> None:
    bench = make(links=[link("a", tag, costly=True), link("b", nothing)])
    [uuid] = bench.supply(1)
    item = bench.one()
    bench.client.delete(f"vcon:{uuid}")
    bench.queue.make_key(f"vcon:{uuid}", "list")
    bench.run(item)
    bench.flush()
    [parked] = bench.queue.parked("in")
    progress = Progress.load(parked.state)
    assert (progress.attempts, progress.failures) == (1, 0)
    assert progress.error == f"vcon:{uuid} is a Redis list"


def test_dead_letters_of_another_type_park_the_item_until_there_is_room(make: Make) -> None:
    def fail(_vcon: Vcon, _context: Any) -> Vcon:
        raise ValueError("odd")

    bench = make({"main": {"retries": 0}}, links=[link("a", fail)])
    [uuid] = bench.supply(1)
    item = bench.one()
    bench.queue.make_key("DLQ:in", "string")
    bench.run(item)
    bench.flush()
    assert len(bench.queue.parked("in")) == 1
    bench.client.delete("DLQ:in")
    bench.queue.promote("in")
    bench.work()
    assert bench.queue.dead("in") == [uuid.encode()]


def test_what_cannot_be_parked_stays_with_its_worker_and_is_parked_later(make: Make) -> None:
    def later(_vcon: Vcon, _context: Any) -> Vcon:
        raise Retry(60.0)

    bench = make(links=[link("a", later)])
    bench.supply(1)
    item = bench.one()
    bench.client.set("conserver:parked:in", "x")
    bench.run(item)
    with capture_logs() as lines:
        bench.flush()
    told = [(line["key"], line["found"]) for line in lines if line["event"] == "wrong_type"]
    assert told == [("conserver:parked:in", "string")]
    assert bench.held == 1
    bench.client.delete("conserver:parked:in")
    bench.outbox.try_again(time.monotonic())
    bench.flush()
    assert bench.held == 1, "not at once"
    bench.outbox.try_again(time.monotonic() + WRONG_TYPE_RETRY_S)
    bench.flush()
    assert (bench.held, bench.intake.held) == (0, {})
    assert len(bench.queue.parked("in")) == 1


def test_a_released_item_that_cannot_go_back_is_told_of_and_stays_in_flight(make: Make) -> None:
    bench = make()
    bench.client.rpush("conserver:returned:in", record("t1", "u1", "in", state=b"{}"))
    bench.queue.store("u1", document("u1"))
    bench.look()
    bench.client.set("conserver:returned:in", "x")
    with capture_logs() as lines:
        bench.outbox.release(bench.backlog.take_back(float("inf")), "a test")
    assert [line["key"] for line in lines if line["event"] == "wrong_type"] == [
        "conserver:returned:in"
    ]
    assert (bench.held, bench.intake.held) == (1, {}), "the look for strays gives it back"


# ---- giving back ---------------------------------------------------------------------------------


def test_released_items_stand_at_the_head_of_their_list_in_order(make: Make) -> None:
    bench = make()
    uuids = bench.supply(5)
    bench.coordinator.send(b"W")
    bench.intake.hear_the_bell()
    bench.look()
    bench.supply(1)
    bench.outbox.release(bench.backlog.take_back(float("inf")), "a test")
    assert bench.queue.waiting("in")[:5] == [uuid.encode() for uuid in uuids]
    assert (bench.held, bench.intake.held) == (0, {})


def test_one_line_is_logged_for_a_finished_item(make: Make) -> None:
    bench = make(links=[link("a", tag)])
    [uuid] = bench.supply(1)
    with capture_logs() as lines:
        bench.work()
    [line] = [line for line in lines if line["log_level"] == "info"]
    assert line["event"] == "done"
    assert (line["vcon"], line["chain"], line["list"]) == (uuid, "main", "in")
    assert line["duration_ms"] >= line["links_ms"] > 0
    assert bench.status.read().items_done == 1

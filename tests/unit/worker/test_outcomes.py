"""settling.py: what becomes of an item, from the end of its links to its settle.

The parts of a worker are real, and so is the Redis; the test is the thread that moves them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import orjson
import pytest

from conserver.errors import Rejected, Retry
from conserver.process.shared_status import Phase
from conserver.queue.record import Progress
from conserver.vcon.document import Vcon
from tests.conftest import unique
from tests.helpers import eventually
from tests.modules import memory
from tests.queues import FAR_MS, record
from tests.workshop import Bench, document, link, nothing, storage, tag

Make = Callable[..., Bench]


@pytest.fixture
def make(redis_url: str) -> Iterator[Make]:
    """Makes benches."""
    with ExitStack() as stack:
        yield lambda *arguments, **settings: stack.enter_context(
            Bench(redis_url, *arguments, **settings)
        )


@pytest.fixture
def shelves() -> list[str]:
    """Names of two storages."""
    return [unique("one-"), unique("two-")]


def raises(error: BaseException) -> Any:
    def run(vcon: Vcon, _context: Any) -> Vcon:
        vcon.add_tag("lost", "again")
        raise error

    return link("bad", run)


def progress_of(bench: Bench, place: str = "parked") -> Progress:
    [found] = getattr(bench.queue, place)("in")
    return Progress.load(found.state)


# ---- without storages ----------------------------------------------------------------------------


def test_a_changed_document_is_written_with_the_settle(make: Make) -> None:
    bench = make(links=[link("a", tag)])
    bench.supply(1)
    bench.work()
    bench.client.delete("out")
    [uuid] = bench.supply(1)
    calls_before = bench.line.calls
    bench.work()
    calls = bench.line.calls - calls_before
    assert calls == 3, "a claim, a settle, a claim of nothing"
    assert bench.out() == [uuid]
    assert Vcon.parse(bench.client.get(f"vcon:{uuid}") or b"").tags == {"seen": "yes"}
    assert bench.held == 0
    assert abs(bench.queue.expires_ms(uuid) - FAR_MS) < 2000, "somebody is behind the egress list"


def test_a_document_of_which_nobody_knows_any_more_expires_in_days(make: Make) -> None:
    bench = make({"main": {"egress_lists": []}}, links=[link("a", tag)])
    [uuid] = bench.supply(1)
    bench.work()
    assert 172_700 < bench.client.ttl(f"vcon:{uuid}") <= 172_800


def test_a_whole_document_becomes_a_key_with_the_settle_that_pushes_its_uuid(make: Make) -> None:
    bench = make(links=[link("a", nothing)])
    bench.queue.push("in", text := document("u1"))
    bench.work()
    assert bench.out() == ["u1"]
    assert bench.client.get("vcon:u1") == text


def test_a_filtered_item_goes_nowhere_and_is_not_stored(make: Make, shelves: list[str]) -> None:
    bench = make(links=[link("a", lambda _v, _c: None)], storages=[storage(shelves[0])])
    [uuid] = bench.supply(1)
    bench.queue.push("in", document("whole"))
    bench.work()
    assert bench.out() == []
    assert memory.shelf(shelves[0]).saves == []
    assert bench.queue.places("in") == {}
    assert bench.client.exists("vcon:whole") == 0, "nothing was done with it"
    assert 0 < bench.client.ttl(f"vcon:{uuid}") <= 172_800


def test_a_filtered_item_with_changes_or_effects_is_written(make: Make) -> None:
    def change(vcon: Vcon, _context: Any) -> None:
        vcon.add_tag("why", "junk")

    def route(_vcon: Vcon, context: Any) -> None:
        context.push("elsewhere")

    bench = make(
        {"a": {"links": ["change"]}, "b": {"links": ["route"], "ingress_lists": ["b"]}},
        links=[link("change", change), link("route", route)],
    )
    bench.queue.push("in", document("u1"))
    bench.queue.push("b", document("u2"))
    bench.work()
    assert b"why:junk" in (bench.client.get("vcon:u1") or b"")
    assert bench.out("elsewhere") == ["u2"]
    assert bench.client.exists("vcon:u2") == 1


def test_effects_of_links_come_behind_the_egress(make: Make) -> None:
    def ask(vcon: Vcon, context: Any) -> Vcon:
        context.push("aside")
        context.push("aside", "other")
        context.expire(70)
        return vcon

    bench = make(links=[link("a", ask)])
    [uuid] = bench.supply(1)
    bench.work()
    assert bench.out() == [uuid]
    assert bench.out("aside") == [uuid, "other"]
    assert 60 < bench.client.ttl(f"vcon:{uuid}") <= 70


def test_a_cancelled_item_ends_without_a_trace_of_what_it_did(make: Make) -> None:
    bench = make(links=[link("a", tag), link("b", nothing)])
    [uuid] = bench.supply(1)
    item = bench.one()
    bench.cancelled.add(item.token)
    bench.run(item)
    bench.flush()
    assert bench.out() == []
    assert bench.queue.places("in") == {}
    assert b"seen" not in (bench.client.get(f"vcon:{uuid}") or b"")


# ---- storages ------------------------------------------------------------------------------------


def test_written_then_stored_in_all_then_settled(make: Make, shelves: list[str]) -> None:
    bench = make(links=[link("a", tag)], storages=[storage(name) for name in shelves])
    [uuid] = bench.supply(1)
    item = bench.one()
    bench.run(item)
    bench.flush()
    body = bench.client.get(f"vcon:{uuid}")
    assert b"seen:yes" in (body or b"")
    assert Progress.load(item.saved).owed == shelves
    bench.settling.flush()
    [shown] = bench.status.read().items
    assert shown.phase is Phase.STORING
    bench.hear()
    bench.flush()
    assert bench.out() == [], "the other one has not answered"
    bench.hear()
    bench.flush()
    assert bench.out() == [uuid]
    for name in shelves:
        kept = memory.shelf(name).documents[uuid]
        assert (kept.body, kept.revision) == (body, item.revision)
        assert bench.queue.revision(uuid)[f"e:{name}".encode()] == f"etag-{kept.revision}".encode()
    assert 3500 < bench.client.ttl(f"vcon:{uuid}") <= 3600


def test_an_unchanged_document_is_stored_without_being_written(
    make: Make, shelves: list[str]
) -> None:
    bench = make(storages=[storage(shelves[0])])
    [uuid] = bench.supply(1)
    item = bench.one()
    text = item.text
    bench.run(item)
    bench.store()
    assert bench.out() == [uuid]
    assert memory.shelf(shelves[0]).documents[uuid].body is text


def test_one_after_another_where_that_is_wanted(make: Make, shelves: list[str]) -> None:
    bench = make(storages=[storage(name) for name in shelves], parallel_storage=False)
    [uuid] = bench.supply(1)
    bench.run(bench.one())
    bench.store()
    assert memory.shelf(shelves[1]).saves == []
    assert bench.out() == []
    bench.store()
    assert memory.shelf(shelves[1]).uuids == [[uuid]]
    assert bench.out() == [uuid]


@pytest.mark.parametrize("parallel", [True, False])
def test_only_what_is_owed_waits_for_a_storage_that_is_away(
    make: Make, shelves: list[str], parallel: bool
) -> None:
    # One after another, a first storage that was away held back the second one.
    bench = make(storages=[storage(name) for name in shelves], parallel_storage=parallel)
    [uuid] = bench.supply(1)
    memory.shelf(shelves[0]).on_save.append(memory.away(after_s=0.01))
    bench.run(bench.one())
    bench.store()
    bench.store()
    assert memory.shelf(shelves[1]).uuids == [[uuid]]
    assert progress_of(bench).owed == [shelves[0]]
    assert bench.out() == []
    assert bench.held == 0


def test_what_is_owed_is_all_that_is_done_when_it_comes_back(
    make: Make, shelves: list[str]
) -> None:
    runs: list[str] = []

    def count(vcon: Vcon, context: Any) -> Vcon:
        runs.append(context.uuid)
        return tag(vcon, context)

    bench = make(links=[link("a", count)], storages=[storage(name) for name in shelves])
    [uuid] = bench.supply(1)
    memory.shelf(shelves[0]).on_save.append(memory.misses(uuid))
    bench.run(bench.one())
    bench.store()
    bench.store()

    def comes_back() -> bool:
        bench.queue.promote("in")
        assert bench.claim() == [], "it goes straight to the storage"
        bench.store()
        return bench.out() == [uuid]

    eventually(comes_back, message="its breaker lets a probe through")
    assert runs == [uuid]
    assert memory.shelf(shelves[1]).uuids == [[uuid]]
    assert set(bench.queue.revision(uuid)) >= {f"e:{name}".encode() for name in shelves}


def test_a_refused_document_is_a_dead_letter_at_once(make: Make, shelves: list[str]) -> None:
    bench = make(links=[link("a", tag)], storages=[storage(name) for name in shelves])
    [uuid] = bench.supply(1)
    memory.shelf(shelves[1]).on_save.append(memory.refuses(uuid))
    bench.run(bench.one())
    bench.store()
    bench.store()
    assert bench.queue.dead("in") == [uuid.encode()]
    [(why, kept)] = bench.queue.reasons("in")
    assert (why["reason"], why["storage"], why["error"]) == ("rejected", shelves[1], "not wanted")
    assert Progress.load(kept.state).owed == [shelves[1]], "replayed, it asks only there"
    assert bench.status.read().items_failed == 1


def test_it_is_given_up_by_its_age_and_not_by_attempts(make: Make, shelves: list[str]) -> None:
    bench = make({"main": {"give_up_s": 3600}}, storages=[storage(shelves[0])])
    memory.shelf(shelves[0]).on_save += [memory.misses("u1"), memory.misses("u1")]
    bench.queue.store("u1", document("u1"))
    young = record("t1", "u1", "in", state=Progress(attempts=999).dump())
    bench.client.rpush("conserver:returned:in", _seen_now(bench, young))
    bench.run(bench.one())
    bench.store()
    assert len(bench.queue.parked("in")) == 1
    bench.client.delete("conserver:parked:in")
    bench.client.rpush("conserver:returned:in", record("t2", "u1", "in"))  # of 2023
    bench.run(bench.one())
    bench.store()
    [(why, _)] = bench.queue.reasons("in")
    assert (why["reason"], why["storage"]) == ("unavailable", shelves[0])


@pytest.mark.parametrize(
    ("age_s", "least_s", "most_s"), [(0, 0.1, 5), (60, 30, 62), (9000, 150, 302)]
)
def test_the_longer_it_has_waited_the_longer_it_waits_again(
    age_s: int, least_s: float, most_s: float, make: Make, shelves: list[str]
) -> None:
    """Thousands that an outage of hours has gathered would else come back every few seconds."""
    bench = make(storages=[storage(shelves[0])])
    memory.shelf(shelves[0]).on_save.append(memory.misses("u1"))
    bench.queue.store("u1", document("u1"))
    bench.client.rpush("conserver:returned:in", _seen_now(bench, record("t1", "u1", "in"), age_s))
    bench.run(bench.one())
    bench.store()
    ((_, due_ms),) = bench.client.zrange("conserver:parked:in", 0, -1, withscores=True)
    seconds, _ = bench.queue.client.time()
    assert least_s - 2 <= due_ms / 1000 - int(seconds) <= most_s


def _seen_now(bench: Bench, text: bytes, ago_s: int = 0) -> bytes:
    seconds, _ = bench.queue.client.time()
    return text.replace(b" 1700000000000 ", b" %d " % ((int(seconds) - ago_s) * 1000))


def test_two_items_of_one_vcon_are_stored_once_and_both_end(make: Make, shelves: list[str]) -> None:
    bench = make(storages=[storage(shelves[0])])
    [uuid] = bench.supply(1)
    bench.queue.push("in", uuid)
    gate = threading.Event()
    memory.shelf(shelves[0]).on_save.append(memory.waits_for(gate))
    bench.run(*bench.claim())
    bench.flush()
    bench.settling.flush()
    gate.set()
    bench.hear()
    bench.flush()
    assert bench.out() == [uuid, uuid]
    assert memory.shelf(shelves[0]).uuids == [[uuid]]


# ---- coming back with storages owed --------------------------------------------------------------


def owing(bench: Bench, uuid: str, **progress: Any) -> None:
    """An item whose links are done, and that comes back."""
    bench.queue.store(uuid, document(uuid))
    state = Progress(**progress).dump()
    bench.client.rpush("conserver:returned:in", record(f"token-{uuid}", uuid, "in", state=state))


def test_nothing_owed_is_settled_at_once(make: Make, shelves: list[str]) -> None:
    bench = make(links=[link("a", nothing)], storages=[storage(shelves[0])])
    owing(bench, "u1", links=["a"], owed=[])
    assert bench.claim() == []
    bench.flush()
    assert bench.out() == ["u1"]
    assert memory.shelf(shelves[0]).saves == []


def test_a_storage_that_the_chain_has_no_more_is_not_owed(make: Make, shelves: list[str]) -> None:
    # The worker died of it, and so did every worker that got the item next.
    bench = make(links=[link("a", nothing)], storages=[storage(shelves[0])])
    owing(bench, "u1", links=["a"], owed=["dropped", shelves[0]])
    assert bench.claim() == []
    bench.store()
    assert bench.out() == ["u1"]


@pytest.mark.parametrize("links", [["old"], ["a"], ["a", "b", "c"]])
def test_links_that_are_not_those_of_the_chain_any_more_are_run(
    make: Make, shelves: list[str], links: list[str]
) -> None:
    ran: list[str] = []

    def note(vcon: Vcon, context: Any) -> Vcon:
        ran.append(context.link)
        return vcon

    bench = make(links=[link("a", note), link("b", note)], storages=[storage(shelves[0])])
    owing(bench, "u1", links=links, owed=[])
    bench.run(bench.one())
    bench.store()
    assert ran == (["b"] if links == ["a"] else ["a", "b"])
    assert memory.shelf(shelves[0]).uuids == [["u1"]]
    assert bench.out() == ["u1"]


# ---- attempts ------------------------------------------------------------------------------------


def test_a_failed_attempt_is_parked_and_what_it_did_is_dropped(make: Make) -> None:
    bench = make({"main": {"backoff_s": 8}}, links=[link("a", tag), raises(ValueError("odd"))])
    [uuid] = bench.supply(1)
    bench.work()
    progress = progress_of(bench)
    assert progress == Progress(attempts=1, failures=1, error="odd", runs={"a": 1, "bad": 1})
    assert b"tags" not in (bench.client.get(f"vcon:{uuid}") or b"")
    [(_, due_ms)] = bench.client.zrange("conserver:parked:in", 0, -1, withscores=True)
    seconds, _ = bench.queue.client.time()
    assert 3 <= due_ms / 1000 - seconds <= 9


def test_a_failed_attempt_goes_back_to_the_last_checkpoint(make: Make) -> None:
    bench = make(links=[link("a", tag, costly=True), raises(ValueError("odd"))])
    [uuid] = bench.supply(1)
    bench.work()
    assert progress_of(bench).links == ["a"]
    assert b"seen:yes" in (bench.client.get(f"vcon:{uuid}") or b"")
    assert b"lost:again" not in (bench.client.get(f"vcon:{uuid}") or b"")


def test_each_link_has_its_own_attempts(make: Make) -> None:
    # What failed or waited before counted as an attempt of every link after it.
    seen: list[tuple[str, int]] = []

    def first(vcon: Vcon, context: Any) -> Vcon:
        seen.append(("first", context.attempt))
        if context.attempt < 3:
            raise Retry(0.0)
        return vcon

    def second(vcon: Vcon, context: Any) -> Vcon:
        seen.append(("second", context.attempt))
        if context.attempt < 2:
            raise ValueError("odd")
        return vcon

    bench = make(links=[link("first", first), link("second", second)])
    bench.supply(1)
    for _ in range(4):
        bench.work()
        bench.queue.promote("in")
    bench.work()
    firsts = [("first", 1), ("first", 2), ("first", 3)]
    assert seen == [*firsts, ("second", 1), ("first", 4), ("second", 2)]
    assert len(bench.out()) == 1


def test_an_item_is_dead_after_so_many_failures(make: Make) -> None:
    bench = make({"main": {"retries": 2}}, links=[raises(ValueError("odd"))])
    bench.supply(1)
    for _ in range(3):
        bench.work()
        bench.queue.promote("in")
    [(why, kept)] = bench.queue.reasons("in")
    assert (why["reason"], why["error"], why["link"], why["attempts"]) == (
        "failed",
        "odd",
        "bad",
        3,
    )
    assert "ValueError" in why["traceback"]
    assert Progress.load(kept.state).failures == 3


def test_retries_that_a_link_asks_for_are_no_failures(make: Make) -> None:
    # Six of them, and the first real failure buried the item without another attempt.
    outcomes: list[BaseException] = [Retry(0.0, "busy")] * 6 + [ValueError("odd")] * 3

    def run(_vcon: Vcon, _context: Any) -> Vcon:
        raise outcomes.pop(0)

    bench = make({"main": {"retries": 2}}, links=[link("a", run)])
    bench.supply(1)
    for number in range(9):
        assert bench.queue.dead("in") == [], f"after {number}"
        bench.work()
        bench.queue.promote("in")
    [(why, _)] = bench.queue.reasons("in")
    assert (why["error"], why["attempts"]) == ("odd", 9)


def test_retries_are_given_up_by_age(make: Make) -> None:
    bench = make(links=[raises(Retry(5.0, "busy"))])
    bench.queue.store("u1", document("u1"))
    bench.client.rpush("conserver:returned:in", record("t1", "u1", "in"))  # of 2023
    bench.work()
    [(why, _)] = bench.queue.reasons("in")
    assert (why["reason"], why["error"]) == ("failed", "busy")


def test_a_rejected_item_is_dead_at_once(make: Make) -> None:
    bench = make(links=[raises(Rejected("never"))])
    bench.supply(1)
    bench.work()
    [(why, _)] = bench.queue.reasons("in")
    assert (why["reason"], why["error"], why["link"]) == ("rejected", "never", "bad")


def test_a_whole_document_is_a_key_before_it_is_parked_or_dead(make: Make) -> None:
    bench = make({"main": {"retries": 1}}, links=[raises(ValueError("odd"))])
    bench.queue.push("in", text := document("u1"))
    bench.work()
    assert [one.payload for one in bench.queue.parked("in")] == [b"u1"]
    assert bench.client.get("vcon:u1") == text
    bench.queue.promote("in")
    bench.work()
    assert bench.queue.dead("in") == [b"u1"]


def grow(name: str, size: int) -> Any:
    """A link that makes the document so many bytes larger."""

    def run(vcon: Vcon, _context: Any) -> Vcon:
        vcon.add_analysis({"type": name, "body": "x" * size, "encoding": "none"})
        return vcon

    return link(name, run)


@pytest.mark.parametrize(
    ("links", "named", "names"),
    [
        ([nothing, grow("big", 5000)], "big", "the links nothing, big together"),
        ([grow("big", 5000)], "big", ""),
        ([grow("a", 3000), grow("b", 3000)], "b", "the links a, b together"),
    ],
)
def test_a_document_that_links_make_too_large_is_a_dead_letter_that_names_them(
    make: Make, links: list[Any], named: str, names: str
) -> None:
    # It was written, and the next worker that claimed it could not read it.
    links = [link("nothing", one) if one is nothing else one for one in links]
    bench = make(links=links, max_document_bytes=4096)
    [uuid] = bench.supply(1)
    before = bench.client.get(f"vcon:{uuid}")
    bench.work()
    [(why, _)] = bench.queue.reasons("in")
    assert (why["reason"], why["link"]) == ("rejected", named)
    assert why["error"].startswith(names)
    assert "more than CONSERVER_MAX_DOCUMENT_BYTES (4096)" in why["error"]
    assert bench.client.get(f"vcon:{uuid}") == before


def test_a_checkpoint_of_a_document_that_is_too_large_names_its_link(make: Make) -> None:
    large = grow("big", 5000)
    costly = link("big", lambda vcon, _context: large.run(vcon, None, None), costly=True)
    bench = make(links=[link("a", tag), costly, link("b", nothing)], max_document_bytes=4096)
    bench.supply(1)
    bench.work()
    [(why, _)] = bench.queue.reasons("in")
    assert (why["reason"], why["link"]) == ("rejected", "big")
    assert "CONSERVER_MAX_DOCUMENT_BYTES" in why["error"]


def test_what_is_no_vcon_is_dead_as_it_was_pushed(make: Make) -> None:
    bench = make(links=[link("a", tag)])
    for payload in (b"{}", b"{", b"null", b"", b"[1]", b"\xff"):
        bench.queue.push("in", payload)
    bench.work()
    assert sorted(bench.queue.dead("in")) == sorted([b"{}", b"{", b"null", b"", b"[1]", b"\xff"])
    reasons = {why["error"] for why, _ in bench.queue.reasons("in")}
    assert len(reasons) == 6, "each says what is wrong with it"
    assert {why["reason"] for why, _ in bench.queue.reasons("in")} == {"rejected"}


def test_what_json_cannot_hold_is_a_dead_letter_and_its_neighbours_go_on(make: Make) -> None:
    def spoil(vcon: Vcon, _context: Any) -> Vcon:
        if vcon.view.get("subject") == "bad":
            vcon.data["subject"] = {1, 2}
        return vcon

    bench = make(links=[link("a", spoil)])
    good = bench.supply(2)
    [bad] = bench.supply(1, subject="bad")
    bench.work()
    assert bench.out() == good
    [(why, _)] = bench.queue.reasons("in")
    assert why["uuid"] == bad
    assert "cannot be written as JSON" in why["error"]


def test_a_checkpoint_is_one_write_and_the_rest_of_the_links_go_on_from_it(make: Make) -> None:
    texts: list[bytes] = []
    bench: Bench

    def look(vcon: Vcon, context: Any) -> Vcon:
        texts.append(bench.client.get(f"vcon:{context.uuid}") or b"")
        vcon.data["subject"] = "late"
        return vcon

    bench = make(links=[link("a", tag, costly=True), link("b", look)])
    [uuid] = bench.supply(1)
    bench.work()
    assert b"seen:yes" in texts[0]
    body = orjson.loads(bench.client.get(f"vcon:{uuid}") or b"{}")
    assert body["subject"] == "late"
    assert Vcon.parse(orjson.dumps(body)).tags == {"seen": "yes"}


def test_the_error_that_a_record_keeps_holds_no_secret(make: Make) -> None:
    away = Retry(60, "cannot reach redis://u:" + "pa55" * 200 + "@h?token=t0k")
    bench = make(links=[raises(away)])
    bench.supply(1)
    bench.work()
    assert progress_of(bench).error == "cannot reach redis://u:***@h?token=***"

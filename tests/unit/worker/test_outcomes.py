"""outcomes.py and settlement.py: what follows when links have ended and storages have answered."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from structlog.testing import capture_logs

from conserver.errors import Filtered, Rejected, Retry
from conserver.process.shared_status import Phase
from conserver.queue.record import Progress
from conserver.vcon.document import Vcon
from tests.helpers import eventually
from tests.modules import memory
from tests.queues import FAR_MS, record
from tests.workers import SteppedWorker, document, link, nothing, storage, tag

Make = Callable[..., SteppedWorker]


def raises(error: BaseException) -> Any:
    def run(vcon: Vcon, _context: Any) -> Vcon:
        vcon.add_tag("lost", "again")
        raise error

    return link("bad", run)


def progress_of(worker: SteppedWorker, place: str = "parked") -> Progress:
    [found] = getattr(worker.queue, place)("in")
    return Progress.load(found.state)


# ---- without storages ----------------------------------------------------------------------------


def test_a_changed_document_is_written_with_the_settle(make: Make) -> None:
    worker = make(links=[link("a", tag)])
    worker.supply(1)
    worker.work()
    worker.client.delete("out")
    [uuid] = worker.supply(1)
    calls_before = worker.redis.calls
    worker.work()
    calls = worker.redis.calls - calls_before
    assert calls == 3, "a claim, a settle, a claim of nothing"
    assert worker.out() == [uuid]
    assert Vcon.parse(worker.client.get(f"vcon:{uuid}") or b"").tags == {"seen": "yes"}
    assert worker.inflight == 0
    assert abs(worker.queue.expires_ms(uuid) - FAR_MS) < 2000, "a consumer of the list needs it"


def test_a_document_that_is_on_no_list_any_more_expires_in_days(make: Make) -> None:
    worker = make({"main": {"egress_lists": []}}, links=[link("a", tag)])
    [uuid] = worker.supply(1)
    worker.work()
    assert 172_700 < worker.client.ttl(f"vcon:{uuid}") <= 172_800


def test_a_document_that_was_pushed_whole_is_written_with_the_settle(make: Make) -> None:
    worker = make(links=[link("a", nothing)])
    worker.queue.push("in", text := document("u1"))
    worker.work()
    assert worker.out() == ["u1"]
    assert worker.client.get("vcon:u1") == text


def test_a_filtered_item_goes_nowhere_and_is_not_stored(make: Make, shelves: list[str]) -> None:
    worker = make(links=[link("a", lambda _v, _c: None)], storages=[storage(shelves[0])])
    [uuid] = worker.supply(1)
    worker.queue.push("in", document("whole"))
    worker.work()
    assert worker.out() == []
    assert memory.shelf(shelves[0]).saves == []
    assert worker.queue.places("in") == {}
    assert worker.client.exists("vcon:whole") == 0, "never written, because nothing has changed"
    assert 0 < worker.client.ttl(f"vcon:{uuid}") <= 172_800


def test_a_filtered_item_with_changes_or_effects_is_written(make: Make) -> None:
    def change(vcon: Vcon, _context: Any) -> None:
        vcon.add_tag("why", "junk")

    def route(_vcon: Vcon, context: Any) -> None:
        context.push("elsewhere")

    worker = make(
        {"a": {"links": ["change"]}, "b": {"links": ["route"], "ingress_lists": ["b"]}},
        links=[link("change", change), link("route", route)],
    )
    worker.queue.push("in", document("u1"))
    worker.queue.push("b", document("u2"))
    worker.work()
    assert b"why:junk" in (worker.client.get("vcon:u1") or b"")
    assert worker.out("elsewhere") == ["u2"]
    assert worker.client.exists("vcon:u2") == 1


def test_pushes_of_links_come_after_the_egress_lists(make: Make) -> None:
    def ask(vcon: Vcon, context: Any) -> Vcon:
        context.push("aside")
        context.push("aside", "other")
        context.expire(70)
        return vcon

    worker = make(links=[link("a", ask)])
    [uuid] = worker.supply(1)
    worker.work()
    assert worker.out() == [uuid]
    assert worker.out("aside") == [uuid, "other"]
    assert 60 < worker.client.ttl(f"vcon:{uuid}") <= 70


def test_the_changes_of_a_cancelled_item_are_dropped(make: Make) -> None:
    worker = make(links=[link("a", tag), link("b", nothing)])
    [uuid] = worker.supply(1)
    item = worker.claim_one()
    worker.inbox.cancelled.add(item.token)
    worker.run(item)
    worker.flush()
    assert worker.out() == []
    assert worker.queue.places("in") == {}
    assert b"seen" not in (worker.client.get(f"vcon:{uuid}") or b"")


# ---- storages ------------------------------------------------------------------------------------


def test_written_then_stored_in_all_then_settled(make: Make, shelves: list[str]) -> None:
    worker = make(links=[link("a", tag)], storages=[storage(name) for name in shelves])
    [uuid] = worker.supply(1)
    item = worker.claim_one()
    worker.run(item)
    worker.flush()
    body = worker.client.get(f"vcon:{uuid}")
    assert b"seen:yes" in (body or b"")
    assert Progress.load(item.saved_state).owed == shelves
    worker.outcomes.flush()
    [shown] = worker.status.read().items
    assert shown.phase is Phase.FINISHING
    worker.receive_report()
    worker.flush()
    assert worker.out() == [], "the other storage has not answered"
    worker.receive_report()
    worker.flush()
    assert worker.out() == [uuid]
    for name in shelves:
        kept = memory.shelf(name).documents[uuid]
        assert (kept.body, kept.revision) == (body, item.revision)
        assert worker.queue.revision(uuid)[f"e:{name}".encode()] == f"etag-{kept.revision}".encode()
    assert 3500 < worker.client.ttl(f"vcon:{uuid}") <= 3600


def test_an_unchanged_document_is_stored_without_being_written(
    make: Make, shelves: list[str]
) -> None:
    worker = make(storages=[storage(shelves[0])])
    [uuid] = worker.supply(1)
    item = worker.claim_one()
    text = item.text
    worker.run(item)
    worker.store()
    assert worker.out() == [uuid]
    assert memory.shelf(shelves[0]).documents[uuid].body is text


def test_without_parallel_storage_one_storage_is_asked_after_the_other(
    make: Make, shelves: list[str]
) -> None:
    worker = make(storages=[storage(name) for name in shelves], parallel_storage=False)
    [uuid] = worker.supply(1)
    worker.run(worker.claim_one())
    worker.store()
    assert memory.shelf(shelves[1]).saves == []
    assert worker.out() == []
    worker.store()
    assert memory.shelf(shelves[1]).uuids == [[uuid]]
    assert worker.out() == [uuid]


@pytest.mark.parametrize("parallel", [True, False])
def test_an_unavailable_storage_does_not_keep_an_item_from_the_others(
    make: Make, shelves: list[str], parallel: bool
) -> None:
    # Regression: without parallel_storage, an unavailable first storage held back the second one.
    worker = make(storages=[storage(name) for name in shelves], parallel_storage=parallel)
    [uuid] = worker.supply(1)
    memory.shelf(shelves[0]).on_save.append(memory.away(after_s=0.01))
    worker.run(worker.claim_one())
    worker.store()
    worker.store()
    assert memory.shelf(shelves[1]).uuids == [[uuid]]
    assert progress_of(worker).owed == [shelves[0]]
    assert worker.out() == []
    assert worker.inflight == 0


def test_an_item_that_comes_back_goes_only_to_the_storages_that_it_owes(
    make: Make, shelves: list[str]
) -> None:
    runs: list[str] = []

    def count(vcon: Vcon, context: Any) -> Vcon:
        runs.append(context.uuid)
        return tag(vcon, context)

    worker = make(links=[link("a", count)], storages=[storage(name) for name in shelves])
    [uuid] = worker.supply(1)
    memory.shelf(shelves[0]).on_save.append(memory.misses(uuid))
    worker.run(worker.claim_one())
    worker.store()
    worker.store()

    def comes_back() -> bool:
        worker.queue.promote("in")
        assert worker.claim() == [], "no links are to be run"
        worker.store()
        return worker.out() == [uuid]

    eventually(comes_back, message="until the breaker makes a probe")
    assert runs == [uuid]
    assert memory.shelf(shelves[1]).uuids == [[uuid]]
    assert set(worker.queue.revision(uuid)) >= {f"e:{name}".encode() for name in shelves}


def test_a_refused_document_is_a_dead_letter_at_once(make: Make, shelves: list[str]) -> None:
    worker = make(links=[link("a", tag)], storages=[storage(name) for name in shelves])
    [uuid] = worker.supply(1)
    memory.shelf(shelves[1]).on_save.append(memory.refuses(uuid))
    worker.run(worker.claim_one())
    worker.store()
    worker.store()
    assert worker.queue.dead("in") == [uuid.encode()]
    [(why, kept)] = worker.queue.reasons("in")
    assert (why["reason"], why["storage"], why["error"]) == ("rejected", shelves[1], "not wanted")
    assert Progress.load(kept.state).owed == [shelves[1]], "a replay asks only this storage"
    assert worker.status.read().items_failed == 1


def test_an_item_is_given_up_by_its_age_and_not_by_attempts(make: Make, shelves: list[str]) -> None:
    worker = make({"main": {"give_up_s": 3600}}, storages=[storage(shelves[0])])
    memory.shelf(shelves[0]).on_save += [memory.misses("u1"), memory.misses("u1")]
    worker.queue.store("u1", document("u1"))
    young = record("t1", "u1", "in", state=Progress(attempts=999).dump())
    worker.client.rpush("conserver:returned:in", _seen_now(worker, young))
    worker.run(worker.claim_one())
    worker.store()
    assert len(worker.queue.parked("in")) == 1
    worker.client.delete("conserver:parked:in")
    worker.client.rpush("conserver:returned:in", record("t2", "u1", "in"))  # of 2023
    worker.run(worker.claim_one())
    worker.store()
    [(why, _)] = worker.queue.reasons("in")
    assert (why["reason"], why["storage"]) == ("unavailable", shelves[0])


@pytest.mark.parametrize(
    ("age_s", "least_s", "most_s"), [(0, 0.1, 5), (60, 30, 62), (9000, 150, 302)]
)
def test_the_longer_an_item_has_waited_the_longer_it_is_parked(
    age_s: int, least_s: float, most_s: float, make: Make, shelves: list[str]
) -> None:
    """Otherwise the thousands of items of a long outage would come back every few seconds."""
    worker = make(storages=[storage(shelves[0])])
    memory.shelf(shelves[0]).on_save.append(memory.misses("u1"))
    worker.queue.store("u1", document("u1"))
    worker.client.rpush("conserver:returned:in", _seen_now(worker, record("t1", "u1", "in"), age_s))
    worker.run(worker.claim_one())
    worker.store()
    ((_, due_ms),) = worker.client.zrange("conserver:parked:in", 0, -1, withscores=True)
    seconds, _ = worker.queue.client.time()
    assert least_s - 2 <= due_ms / 1000 - int(seconds) <= most_s


def _seen_now(worker: SteppedWorker, text: bytes, ago_s: int = 0) -> bytes:
    seconds, _ = worker.queue.client.time()
    return text.replace(b" 1700000000000 ", b" %d " % ((int(seconds) - ago_s) * 1000))


def test_two_items_of_one_vcon_are_stored_once_and_both_end(make: Make, shelves: list[str]) -> None:
    worker = make(storages=[storage(shelves[0])])
    [uuid] = worker.supply(1)
    worker.queue.push("in", uuid)
    gate = threading.Event()
    memory.shelf(shelves[0]).on_save.append(memory.waits_for(gate))
    worker.run(*worker.claim())
    worker.flush()
    worker.outcomes.flush()
    gate.set()
    worker.receive_report()
    worker.flush()
    assert worker.out() == [uuid, uuid]
    assert memory.shelf(shelves[0]).uuids == [[uuid]]


# ---- coming back with storages owed --------------------------------------------------------------


def owing(worker: SteppedWorker, uuid: str, **progress: Any) -> None:
    """Return an item to its list whose links are done."""
    worker.queue.store(uuid, document(uuid))
    state = Progress(**progress).dump()
    worker.client.rpush("conserver:returned:in", record(f"token-{uuid}", uuid, "in", state=state))


def test_nothing_owed_is_settled_at_once(make: Make, shelves: list[str]) -> None:
    worker = make(links=[link("a", nothing)], storages=[storage(shelves[0])])
    owing(worker, "u1", links=["a"], owed=[])
    assert worker.claim() == []
    worker.flush()
    assert worker.out() == ["u1"]
    assert memory.shelf(shelves[0]).saves == []


def test_a_storage_that_the_chain_has_no_more_is_not_owed(make: Make, shelves: list[str]) -> None:
    # Regression: the worker died of it, and so did each worker that claimed the item next.
    worker = make(links=[link("a", nothing)], storages=[storage(shelves[0])])
    owing(worker, "u1", links=["a"], owed=["dropped", shelves[0]])
    assert worker.claim() == []
    worker.store()
    assert worker.out() == ["u1"]


@pytest.mark.parametrize("links", [["old"], ["a"], ["a", "b", "c"]])
def test_links_that_are_not_the_first_ones_of_the_chain_any_more_are_run(
    make: Make, shelves: list[str], links: list[str]
) -> None:
    ran: list[str] = []

    def note(vcon: Vcon, context: Any) -> Vcon:
        ran.append(context.link)
        return vcon

    worker = make(links=[link("a", note), link("b", note)], storages=[storage(shelves[0])])
    owing(worker, "u1", links=links, owed=[])
    worker.run(worker.claim_one())
    worker.store()
    assert ran == (["b"] if links == ["a"] else ["a", "b"])
    assert memory.shelf(shelves[0]).uuids == [["u1"]]
    assert worker.out() == ["u1"]


# ---- attempts ------------------------------------------------------------------------------------


def test_a_failed_attempt_is_parked_and_its_changes_are_dropped(make: Make) -> None:
    worker = make({"main": {"backoff_s": 8}}, links=[link("a", tag), raises(ValueError("odd"))])
    [uuid] = worker.supply(1)
    worker.work()
    progress = progress_of(worker)
    assert progress == Progress(
        attempts=1, failures=1, error="ValueError: odd", runs={"a": 1, "bad": 1}
    )
    assert b"tags" not in (worker.client.get(f"vcon:{uuid}") or b"")
    [(_, due_ms)] = worker.client.zrange("conserver:parked:in", 0, -1, withscores=True)
    seconds, _ = worker.queue.client.time()
    assert 3 <= due_ms / 1000 - seconds <= 9


def test_a_failed_attempt_reverts_to_the_last_checkpoint(make: Make) -> None:
    worker = make(links=[link("a", tag, costly=True), raises(ValueError("odd"))])
    [uuid] = worker.supply(1)
    worker.work()
    assert progress_of(worker).links == ["a"]
    assert b"seen:yes" in (worker.client.get(f"vcon:{uuid}") or b"")
    assert b"lost:again" not in (worker.client.get(f"vcon:{uuid}") or b"")


def test_each_link_has_its_own_attempts(make: Make) -> None:
    # Regression: a failure of one link counted as an attempt of every later link.
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

    worker = make(links=[link("first", first), link("second", second)])
    worker.supply(1)
    for _ in range(4):
        worker.work()
        worker.queue.promote("in")
    worker.work()
    firsts = [("first", 1), ("first", 2), ("first", 3)]
    assert seen == [*firsts, ("second", 1), ("first", 4), ("second", 2)]
    assert len(worker.out()) == 1


def test_an_item_is_dead_after_so_many_failures(make: Make) -> None:
    worker = make({"main": {"retries": 2}}, links=[raises(ValueError("odd"))])
    worker.supply(1)
    for _ in range(3):
        worker.work()
        worker.queue.promote("in")
    [(why, kept)] = worker.queue.reasons("in")
    assert (why["reason"], why["error"], why["link"], why["attempts"]) == (
        "failed",
        "odd",
        "bad",
        3,
    )
    assert "ValueError" in why["traceback"]
    assert Progress.load(kept.state).failures == 3


def test_retries_that_a_link_asks_for_are_no_failures(make: Make) -> None:
    # Regression: after six retries the first failure made the item a dead letter.
    outcomes: list[BaseException] = [Retry(0.0, "busy")] * 6 + [ValueError("odd")] * 3

    def run(_vcon: Vcon, _context: Any) -> Vcon:
        raise outcomes.pop(0)

    worker = make({"main": {"retries": 2}}, links=[link("a", run)])
    worker.supply(1)
    for number in range(9):
        assert worker.queue.dead("in") == [], f"after {number}"
        worker.work()
        worker.queue.promote("in")
    [(why, _)] = worker.queue.reasons("in")
    assert (why["error"], why["attempts"]) == ("odd", 9)


def test_retries_are_given_up_by_age(make: Make) -> None:
    worker = make(links=[raises(Retry(5.0, "busy"))])
    worker.queue.store("u1", document("u1"))
    worker.client.rpush("conserver:returned:in", record("t1", "u1", "in"))  # of 2023
    worker.work()
    [(why, _)] = worker.queue.reasons("in")
    assert (why["reason"], why["error"]) == ("failed", "busy")


def test_a_rejected_item_is_dead_at_once(make: Make) -> None:
    worker = make(links=[raises(Rejected("never"))])
    worker.supply(1)
    worker.work()
    [(why, _)] = worker.queue.reasons("in")
    assert (why["reason"], why["error"], why["link"]) == ("rejected", "never", "bad")


def test_a_document_that_was_pushed_whole_is_written_before_it_is_parked_or_dead_lettered(
    make: Make,
) -> None:
    worker = make({"main": {"retries": 1}}, links=[raises(ValueError("odd"))])
    worker.queue.push("in", text := document("u1"))
    worker.work()
    assert [one.payload for one in worker.queue.parked("in")] == [b"u1"]
    assert worker.client.get("vcon:u1") == text
    worker.queue.promote("in")
    worker.work()
    assert worker.queue.dead("in") == [b"u1"]


def grow(name: str, size: int) -> Any:
    """A link that makes the document that many bytes larger."""

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
    # Regression: it was written, and the next worker that claimed it could not read it.
    links = [link("nothing", one) if one is nothing else one for one in links]
    worker = make(links=links, max_document_bytes=4096)
    [uuid] = worker.supply(1)
    before = worker.client.get(f"vcon:{uuid}")
    worker.work()
    [(why, _)] = worker.queue.reasons("in")
    assert (why["reason"], why["link"]) == ("rejected", named)
    assert why["error"].startswith(names)
    assert "more than CONSERVER_MAX_DOCUMENT_BYTES (4096)" in why["error"]
    assert worker.client.get(f"vcon:{uuid}") == before


def test_a_checkpoint_of_a_document_that_is_too_large_names_its_link(make: Make) -> None:
    large = grow("big", 5000)
    costly = link("big", lambda vcon, _context: large.run(vcon, None, None), costly=True)
    worker = make(links=[link("a", tag), costly, link("b", nothing)], max_document_bytes=4096)
    worker.supply(1)
    worker.work()
    [(why, _)] = worker.queue.reasons("in")
    assert (why["reason"], why["link"]) == ("rejected", "big")
    assert "CONSERVER_MAX_DOCUMENT_BYTES" in why["error"]


def test_what_is_no_vcon_is_dead_lettered_as_it_was_pushed(make: Make) -> None:
    worker = make(links=[link("a", tag)])
    for payload in (b"{}", b"{", b"null", b"", b"[1]", b"\xff"):
        worker.queue.push("in", payload)
    worker.work()
    assert sorted(worker.queue.dead("in")) == sorted([b"{}", b"{", b"null", b"", b"[1]", b"\xff"])
    reasons = {why["error"] for why, _ in worker.queue.reasons("in")}
    assert len(reasons) == 6, "each reason says what is wrong"
    assert {why["reason"] for why, _ in worker.queue.reasons("in")} == {"rejected"}


def test_what_json_cannot_hold_is_a_dead_letter_and_the_other_items_are_settled(
    make: Make,
) -> None:
    def spoil(vcon: Vcon, _context: Any) -> Vcon:
        if vcon.view.get("subject") == "bad":
            vcon.data["subject"] = {1, 2}
        return vcon

    worker = make(links=[link("a", spoil)])
    good = worker.supply(2)
    [bad] = worker.supply(1, subject="bad")
    worker.work()
    assert worker.out() == good
    [(why, _)] = worker.queue.reasons("in")
    assert why["uuid"] == bad
    assert "cannot be written as JSON" in why["error"]


def test_the_links_after_a_checkpoint_continue_with_the_written_document(make: Make) -> None:
    texts: list[bytes] = []
    worker: SteppedWorker

    def look(vcon: Vcon, context: Any) -> Vcon:
        texts.append(worker.client.get(f"vcon:{context.uuid}") or b"")
        vcon.data["subject"] = "late"
        return vcon

    worker = make(links=[link("a", tag, costly=True), link("b", look)])
    [uuid] = worker.supply(1)
    worker.work()
    assert b"seen:yes" in texts[0]
    body = orjson.loads(worker.client.get(f"vcon:{uuid}") or b"{}")
    assert body["subject"] == "late"
    assert Vcon.parse(orjson.dumps(body)).tags == {"seen": "yes"}


def test_secrets_are_redacted_in_the_error_that_a_record_keeps(make: Make) -> None:
    away = Retry(60, "cannot reach redis://u:" + "pa55" * 200 + "@h?token=t0k")
    worker = make(links=[raises(away)])
    worker.supply(1)
    worker.work()
    assert progress_of(worker).error == "cannot reach redis://u:***@h?token=***"


# ---- what the log says ---------------------------------------------------------------------------


def line(logged: list[Any], event: str) -> dict[str, Any]:
    [found] = [dict(one) for one in logged if one["event"] == event]
    return found


def test_what_was_filtered_names_the_link_and_its_reason(make: Make) -> None:
    with capture_logs() as logged:
        worker = make(links=[link("a", nothing), raises(Filtered("too short"))])
        worker.supply(1)
        worker.work()
    found = line(logged, "filtered")
    assert (found["link"], found["reason"]) == ("bad", "too short")
    assert found["log_level"] == "info"


def test_an_error_of_one_word_has_its_type_everywhere(make: Make) -> None:
    """In the log, in the record of what is parked, and in the line about the dead letter."""
    with capture_logs() as logged:
        worker = make({"main": {"retries": 1}}, links=[raises(KeyError("nope"))])
        worker.supply(1)
        worker.work()
        assert progress_of(worker).error == "KeyError: 'nope'"
        worker.queue.promote("in")
        worker.work()
    assert line(logged, "attempt_failed")["error"] == "KeyError: 'nope'"
    assert line(logged, "dead_letter")["error"] == "KeyError: 'nope'"

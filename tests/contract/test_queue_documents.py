"""documents.lua and write.lua: revisions, the mark that shows a replacement, compare-and-set."""

from __future__ import annotations

from pathlib import Path

import pytest

from conserver.queue import calls
from conserver.queue.record import Source
from tests.queues import FAR_MS, Consumer, Queue, document

OLD = document("u1", subject="old")
NEW = document("u1", subject="new")
LARGE = document("u1", subject="x" * 300_000)


def fetch(queue: Queue, uuid: str = "u1") -> bytes | None:
    body: bytes | None = queue.client.get(f"vcon:{uuid}")
    return body


# ---- the mark ----------------------------------------------------------------------------------


def test_a_claim_lets_a_document_live_far_into_the_future(queue: Queue) -> None:
    queue.client.set("vcon:u1", OLD, px=50_000)
    queue.push("q", "u1")
    Consumer(queue).one()
    assert abs(queue.expires_ms("u1") - FAR_MS) < 1000
    assert abs(queue.key_expires_ms("conserver:revision:u1") - FAR_MS) < 1000


def test_a_document_that_nobody_touched_keeps_its_revision(queue: Queue) -> None:
    queue.supply("q", "u1", "u1", "u1")
    one = Consumer(queue)
    first, second = one.take(2)
    assert first.revision == second.revision
    one.settle(first, expiry_s=3600)
    assert one.one().revision == first.revision


def test_a_redis_that_stood_still_inside_a_script_takes_nothing_for_replaced(
    queue: Queue,
) -> None:
    """A machine can be paused between any two commands of a script: then its `now` is old."""
    queue.supply("q", "u1")
    Consumer(queue).one()
    parts = ("prelude", "documents")
    folder = Path(calls.__file__).parent
    text = "\n".join((folder / f"{part}.lua").read_text() for part in parts)
    look = "local doc = describe(ARGV[1]) recognise(doc, ARGV[2] + 0) return doc.ours and 1 or 0"
    paused_since_ms = queue.now_ms() - 7_000
    assert queue.client.eval(f"{text}\n{look}", 0, "u1", paused_since_ms) == 1


@pytest.mark.parametrize("moment", ["held", "settled", "settled to expire"])
@pytest.mark.parametrize("expiry_s", [None, 3600, 100])
def test_a_set_by_its_producer_is_seen_even_with_the_same_length(
    queue: Queue, moment: str, expiry_s: int | None
) -> None:
    queue.store("u1", OLD)
    queue.push("q", "u1", "u1")
    one = Consumer(queue)
    first = one.one()
    if moment != "held":
        one.settle(first, expiry_s=7200 if moment == "settled to expire" else 0)
    assert len(OLD) == len(NEW)
    queue.client.set("vcon:u1", NEW, ex=expiry_s)
    second = one.one()
    assert (second.source, second.length) == (Source.STORED, len(NEW))
    assert second.revision > first.revision
    assert not second.replaced, "nothing had been done for the old one"


def test_a_set_that_keeps_the_expiry_is_seen_by_its_length(queue: Queue) -> None:
    queue.supply("q", "u1", "u1")
    one = Consumer(queue)
    first = one.one()
    queue.client.set("vcon:u1", OLD + b" ", keepttl=True)
    assert one.one().revision > first.revision


def test_a_replaced_document_is_marked_again_at_its_claim(queue: Queue) -> None:
    queue.supply("q", "u1", "u1")
    one = Consumer(queue)
    one.one()
    queue.client.set("vcon:u1", NEW)
    one.one()
    assert abs(queue.expires_ms("u1") - FAR_MS) < 1000


def test_the_etags_of_a_replaced_document_stay(queue: Queue) -> None:
    # They belong to what the storages hold, which is still the older one.
    queue.supply("q", "u1", "u1")
    one = Consumer(queue)
    one.settle(one.one(), etags={"s3": "1"})
    queue.client.set("vcon:u1", NEW)
    assert one.one().etags == {"s3": "1"}


def test_revisions_rise_although_the_clock_was_set_back(queue: Queue) -> None:
    queue.supply("q", "u1", "u1")
    one = Consumer(queue)
    item = one.one()
    future = item.revision + 10**12
    queue.client.hset("conserver:revision:u1", "r", future)
    assert one.write(item, NEW, base=future).revision == future + 1
    queue.client.set("vcon:u1", OLD)
    assert one.one().revision == future + 2


def test_a_document_that_had_expired_starts_newer_than_it_ever_was(queue: Queue) -> None:
    # A storage keeps the old revision for ever: a corrected push a week later must win there.
    queue.supply("q", "u1")
    one = Consumer(queue)
    first = one.one()
    one.settle(first, expiry_s=1)
    queue.client.delete("vcon:u1", "conserver:revision:u1")
    queue.supply("q", "u1")
    assert one.one().revision > first.revision


# ---- compare and set ---------------------------------------------------------------------------


def test_a_write_puts_document_revision_and_progress(queue: Queue) -> None:
    queue.supply("q", "u1")
    one = Consumer(queue)
    item = one.one()
    before = item.revision
    answer = one.write(item, NEW, state=b'{"links":["a"]}', chain="calls")
    assert (answer.kind, answer.revision > before) == ("written", True)
    assert fetch(queue) == NEW
    assert queue.revision("u1")[b"r"] == str(answer.revision).encode()
    assert queue.revision("u1")[b"c"] == b"calls"
    assert abs(queue.expires_ms("u1") - FAR_MS) < 1000
    [held] = queue.held("c1")
    assert held.state == b'{"links":["a"]}'


def test_the_second_of_two_writers_gets_the_newer_document(queue: Queue) -> None:
    queue.store("u1", OLD)
    queue.push("a", "u1")
    queue.push("b", "u1")
    one, two = Consumer(queue, "c1", lists=("a",)), Consumer(queue, "c2", lists=("b",))
    mine, theirs = one.one(), two.one()
    written = two.write(theirs, NEW, chain="b")
    conflict = one.write(mine, document("u1", subject="mine"), chain="a")
    assert conflict.kind == "conflict"
    assert (conflict.revision, conflict.chain, conflict.text) == (written.revision, "b", None)
    assert fetch(queue) == NEW
    again = one.write(mine, document("u1", subject="merged"), base=conflict.revision)
    assert again.kind == "written"
    assert again.revision > conflict.revision
    assert fetch(queue) == document("u1", subject="merged")


def test_a_chain_that_has_written_meanwhile_is_named_whoever_came_after_it(queue: Queue) -> None:
    # The same uuid twice on one list, and another chain's write between: joined with what is there,
    # the second one's work would be in it twice.
    queue.store("u1", OLD)
    queue.push("a", "u1", "u1")
    queue.push("b", "u1")
    one, two = Consumer(queue, "c1", lists=("a",)), Consumer(queue, "c2", lists=("b",))
    [first, second], other = one.take(2), two.one()
    answer = one.write(first, NEW, chain="a")
    last = two.write(other, document("u1", subject="b"), base=answer.revision, chain="b")
    conflict = one.write(second, NEW, chain="a")
    assert (conflict.kind, conflict.chain, conflict.revision) == ("conflict", "a", last.revision)
    conflict = one.write(second, NEW, base=answer.revision, chain="a")
    assert conflict.chain == "b", "what it has read already is not newer"
    assert one.write(second, NEW, base=last.revision, chain="a").kind == "written"


def test_a_set_by_its_producer_is_not_overwritten(queue: Queue) -> None:
    queue.store("u1", OLD)
    queue.push("q", "u1")
    one = Consumer(queue)
    item = one.one()
    queue.client.set("vcon:u1", NEW)
    conflict = one.write(item, document("u1", subject="ours"))
    assert (conflict.kind, conflict.text, conflict.chain) == ("conflict", None, "")
    assert conflict.revision > item.revision
    assert fetch(queue) == NEW
    assert one.write(item, OLD, base=conflict.revision).kind == "written"


def test_a_large_newer_document_is_left_to_be_read_with_get(queue: Queue) -> None:
    queue.supply("q", "u1")
    one = Consumer(queue)
    item = one.one()
    queue.client.set("vcon:u1", LARGE)
    conflict = one.write(item, NEW)
    assert (conflict.kind, conflict.text) == ("conflict", None)


def test_a_pushed_document_replaces_what_is_there(queue: Queue) -> None:
    queue.store("u1", OLD)
    queue.push("q", NEW)
    one = Consumer(queue)
    item = one.one()
    answer = one.write(item, NEW, uuid="u1", base=0)
    assert answer.kind == "written"
    assert fetch(queue) == NEW
    [held] = queue.held("c1")
    assert held.payload == b"u1"  # from now on its payload is the uuid
    assert one.write(item, OLD, base=answer.revision).kind == "written"


def test_a_document_that_was_deleted_meanwhile_is_written_again(queue: Queue) -> None:
    queue.supply("q", "u1")
    one = Consumer(queue)
    item = one.one()
    before = item.revision
    queue.client.delete("vcon:u1")
    answer = one.write(item, NEW)
    assert (answer.kind, answer.revision > before) == ("written", True)
    assert fetch(queue) == NEW


def test_a_document_that_has_expired_meanwhile_may_have_been_newer(queue: Queue) -> None:
    # Another chain wrote, stored and settled; its hour is over while this one still runs. What this
    # one holds would bury the other's work under a newer revision, in the storages too.
    queue.store("u1", OLD)
    queue.push("a", "u1")
    queue.push("b", "u1")
    one, two = Consumer(queue, "c1", lists=("a",)), Consumer(queue, "c2", lists=("b",))
    mine, theirs = one.one(), two.one()
    two.write(theirs, NEW)
    two.settle(theirs, expiry_s=1)
    queue.client.delete("vcon:u1", "conserver:revision:u1")  # as both do together
    answer = one.write(mine, document("u1", subject="mine"))
    assert (answer.kind, answer.revision, answer.text) == ("conflict", calls.ABSENT, None)
    assert fetch(queue) is None
    assert one.write(mine, NEW, base=calls.ABSENT).kind == "written"


def test_what_came_back_from_a_storage_replaces_nothing(queue: Queue) -> None:
    queue.push("q", "u1")
    one = Consumer(queue)
    item = one.one()
    queue.client.set("vcon:u1", NEW)  # somebody was quicker
    conflict = one.write(item, OLD, base=calls.ABSENT)
    assert conflict.kind == "conflict"
    assert fetch(queue) == NEW
    assert one.write(item, OLD, base=conflict.revision).kind == "written"


def test_the_progress_of_one_item_is_not_that_of_an_equal_payload(queue: Queue) -> None:
    # Kept by payload, a fresh copy inherited "stored" and was never stored.
    queue.supply("q", "u1", "u1")
    one = Consumer(queue)
    first, second = one.take(2)
    one.write(first, NEW, state=b'{"owed":[]}')
    one.park(first, second, after_ms=0)
    queue.promote("q")
    states = {item.token: item.state for item in one.take(2)}
    assert states == {first.token: b'{"owed":[]}', second.token: b""}


DONE = b'{"links":["a"]}'


def put_aside(queue: Queue, one: Consumer, how: str) -> None:
    """One item leaves its consumer with progress: in one of the ways that there are."""
    item = one.one()
    if how == "died":
        one.write(item, OLD, state=DONE)
        queue.return_items(one)
    elif how == "parked":
        one.park(item, state=DONE)
    else:
        one.dead_letter(item, state=DONE)


def bring_back(queue: Queue) -> None:
    """What was put aside is next in line."""
    queue.promote("q")
    if queue.dead():
        queue.replay("q", state=DONE)


@pytest.mark.parametrize("how", ["died", "parked", "dead"])
def test_progress_is_about_the_document_that_was_there(queue: Queue, how: str) -> None:
    """A producer's SET in between has nothing of what the record calls done."""
    queue.supply("q", "u1")
    put_aside(queue, Consumer(queue, "first"), how)
    queue.client.set("vcon:u1", NEW)
    bring_back(queue)
    one = Consumer(queue)
    item = one.one()
    assert (item.state, item.replaced) == (DONE, True)
    assert one.claim(number=one.number).items[0].replaced, "a repetition says so too"
    one.park(item, state=DONE)
    queue.promote("q")
    item = one.one()
    assert not item.replaced, "this progress is about the new one"
    one.write(item, NEW, state=DONE)
    queue.return_items(one)
    assert not Consumer(queue, "last").one().replaced


@pytest.mark.parametrize("how", ["died", "parked", "dead"])
def test_what_others_add_replaces_nothing(queue: Queue, how: str) -> None:
    queue.supply("q", "u1", "u1")
    other = Consumer(queue)
    theirs = other.one()
    put_aside(queue, Consumer(queue, "first"), how)
    answer = other.write(theirs, NEW, chain="other")
    if answer.kind == "conflict":
        other.write(theirs, NEW, base=answer.revision, chain="other")
    bring_back(queue)
    item = other.one()
    assert (item.state, item.replaced) == (DONE, False)


def test_what_was_replaced_stays_so_whoever_writes_after_it(queue: Queue) -> None:
    queue.supply("q", "u1", "u1")
    put_aside(queue, Consumer(queue, "first"), "parked")
    queue.client.set("vcon:u1", NEW)
    other = Consumer(queue)
    other.write(other.one(), NEW, chain="other")
    bring_back(queue)
    assert other.one().replaced


def test_a_document_that_is_pushed_whole_replaces_what_is_there(queue: Queue) -> None:
    queue.supply("q", "u1")
    put_aside(queue, Consumer(queue, "first"), "parked")
    queue.push("q", NEW)
    one = Consumer(queue)
    pushed = one.one()
    one.write(pushed, NEW, uuid="u1", state=DONE)
    queue.return_items(one)
    bring_back(queue)
    first, second = Consumer(queue, "c2").take(2)
    assert {first.token: first.replaced, second.token: second.replaced} == {
        pushed.token: False,
        ({first.token, second.token} - {pushed.token}).pop(): True,
    }


def test_nothing_is_known_of_a_document_whose_revision_is_gone(queue: Queue) -> None:
    """Then nobody can say what is in it."""
    queue.supply("q", "u1")
    put_aside(queue, Consumer(queue, "first"), "parked")
    queue.client.delete("conserver:revision:u1")
    bring_back(queue)
    one = Consumer(queue)
    assert one.one().replaced
    assert one.claim(number=one.number).items[0].replaced


def test_a_conflict_tells_whether_the_document_was_replaced(queue: Queue) -> None:
    queue.supply("q", "u1", "u1")
    one, other = Consumer(queue), Consumer(queue, "c2")
    first, second = one.one(), other.one()
    other.write(second, NEW, chain="other")
    answer = one.write(first, OLD)
    assert (answer.kind, answer.chain, answer.replaced) == ("conflict", "other", False)
    queue.client.set("vcon:u1", NEW)
    answer = one.write(first, OLD)
    assert (answer.kind, answer.chain, answer.replaced) == ("conflict", "", True)
    other.write(second, NEW, base=answer.revision, chain="other")
    answer = one.write(first, OLD)
    assert (answer.kind, answer.chain, answer.replaced) == ("conflict", "other", True)


def test_progress_may_be_written_for_a_document_that_is_not_there(queue: Queue) -> None:
    queue.push("q", "u1")
    one = Consumer(queue)
    item = one.one()
    answer = one.write(item, state=b"{}", base=calls.ABSENT)
    assert (answer.kind, answer.revision) == ("written", calls.ABSENT)
    assert queue.held("c1")[0].state == b"{}"
    assert one.park(item) == [b"moved"]
    assert [parked.token for parked in queue.parked()] == [item.token]


def test_progress_alone_leaves_the_document(queue: Queue) -> None:
    queue.supply("q", "u1")
    one = Consumer(queue)
    item = one.one()
    before = queue.revision("u1")
    answer = one.write(item, state=b"{}")
    assert (answer.kind, answer.revision) == ("written", item.revision)
    assert queue.revision("u1") == before
    assert queue.held("c1")[0].state == b"{}"


@pytest.mark.parametrize("kind", ["hash", "list"])
def test_a_key_of_another_type_is_not_written(queue: Queue, kind: str) -> None:
    queue.supply("q", "u1", "u2")
    one = Consumer(queue)
    bad, good = one.take(2)
    queue.client.delete("vcon:u1")
    if kind == "hash":
        queue.client.hset("vcon:u1", "a", "b")
    else:
        queue.client.rpush("vcon:u1", "a")
    entries = [
        calls.Write(item.token, item.epoch, item.payload.decode(), item.revision, "c", b"s", NEW)
        for item in (bad, good)
    ]
    answers = calls.read_answers(one.send(calls.write("c1", 1, entries)))
    assert [(answer.kind, answer.found) for answer in answers] == [("type", kind), ("written", "")]
    assert queue.client.type("vcon:u1") == kind.encode()
    states = {record.payload: record.state for record in queue.held("c1")}
    assert states == {b"u1": b"", b"u2": b"s"}


def test_one_conflict_in_a_call_harms_no_neighbour(queue: Queue) -> None:
    queue.supply("q", "u1", "u2", "u3")
    one = Consumer(queue)
    items = one.take(3)
    queue.client.set("vcon:u2", NEW)
    entries = [
        calls.Write(item.token, item.epoch, item.payload.decode(), item.revision, "c", b"s", OLD)
        for item in items
    ]
    answers = calls.read_answers(one.send(calls.write("c1", 1, entries)))
    assert [answer.kind for answer in answers] == ["written", "conflict", "written"]


# ---- repeated and late -------------------------------------------------------------------------


def test_a_repeated_write_gets_its_first_answer(queue: Queue) -> None:
    queue.supply("q", "u1")
    one = Consumer(queue)
    answer = one.write(one.one(), NEW)
    before = queue.everything()
    assert calls.read_answers(one.again()) == [answer]
    assert queue.everything() == before


def test_a_repeated_write_does_not_undo_what_another_chain_wrote_meanwhile(queue: Queue) -> None:
    queue.store("u1", OLD)
    queue.push("q", "u1", "u1")
    one, two = Consumer(queue, "c1"), Consumer(queue, "c2")
    mine, theirs = one.one(), two.one()
    first = one.write(mine, NEW)
    merged = document("u1", subject="merged")
    assert two.write(theirs, merged, base=first.revision).kind == "written"
    assert calls.read_answers(one.again()) == [first]
    assert fetch(queue) == merged


def test_a_repeated_conflict_stays_one(queue: Queue) -> None:
    queue.supply("q", "u1")
    one = Consumer(queue)
    item = one.one()
    queue.client.set("vcon:u1", NEW)
    conflict = one.write(item, OLD)
    assert calls.read_answers(one.again()) == [conflict]


def test_a_late_write_changes_nothing(queue: Queue) -> None:
    queue.supply("q", "u1")
    one = Consumer(queue)
    item = one.one()
    one.write(item, OLD)
    late = one.last
    one.write(item, NEW, state=b"s")
    before = queue.everything()
    assert late is not None
    assert calls.read_answers(queue.run(late))[0].kind == "late"
    assert queue.everything() == before


def test_a_late_copy_of_a_refused_write_changes_nothing(queue: Queue) -> None:
    queue.supply("q", "u1")
    one = Consumer(queue)
    item = one.one()
    queue.client.set("vcon:u1", NEW)
    conflict = one.write(item, OLD)
    late = one.last
    one.write(item, document("u1", subject="merged"), base=conflict.revision)
    before = queue.everything()
    assert late is not None
    assert calls.read_answers(queue.run(late))[0].kind == "late"
    assert queue.everything() == before


@pytest.mark.parametrize("end", ["settle", "park", "dead_letter", "release"])
def test_a_write_after_the_end_of_a_holding_is_lost(queue: Queue, end: str) -> None:
    queue.supply("q", "u1")
    one = Consumer(queue)
    item = one.one()
    one.write(item, OLD, state=b"s")
    getattr(one, end)(item)
    before = queue.everything()
    assert one.write(item, NEW).kind == "lost"
    assert queue.everything() == before


def test_the_number_of_a_write_ends_with_the_holding(queue: Queue) -> None:
    queue.supply("q", "u1")
    one, two = Consumer(queue, "c1"), Consumer(queue, "c2")
    item = one.one()
    for _ in range(3):
        assert one.write(item, NEW, state=b"s").kind == "written"
    queue.return_items(one)
    theirs = two.one()
    assert two.write(theirs, OLD).kind == "written"
    assert fetch(queue) == OLD

"""Keys of ours that hold another type (an operator's SET): nothing is lost, and others go on."""

from __future__ import annotations

import pytest
from redis.exceptions import ResponseError

from conserver.process.messages import Blame
from conserver.queue import host_calls
from conserver.queue.record import Source
from tests.queues import Consumer, Queue, document, payloads, record

RETURNED, SUSPECTS = "conserver:returned:bad", "conserver:suspects:bad"
LISTS = ("bad", "good")


# ---- claims --------------------------------------------------------------------------------------


@pytest.mark.real_redis("an error inside its scripts has no text")
@pytest.mark.parametrize("key", ["conserver:host:h1", "conserver:inflight:c1"])
def test_a_claim_without_its_consumers_keys_takes_nothing_and_names_them(
    queue: Queue, key: str
) -> None:
    queue.push("q", "u1")
    one = Consumer(queue)
    queue.client.set(key, "x")
    claim = one.claim()
    assert (claim.items, claim.void, claim.broken) == ([], False, [(key, "string")])
    assert queue.waiting() == [b"u1"]


@pytest.mark.real_redis("an error inside its scripts has no text")
@pytest.mark.parametrize("place", ["returned", "suspects", "parked", "dead"])
def test_a_list_with_a_key_of_another_type_gives_nothing_and_the_others_do(
    queue: Queue, place: str
) -> None:
    key = f"conserver:{place}:bad"
    queue.client.set(key, "x")
    queue.push("bad", "u1")
    queue.push("good", "u2")
    one = Consumer(queue, lists=LISTS)
    claim = one.claim()
    assert payloads(claim.items) == [b"u2"]
    assert claim.broken == [(key, "string")]
    queue.client.delete(key)
    assert payloads(one.claim().items) == [b"u1"]


@pytest.mark.real_redis("an error inside its scripts has no text")
@pytest.mark.parametrize("place", ["parked", "dead"])
def test_a_list_without_fresh_items_gives_nothing_of_what_came_back_either(
    queue: Queue, place: str
) -> None:
    queue.client.rpush(RETURNED, record("t1", "u1", "bad"))
    queue.client.set(f"conserver:{place}:bad", "x")
    claim = Consumer(queue, lists=LISTS).claim()
    assert (claim.items, claim.broken) == ([], [(f"conserver:{place}:bad", "string")])
    assert payloads(queue.returned("bad")) == [b"u1"]


@pytest.mark.real_redis("an error inside its scripts has no text")
@pytest.mark.parametrize("place", ["returned", "parked", "dead"])
def test_a_suspect_that_could_go_nowhere_does_not_keep_a_worker(queue: Queue, place: str) -> None:
    queue.suspect("u1", "bad")
    queue.client.set(f"conserver:{place}:bad", "x")
    queue.push("good", "u2")
    claim = Consumer(queue, lists=LISTS).claim()
    assert payloads(claim.items) == [b"u2"]
    assert (f"conserver:{place}:bad", "string") in claim.broken
    assert payloads(queue.suspects("bad")) == [b"u1"]


def test_pauses_that_nobody_can_read_pause_nothing(queue: Queue) -> None:
    queue.client.set("conserver:control", "x")
    queue.push("q", "u1")
    claim = Consumer(queue).claim()
    assert payloads(claim.items) == [b"u1"]
    assert claim.broken == [("conserver:control", "string")]


@pytest.mark.real_redis("an error inside its scripts has no text")
def test_a_revision_of_another_type_harms_no_neighbour(queue: Queue) -> None:
    queue.supply("q", "u1", "u2")
    queue.client.set("conserver:revision:u1", "x")
    first, second = Consumer(queue).take(2)
    assert (first.source, first.bad_key) == (
        Source.BAD_KEY,
        ("conserver:revision:u1", "string"),
    )
    assert second.source is Source.STORED


# ---- while an item is held -----------------------------------------------------------------------


@pytest.mark.real_redis("an error inside its scripts has no text")
def test_a_write_over_a_revision_of_another_type_says_so(queue: Queue) -> None:
    queue.supply("q", "u1")
    one = Consumer(queue)
    item = one.one()
    queue.client.delete("conserver:revision:u1")
    queue.client.set("conserver:revision:u1", "x")
    answer = one.write(item, document("u1", subject="new"))
    assert (answer.kind, answer.key, answer.found) == ("type", "conserver:revision:u1", "string")
    assert queue.client.get("vcon:u1") == document("u1")


@pytest.mark.real_redis("an error inside its scripts has no text")
def test_a_settle_over_a_revision_of_another_type_ends_all_its_items(queue: Queue) -> None:
    queue.supply("q", "u1", "u2")
    one = Consumer(queue)
    items = one.take(2)
    queue.client.set("conserver:revision:u1", "x")
    settlements = [one.settlement(item, "out", expiry_s=60, etags={"s3": "abc"}) for item in items]
    assert [answer.kind for answer in one.settle_all(settlements)] == ["settled", "settled"]
    assert queue.waiting("out") == [b"u1", b"u2"]
    assert queue.revision("u2")[b"e:s3"] == b"abc"


@pytest.mark.real_redis("an error inside its scripts has no text")
def test_a_settle_where_document_and_revision_have_other_types_ends_all_its_items(
    queue: Queue,
) -> None:
    queue.supply("q", "u1", "u2")
    one = Consumer(queue)
    items = one.take(2)
    for key in ("vcon:u1", "conserver:revision:u1"):
        queue.client.delete(key)
        queue.make_key(key, "list")
    settlements = [one.settlement(item, "out", expiry_s=60) for item in items]
    assert [answer.kind for answer in one.settle_all(settlements)] == ["settled", "settled"]
    assert queue.waiting("out") == [b"u1", b"u2"]
    assert 0 < queue.client.ttl("vcon:u2") <= 60
    assert queue.client.ttl("conserver:revision:u1") == -1  # it is not ours


def test_what_cannot_be_parked_or_buried_stays_held(queue: Queue) -> None:
    queue.push("q", "u1")
    one = Consumer(queue)
    item = one.one()
    queue.client.set("conserver:parked:q", "x")
    queue.client.set("conserver:dead:q", "x")
    assert one.park(item) == [b"string conserver:parked:q"]
    assert one.dead_letter(item) == [b"string conserver:dead:q"]
    assert payloads(queue.held("c1")) == [b"u1"]
    assert queue.dead() == []


def test_what_cannot_be_released_stays_held_and_what_can_goes(queue: Queue) -> None:
    queue.client.rpush("conserver:returned:q", record("t1", "u1", state=b"{}"))
    queue.push("q", "u2")
    one = Consumer(queue)
    known, fresh = one.take(2)
    queue.client.set("conserver:returned:q", "x")
    assert one.release(known, fresh) == [b"string conserver:returned:q", b"moved"]
    assert payloads(queue.held("c1")) == [b"u1"]
    assert queue.waiting() == [b"u2"]


# ---- on the way back -----------------------------------------------------------------------------


@pytest.mark.parametrize("key", [RETURNED, SUSPECTS])
@pytest.mark.parametrize("blame", ["nobody", "everything"])
def test_what_a_dead_consumer_held_waits_for_its_place_and_the_rest_goes(
    queue: Queue, key: str, blame: str
) -> None:
    queue.push("bad", "u1")
    queue.push("good", "u2")
    one = Consumer(queue, lists=LISTS)
    one.claim()
    queue.client.set(key, "x")
    assert queue.return_items(one, Blame(blame)).returned == 1
    with pytest.raises(ResponseError, match=f"WRONGTYPE {key}$"):
        queue.return_items(one, Blame(blame))
    assert queue.registration(one) == b"void"
    assert payloads(queue.held("c1")) == [b"u1"]
    queue.client.delete(key)
    assert queue.return_items(one, Blame(blame)).returned == 1
    back = queue.returned("bad") + queue.suspects("bad")
    assert payloads(back) == [b"u1"]


def test_due_items_stay_parked_while_they_cannot_go_back(queue: Queue) -> None:
    queue.push("bad", "u1")
    one = Consumer(queue, lists=("bad",))
    one.park(one.one(), after_ms=0)
    queue.client.set(RETURNED, "x")
    with pytest.raises(ResponseError, match=f"WRONGTYPE {RETURNED}$"):
        queue.promote("bad")
    assert payloads(queue.parked("bad")) == [b"u1"]
    queue.client.delete(RETURNED)
    assert queue.promote("bad") == 1


def test_strays_stay_held_while_they_cannot_go_back(queue: Queue) -> None:
    queue.push("bad", "u1")
    queue.push("good", "u2")
    one = Consumer(queue, lists=LISTS)
    one.claim()
    one.holds.clear()
    queue.client.set(RETURNED, "x")
    assert one.stray() == 1
    assert payloads(queue.held("c1")) == [b"u1"]
    queue.client.delete(RETURNED)
    assert one.stray() == 1


def test_a_dead_letter_stays_one_while_it_cannot_go_back(queue: Queue) -> None:
    queue.push("bad", "u1")
    one = Consumer(queue, lists=("bad",))
    one.dead_letter(one.one())
    queue.client.set(RETURNED, "x")
    before = queue.everything()
    with pytest.raises(ResponseError, match=f"WRONGTYPE {RETURNED}$"):
        queue.replay("bad")
    assert queue.everything() == before
    queue.client.delete(RETURNED)
    assert queue.replay("bad") == "returned"


def test_the_scripts_of_the_household_leave_what_they_cannot_use(queue: Queue) -> None:
    # Whatever raises here has done nothing before that costs an item.
    queue.client.set("conserver:host:h1", "x")
    for call in (host_calls.beat("h1", "1", {}), host_calls.register("h1", "c1", ["q"])):
        with pytest.raises(ResponseError, match="WRONGTYPE"):
            queue.run(call)
    assert queue.client.get("conserver:host:h1") == b"x"

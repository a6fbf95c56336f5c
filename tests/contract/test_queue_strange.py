"""What is no record in a key of ours: another program has put it there. It harms no item."""

from __future__ import annotations

import pytest
from redis.exceptions import ResponseError

from conserver.operations import items
from conserver.process.messages import Blame
from conserver.queue import dead_letters as deadletters
from conserver.queue import host_calls, keys
from conserver.queue.cancellation import cancel
from conserver.queue.host_calls import Returned
from tests.queues import Consumer, Queue, payloads, record

STRANGE = [b"", b"text", b"{}", b"a\nb", b"\x01", b"\x01a b c\nd", b"\x01tok 7 0 -\n", b"\xff\x00"]
ASIDE = keys.strange("c1")


def hold(queue: Queue, consumer: Consumer, *texts: bytes) -> None:
    """Put these among what a consumer holds."""
    fields = {f"field-{number}": text for number, text in enumerate(texts)}
    queue.client.hset(keys.inflight(consumer.id), mapping=fields)


# ---- where items wait ----------------------------------------------------------------------------


@pytest.mark.parametrize("strange", STRANGE)
def test_what_is_parked_and_no_record_goes_on_as_if_it_had_been_pushed(
    queue: Queue, strange: bytes
) -> None:
    ours = {record("t1", "u1"): 2, record("t2", "u2", flags="s"): 3}
    queue.client.zadd("conserver:parked:q", {strange: 1} | ours)
    assert queue.promote("q") == 3
    assert queue.client.exists("conserver:parked:q") == 0
    assert payloads(queue.returned()) == [strange, b"u1"]
    assert payloads(queue.suspects()) == [b"u2"]
    one = Consumer(queue)
    assert [item.payload for item in one.claim(empty=False).items] == [strange, b"u1"]


def test_nothing_that_is_no_record_keeps_others_parked(queue: Queue) -> None:
    queue.client.zadd("conserver:parked:q", {f"strange {number}": 1 for number in range(50)})
    queue.client.zadd("conserver:parked:q", {record("t1", "u1"): 2})
    while queue.promote("q", most=10):
        continue
    assert payloads(queue.returned())[-1] == b"u1"


@pytest.mark.parametrize("place", ["returned", "suspects"])
@pytest.mark.parametrize("strange", STRANGE)
def test_what_came_back_and_is_no_record_is_claimed_as_if_it_had_been_pushed(
    queue: Queue, place: str, strange: bytes
) -> None:
    ours = record("t1", "u1", flags="s" if place == "suspects" else "-")
    queue.client.rpush(f"conserver:{place}:q", strange, ours)
    one = Consumer(queue)
    items = one.claim().items
    assert (items[0].payload, items[0].list, items[0].suspect) == (strange, "q", False)
    assert [answer.kind for answer in one.settle_all([one.settlement(items[0], uuid="x")])] == [
        "settled"
    ]
    again = items[1:] or one.claim().items
    assert payloads(again) == [b"u1"]


# ---- in flight -----------------------------------------------------------------------------------


@pytest.mark.parametrize("blame", ["nobody", "items", "everything"])
def test_what_a_dead_consumer_held_goes_back_and_the_rest_is_set_aside(
    queue: Queue, blame: str
) -> None:
    queue.push("q", "u1", "u2")
    one = Consumer(queue)
    one.take(2)
    hold(queue, one, *STRANGE)
    answer = queue.return_items(one, Blame(blame))
    assert (answer.returned, answer.left, answer.strange) == (2, 0, len(STRANGE))
    assert sorted(payloads(queue.returned() + queue.suspects())) == [b"u1", b"u2"]
    assert sorted(queue.client.hvals(ASIDE)) == sorted(STRANGE)
    assert queue.return_items(one, Blame(blame)) == Returned(0, 0, 0, 0)
    assert queue.registration(one) is None


def test_a_return_ends_however_much_of_it_is_no_record(queue: Queue) -> None:
    queue.push("q", "u1")
    one = Consumer(queue)
    one.claim()
    hold(queue, one, *[b"text"] * 50)
    total, calls_made = 51, 0
    while total:
        answer = queue.return_items(one, most=10)
        total = answer.left
        calls_made += 1
    assert calls_made == 6
    assert payloads(queue.returned()) == [b"u1"]


def test_what_is_no_record_is_set_aside_beside_an_item_that_cannot_go_back(queue: Queue) -> None:
    queue.push("q", "u1")
    one = Consumer(queue)
    one.claim()
    hold(queue, one, b"text")
    queue.client.set("conserver:returned:q", "x")
    assert queue.return_items(one) == Returned(0, 1, 0, 0, 1)
    with pytest.raises(ResponseError, match="WRONGTYPE conserver:returned:q"):
        queue.return_items(one)
    assert payloads(queue.held("c1")) == [b"u1"]


def test_strays_go_back_beside_what_is_no_record(queue: Queue) -> None:
    queue.push("q", "u1")
    one = Consumer(queue)
    one.claim()
    one.holds.clear()
    hold(queue, one, *STRANGE)
    assert one.stray() == 1
    assert payloads(queue.returned()) == [b"u1"]
    assert queue.client.hlen("conserver:inflight:c1") == len(STRANGE)


def test_a_repeated_claim_passes_over_what_is_no_record(queue: Queue) -> None:
    queue.push("q", "u1")
    one = Consumer(queue)
    one.claim()
    hold(queue, one, *STRANGE)
    assert payloads(one.claim(number=1).items) == [b"u1"]


@pytest.mark.parametrize("strange", STRANGE)
def test_an_item_whose_record_was_overwritten_is_lost_to_its_consumer(
    queue: Queue, strange: bytes
) -> None:
    queue.supply("q", "u1")
    one = Consumer(queue)
    item = one.one()
    queue.client.hset("conserver:inflight:c1", item.token, strange)
    assert one.begin(item) == 0
    assert one.write(item, state=b"{}").kind == "lost"
    assert one.park(item) == [b"lost"]
    assert one.settle(item, "out").kind == "lost"
    assert queue.waiting("out") == []


# ---- dead letters --------------------------------------------------------------------------------


def test_reasons_that_are_none_hide_no_dead_letter(queue: Queue) -> None:
    queue.push("q", "u1")
    one = Consumer(queue)
    one.dead_letter(one.one())
    strange = dict.fromkeys(STRANGE, 1) | {b"{}\nno record": 1, b"3\n" + record("t", "x"): 1}
    queue.client.zadd("conserver:dead:q", strange)
    assert [letter.payload for letter in deadletters.scan(queue.client, "q")] == [b"u1"]
    assert queue.run(host_calls.sweep("q", 3600, 100)) == len(strange)
    [letter] = deadletters.scan(queue.client, "q")
    assert deadletters.requeue(queue.client, letter) == "returned"


# ---- who looks everywhere ------------------------------------------------------------------------


def test_a_vcon_is_found_and_cancelled_among_what_is_no_record(queue: Queue) -> None:
    queue.push("q", "u1", "u2")
    one = Consumer(queue)
    one.claim(1)
    hold(queue, one, *STRANGE, b"u1")
    for place in ("q", "conserver:returned:q", "conserver:suspects:q"):
        queue.client.rpush(place, *STRANGE)
    queue.client.zadd("conserver:parked:q", dict.fromkeys(STRANGE, 1))
    queue.run(host_calls.beat("h1", "1", {}))
    found = items.find(queue.client, ["q"], ["u1", "u2"])
    assert {(entry.uuid, entry.where) for entry in found} == {("u1", "running"), ("u2", "queued")}
    cancelled = cancel(queue.client, "u2")
    assert (cancelled.queued, cancelled.total) == (1, 1)

"""put_back.lua, sweep.lua, purge.lua, cancel.lua: what coordinators and operators do beside the
flow."""

from __future__ import annotations

import time

import pytest

from conserver.queue import host_calls, operator_calls
from tests.queues import Consumer, Queue, payloads, record


def buried(queue: Queue, *uuids: str) -> list[bytes]:
    """Dead letters of these; the members of their reasons, in their order."""
    queue.supply("q", *uuids)
    one = Consumer(queue, "undertaker")
    items = {item.payload.decode(): item for item in one.take(len(uuids))}
    if len(items) == len(uuids):
        one.dead_letter(*[items[uuid] for uuid in uuids])
    else:
        one.dead_letter(*one.holds.values())
    return list(queue.client.zrange("conserver:dead:q", 0, -1))


# ---- what the bell had moved -------------------------------------------------------------------


def test_what_the_bell_moved_goes_back_in_its_order(queue: Queue) -> None:
    queue.push("q", "u1", "u2", "u3", "u4")
    for _ in range(3):
        queue.client.lmove("q", "conserver:returned:q", "LEFT", "RIGHT")
    assert queue.run(host_calls.put_back("q", 100)) == 3
    assert queue.waiting() == [b"u1", b"u2", b"u3", b"u4"]
    assert queue.returned() == []


def test_what_came_back_with_a_record_stays(queue: Queue) -> None:
    queue.client.rpush("conserver:returned:q", record("t1", "back"), "u1", record("t2", "too"))
    assert queue.run(host_calls.put_back("q", 100)) == 1
    assert payloads(queue.returned()) == [b"back", b"too"]
    assert queue.waiting() == [b"u1"]


def test_equal_payloads_go_back_one_by_one(queue: Queue) -> None:
    queue.client.rpush("conserver:returned:q", "u1", record("t1", "u1"), "u1")
    assert queue.run(host_calls.put_back("q", 100)) == 2
    assert queue.places() == {("waiting", b"u1"): 2, ("returned", b"u1"): 1}


def test_as_many_entries_are_looked_at_as_asked_for(queue: Queue) -> None:
    queue.client.rpush("conserver:returned:q", *[f"u{number}" for number in range(10)])
    assert queue.run(host_calls.put_back("q", 4)) == 4
    assert queue.waiting() == [b"u6", b"u7", b"u8", b"u9"]


def test_a_list_of_another_type_gets_nothing_back(queue: Queue) -> None:
    queue.client.rpush("conserver:returned:q", "u1")
    queue.client.set("q", "not a list")
    assert queue.run(host_calls.put_back("q", 100)) == 0
    assert payloads(queue.returned()) == [b"u1"]


# ---- reasons that are old ----------------------------------------------------------------------


def test_old_reasons_go_and_their_payloads_stay(queue: Queue) -> None:
    old, new = buried(queue, "u1", "u2")
    queue.client.zadd("conserver:dead:q", {old: (time.time() - 3600) * 1000})
    assert queue.run(host_calls.sweep("q", 1800, 100)) == 1
    assert queue.client.zrange("conserver:dead:q", 0, -1) == [new]
    assert queue.dead() == [b"u1", b"u2"]
    assert queue.run(operator_calls.replay("q", b"", b"u1")) == b"queued"


def test_sweeping_is_bounded_and_takes_the_oldest(queue: Queue) -> None:
    members = buried(queue, "u1", "u2", "u3")
    for age_s, member in zip((30, 20, 10), members, strict=True):
        queue.client.zadd("conserver:dead:q", {member: (time.time() - age_s) * 1000})
    assert queue.run(host_calls.sweep("q", 1, 2)) == 2
    assert queue.client.zrange("conserver:dead:q", 0, -1) == members[2:]


# ---- dead letters that are forgotten -----------------------------------------------------------


def test_a_purged_dead_letter_is_gone_with_its_reason(queue: Queue) -> None:
    first, _ = buried(queue, "u1", "u2")
    assert queue.run(operator_calls.purge("q", first, b"u1")) == 1
    assert queue.dead() == [b"u2"]
    assert [item.payload for _, item in queue.reasons()] == [b"u2"]


def test_a_repeated_purge_takes_no_equal_payload(queue: Queue) -> None:
    first, _ = buried(queue, "u1", "u1")
    assert queue.run(operator_calls.purge("q", first, b"u1")) == 1
    assert queue.run(operator_calls.purge("q", first, b"u1")) == 0
    assert queue.dead() == [b"u1"]


def test_a_purge_of_what_was_replayed_does_nothing(queue: Queue) -> None:
    [member] = buried(queue, "u1")
    queue.replay("q")
    assert queue.run(operator_calls.purge("q", member, b"u1")) == 0
    assert payloads(queue.returned()) == [b"u1"]


# ---- items that are cancelled ------------------------------------------------------------------


def test_one_of_equal_payloads_is_cancelled_per_call(queue: Queue) -> None:
    queue.push("q", "u1", "u2", "u1")
    assert queue.run(operator_calls.cancel("q", b"u1")) == 1
    assert queue.waiting() == [b"u2", b"u1"]


@pytest.mark.parametrize("place", ["returned", "suspects", "parked"])
def test_a_record_is_cancelled_by_its_text(queue: Queue, place: str) -> None:
    texts = [record("t1", "u1"), record("t2", "u1")]
    key = f"conserver:{place}:q"
    if place == "parked":
        queue.client.zadd(key, dict.fromkeys(texts, 1))
    else:
        queue.client.rpush(key, *texts)
    assert queue.run(operator_calls.cancel(key, texts[0])) == 1
    assert queue.run(operator_calls.cancel(key, texts[0])) == 0
    assert len(queue.returned() + queue.suspects() + queue.parked()) == 1


def test_what_runs_is_named_to_its_consumer_and_stays_in_flight(queue: Queue) -> None:
    queue.push("q", "u1")
    item = Consumer(queue).one()
    call = operator_calls.cancel("conserver:inflight:c1", item.token, "conserver:cancelled:c1")
    assert queue.run(call) == 1
    assert queue.client.smembers("conserver:cancelled:c1") == {item.token.encode()}
    assert 0 < queue.client.ttl("conserver:cancelled:c1") <= 86_400
    assert [held.token for held in queue.held("c1")] == [item.token]


def test_what_is_not_held_any_more_is_named_to_nobody(queue: Queue) -> None:
    queue.push("q", "u1")
    one = Consumer(queue)
    item = one.one()
    one.settle(item)
    call = operator_calls.cancel("conserver:inflight:c1", item.token, "conserver:cancelled:c1")
    assert queue.run(call) == 0
    assert queue.client.exists("conserver:cancelled:c1") == 0


def test_cancelling_in_a_key_of_another_type_does_nothing(queue: Queue) -> None:
    queue.client.set("q", "not a list")
    assert queue.run(operator_calls.cancel("q", b"u1")) == 0
    assert queue.client.get("q") == b"not a list"

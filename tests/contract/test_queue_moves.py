"""settle.lua, move.lua, promote.lua, replay.lua: every way on, and back from death."""

from __future__ import annotations

import hashlib

import orjson
import pytest

from conserver.process.messages import Blame
from conserver.queue import calls, operator_calls
from tests.queues import Consumer, Queue, document, opened, payloads, record

# ---- settle ------------------------------------------------------------------------------------


def test_a_settled_item_is_gone_and_its_uuid_is_on_each_egress_list(queue: Queue) -> None:
    queue.push("q", "u1")
    one = Consumer(queue)
    assert one.settle(one.one(), "out", "audit").kind == "settled"
    assert (queue.waiting("out"), queue.waiting("audit")) == ([b"u1"], [b"u1"])
    assert queue.places() == {}


def test_egress_happens_once_however_often_it_is_asked_for(queue: Queue) -> None:
    queue.push("q", "u1")
    one = Consumer(queue)
    one.settle(one.one(), "out")
    assert calls.read_answers(one.again())[0].kind == "lost"
    assert queue.waiting("out") == [b"u1"]


def test_an_item_that_is_named_twice_in_one_call_ends_once(queue: Queue) -> None:
    queue.push("q", "u1")
    one = Consumer(queue)
    entry = one.settlement(one.one(), "out")
    assert [a.kind for a in one.settle_all([entry, entry])] == ["settled", "lost"]
    assert queue.waiting("out") == [b"u1"]


def test_equal_payloads_are_two_items(queue: Queue) -> None:
    # An item acknowledged by its payload took the other one with it.
    queue.push("q", "u1", "u1")
    one = Consumer(queue)
    first, second = one.take(2)
    one.settle(first, "out")
    one.again()
    assert [item.token for item in queue.held("c1")] == [second.token]
    one.settle(second, "out")
    assert queue.waiting("out") == [b"u1", b"u1"]


@pytest.mark.parametrize("kind", ["string", "hash", "set", "zset"])
def test_an_egress_list_of_another_type_does_nothing_to_the_item(queue: Queue, kind: str) -> None:
    queue.make_key("bad", kind)
    queue.supply("q", "u1", "u2")
    one = Consumer(queue)
    first, second = one.take(2)
    answers = one.settle_all(
        [
            one.settlement(first, "out", "bad", expiry_s=100, body=document("u1", subject="new")),
            one.settlement(second, "out"),
        ]
    )
    assert [(a.kind, a.key, a.found) for a in answers] == [
        ("type", "bad", kind),
        ("settled", "", ""),
    ]
    assert queue.waiting("out") == [b"u2"]
    assert [item.token for item in queue.held("c1")] == [first.token]
    assert queue.client.get("vcon:u1") == document("u1")
    queue.client.delete("bad")
    assert calls.read_answers(one.again())[0].kind == "settled"
    assert queue.waiting("bad") == [b"u1"]


@pytest.mark.real_redis("it knows no ACL inside scripts")
@pytest.mark.parametrize("right", ["", "%R~secret"])
def test_an_egress_list_that_redis_forbids_does_nothing_to_the_item(
    queue: Queue, right: str
) -> None:
    """Whether it may not be looked at, or be read and not be written."""
    # Raised as an error it would be asked again for ever, and the worker with it.
    keys = ["~conserver:*", "~vcon:*", "~DLQ:*", "~q", "~out", *right.split()]
    queue.client.execute_command("ACL", "SETUSER", "limited", "on", ">word", "+@all", *keys)
    url = queue.client.connection_pool.connection_kwargs
    limited = f"redis://limited:word@{url['host']}:{url['port']}/{url['db']}"
    queue.push("q", "u1", "u2")
    with opened(limited) as restricted:
        one = Consumer(restricted)
        first, second = one.take(2)
        answers = one.settle_all([one.settlement(first, "secret"), one.settlement(second, "out")])
    queue.client.execute_command("ACL", "DELUSER", "limited")
    assert [(a.kind, a.found) for a in answers] == [("type", "forbidden"), ("settled", "")]
    assert queue.waiting("out") == [b"u2"]
    assert [item.token for item in queue.held("c1")] == [first.token]


def test_effects_of_links_are_pushed_with_their_own_uuids(queue: Queue) -> None:
    queue.push("q", "u1")
    one = Consumer(queue)
    item = one.one()
    entry = one.settlement(item)._replace(pushes=[("a", "u1"), ("b", "other"), ("a", "u1")])
    one.settle_all([entry])
    assert (queue.waiting("a"), queue.waiting("b")) == ([b"u1", b"u1"], [b"other"])


def test_many_items_settle_in_one_call(queue: Queue) -> None:
    uuids = [f"u{number}" for number in range(64)]
    queue.supply("q", *uuids)
    one = Consumer(queue)
    items = one.take(64)
    entries = [one.settlement(item, "out", expiry_s=10, etags={"s3": "1"}) for item in items]
    assert {answer.kind for answer in one.settle_all(entries)} == {"settled"}
    assert queue.waiting("out") == [uuid.encode() for uuid in uuids]


def test_an_item_that_is_its_own_egress_list_goes_round(queue: Queue) -> None:
    queue.push("q", "u1")
    one = Consumer(queue)
    one.settle(one.one(), "q")
    assert queue.places() == {("waiting", b"u1"): 1}


# ---- fences ------------------------------------------------------------------------------------

MOVES = ["settle", "release", "park", "dead_letter"]


@pytest.mark.parametrize("move", MOVES)
def test_whoever_lost_an_item_moves_it_nowhere(queue: Queue, move: str) -> None:
    queue.supply("q", "u1")
    one, two = Consumer(queue, "c1"), Consumer(queue, "c2", "h2")
    item = one.one()
    queue.return_items(one)
    theirs = two.one()
    assert theirs.token == item.token
    before = queue.everything()
    answer = getattr(one, move)(item)
    assert answer == [b"lost"] if move != "settle" else answer.kind == "lost"
    assert queue.everything() == before


@pytest.mark.parametrize("move", MOVES)
@pytest.mark.parametrize("late", MOVES)
def test_a_late_move_does_not_hit_the_same_consumers_next_holding(
    queue: Queue, move: str, late: str
) -> None:
    # Every claim raises the epoch: a command of the last holding finds another one.
    queue.supply("q", "u1")
    one = Consumer(queue)
    item = one.one()
    getattr(one, late)(item)
    first = one.last
    assert first is not None
    queue.promote("q")
    if late == "dead_letter":
        queue.replay("q")
    if late == "settle":
        queue.push("q", "u1")
    again = one.one()
    before = queue.everything()
    queue.run(first)
    assert queue.everything() == before
    getattr(one, move)(again)
    assert queue.held("c1") == []


@pytest.mark.parametrize("late", [*MOVES, "write", "begin"])
def test_a_call_that_arrives_in_the_same_consumers_next_holding_is_lost(
    queue: Queue, late: str
) -> None:
    queue.supply("q", "u1")
    one = Consumer(queue)
    item = one.one()
    move = [calls.Move(item.token, item.epoch, b"late")]
    write = calls.Write(item.token, item.epoch, "u1", item.revision, "c", b"late", b"{}")
    call = {
        "settle": calls.settle("c1", [one.settlement(item, "out")]),
        "release": calls.move("release", "c1", move),
        "park": calls.move("park", "c1", move),
        "dead_letter": calls.move("dead", "c1", move, 0),
        "write": calls.write("c1", 1, [write]),
        "begin": calls.begin("c1", item.token, item.epoch),
    }[late]
    one.park(item, after_ms=0)
    queue.promote("q")
    assert one.one().token == item.token
    before = queue.everything()
    queue.run(call)
    assert queue.everything() == before


def test_a_mark_of_the_last_holding_does_not_hit_the_next_one(queue: Queue) -> None:
    queue.suspect("s1")
    one = Consumer(queue)
    item = one.one()
    one.begin(item)
    begin = one.last
    one.release(item)
    one.one()
    assert begin is not None
    assert queue.run(begin) == 0
    queue.return_items(one, Blame("everything"))
    assert queue.suspects()[0].deaths == 0


# ---- release -----------------------------------------------------------------------------------


def test_what_was_not_begun_goes_back_to_the_head_of_its_list(queue: Queue) -> None:
    queue.push("q", "u1", "u2", "u3", "u4")
    one = Consumer(queue)
    items = one.take(3)
    assert one.release(*reversed(items)) == [b"moved"] * 3
    assert queue.waiting() == [b"u1", b"u2", b"u3", b"u4"]
    assert queue.returned() == []


def test_what_has_state_goes_back_to_the_head_of_returned_with_it(queue: Queue) -> None:
    queue.push("q", "u1", "u2")
    queue.client.rpush("conserver:returned:q", record("t9", "later"))
    one = Consumer(queue)
    one.claim(1)
    later, first = one.holds["t9"], one.one()
    one.write(first, state=b"{}")
    one.park(later, after_ms=0, state=b"{}")
    queue.promote("q")
    one.release(first)
    assert [(item.payload, item.state) for item in queue.returned()] == [
        (b"u1", b"{}"),
        (b"later", b"{}"),
    ]
    assert queue.returned()[0].token == first.token


def test_a_released_item_keeps_its_deaths(queue: Queue) -> None:
    queue.client.rpush("conserver:returned:q", record("t1", "u1", deaths=2))
    one = Consumer(queue)
    one.release(one.one())
    assert [item.deaths for item in queue.returned()] == [2]
    assert queue.waiting() == []


def test_a_released_suspect_stays_one_at_the_head_of_suspects(queue: Queue) -> None:
    queue.suspect("s1")
    queue.suspect("s2")
    one = Consumer(queue)
    one.release(one.one())
    assert payloads(queue.suspects()) == [b"s1", b"s2"]


def test_an_item_whose_list_has_become_another_type_is_released_to_returned(queue: Queue) -> None:
    queue.push("q", "u1")
    one = Consumer(queue)
    item = one.one()
    queue.client.set("q", "not a list")
    assert one.release(item) == [b"moved"]
    assert payloads(queue.returned()) == [b"u1"]


def test_equal_payloads_are_released_one_by_one(queue: Queue) -> None:
    queue.push("q", "u1", "u1")
    one = Consumer(queue)
    first, _ = one.take(2)
    one.release(first)
    one.again()
    assert queue.places() == {("waiting", b"u1"): 1, ("held", b"u1"): 1}


# ---- park and promote --------------------------------------------------------------------------


def test_a_parked_item_waits_for_its_time_with_its_state(queue: Queue) -> None:
    queue.push("q", "u1", "u2")
    one = Consumer(queue)
    first, second = one.take(2)
    one.park(first, after_ms=3_600_000, state=b'{"owed":["s3"]}')
    one.park(second, after_ms=0)
    assert payloads(queue.parked()) == [b"u2", b"u1"]
    assert queue.promote("q", everything=False) == 1
    assert payloads(queue.returned()) == [b"u2"]
    assert queue.promote("q") == 1
    assert [item.state for item in queue.returned()] == [b"", b'{"owed":["s3"]}']
    assert queue.parked() == []


def test_equal_payloads_stay_two_items_when_parked(queue: Queue) -> None:
    queue.push("q", "u1", "u1")
    one = Consumer(queue)
    one.park(*one.take(2), after_ms=0)
    assert len(queue.parked()) == 2
    queue.promote("q")
    assert len({item.token for item in queue.returned()}) == 2


def test_a_parked_suspect_is_due_as_a_suspect(queue: Queue) -> None:
    queue.suspect("s1")
    one = Consumer(queue)
    one.park(one.one(), after_ms=0)
    queue.promote("q")
    assert (payloads(queue.suspects()), queue.returned()) == ([b"s1"], [])


def test_promotion_is_bounded_and_takes_the_earliest_first(queue: Queue) -> None:
    queue.push("q", *[f"u{number}" for number in range(10)])
    one = Consumer(queue)
    for delay_ms, item in enumerate(reversed(one.take(10))):
        one.park(item, after_ms=delay_ms * 1000)
    assert queue.promote("q", most=3) == 3
    assert payloads(queue.returned()) == [b"u9", b"u8", b"u7"]


def test_a_parked_pushed_document_travels_with_its_record(queue: Queue) -> None:
    body = document("u1")
    queue.push("q", body)
    one = Consumer(queue)
    one.park(one.one(), after_ms=0)
    queue.promote("q")
    assert one.one().payload == body


# ---- death and replay --------------------------------------------------------------------------


def test_a_dead_letter_is_a_bare_payload_and_a_record_with_its_reason(queue: Queue) -> None:
    queue.push("q", "u1")
    one = Consumer(queue)
    item = one.one()
    one.dead_letter(item, why="the link broke", state=b'{"attempts":6}')
    assert queue.dead() == [b"u1"]
    [(why, buried)] = queue.reasons()
    assert why == {"reason": "the link broke"}
    assert (buried.token, buried.state) == (item.token, b'{"attempts":6}')
    assert queue.places() == {("dead", b"u1"): 1}


@pytest.mark.parametrize("kind", ["string", "hash"])
def test_a_dlq_of_another_type_keeps_the_item_where_it_is(queue: Queue, kind: str) -> None:
    queue.push("q", "u1", "u2")
    one = Consumer(queue)
    items = one.take(2)
    if kind == "string":
        queue.client.set("DLQ:q", "x")
    else:
        queue.client.hset("DLQ:q", "a", "b")
    assert one.dead_letter(*items) == [f"{kind} DLQ:q".encode()] * 2
    assert len(queue.held("c1")) == 2
    queue.client.delete("DLQ:q")
    assert one.again() == [b"moved"] * 2


@pytest.mark.real_redis("its scripts have no redis.sha1hex")
def test_a_large_payload_is_kept_once(queue: Queue) -> None:
    body = document("u1", subject="x" * 100_000)
    queue.push("q", body)
    one = Consumer(queue)
    one.dead_letter(one.one(), state=b"{}")
    [(_, buried)] = queue.reasons()
    digest = hashlib.sha1(body, usedforsecurity=False).hexdigest()
    assert (queue.dead(), buried.payload) == ([body], b"\x02" + digest.encode())
    [member] = queue.client.zrange("conserver:dead:q", 0, -1)
    assert queue.replay_member("q", member, b"{}", payload=body) == "returned"
    assert [(item.payload, item.state) for item in queue.returned()] == [(body, b"{}")]


def test_a_replayed_item_resumes_as_a_suspect_no_more(queue: Queue) -> None:
    queue.suspect("s1", deaths=3)
    one = Consumer(queue)
    one.refuse(one.one())
    assert queue.replay("q", b'{"links":["a"]}') == "returned"
    [item] = queue.returned()
    assert (item.suspect, item.deaths, item.state) == (False, 0, b'{"links":["a"]}')
    assert (queue.dead(), queue.reasons()) == ([], [])
    again = one.one()
    assert (again.token, again.suspect) == ("token-s1", False)


def test_a_replay_may_be_repeated(queue: Queue) -> None:
    queue.push("q", "u1")
    one = Consumer(queue)
    one.dead_letter(one.one())
    [member] = queue.client.zrange("conserver:dead:q", 0, -1)
    assert queue.replay_member("q", member) == "returned"
    assert queue.replay_member("q", member) == "gone"
    assert queue.places() == {("returned", b"u1"): 1}


def test_a_repeated_replay_does_not_take_an_equal_payload(queue: Queue) -> None:
    # The payload first, then the record: executed twice it dropped the other one.
    queue.push("q", "u1", "u1")
    one = Consumer(queue)
    one.dead_letter(*one.take(2))
    member, other = queue.client.zrange("conserver:dead:q", 0, -1)
    assert queue.replay_member("q", member) == "returned"
    assert queue.replay_member("q", member) == "gone"
    assert queue.dead() == [b"u1"]
    assert queue.replay_member("q", other) == "returned"
    assert len({item.token for item in queue.returned()}) == 2


def test_a_record_whose_payload_another_tool_replayed_is_only_swept(queue: Queue) -> None:
    queue.push("q", "u1")
    one = Consumer(queue)
    one.dead_letter(one.one())
    queue.client.lmove("DLQ:q", "q", "LEFT", "RIGHT")
    assert queue.replay("q") == "swept"
    assert queue.places() == {("waiting", b"u1"): 1}
    assert queue.reasons() == []


def test_a_payload_without_a_record_goes_to_its_list_as_it_is(queue: Queue) -> None:
    queue.push("DLQ:q", "u1")
    assert queue.run(operator_calls.replay("q", b"", b"u1")) == b"queued"
    assert queue.run(operator_calls.replay("q", b"", b"u1")) == b"gone"
    assert queue.places() == {("waiting", b"u1"): 1}


@pytest.mark.parametrize("bad", ["DLQ:q", "q"])
def test_a_replay_between_lists_of_another_type_does_nothing(queue: Queue, bad: str) -> None:
    queue.push("DLQ:q" if bad == "q" else "q", "u1")
    queue.client.set(bad, "x")
    before = queue.everything()
    assert queue.run(operator_calls.replay("q", b"", b"u1")) == b"gone"
    assert queue.everything() == before


def test_a_replayed_item_that_its_list_cannot_take_still_comes_back(queue: Queue) -> None:
    queue.push("q", "u1")
    one = Consumer(queue)
    one.dead_letter(one.one())
    queue.client.set("q", "not a list")
    assert queue.replay("q") == "returned"
    assert payloads(queue.returned()) == [b"u1"]


def test_a_reason_holds_its_line_whatever_is_in_it(queue: Queue) -> None:
    queue.push("q", "u1")
    one = Consumer(queue)
    one.dead_letter(one.one(), why='line one\nline "two"\r\x00 ü', state=orjson.dumps({"a": "\n"}))
    [(why, buried)] = queue.reasons()
    assert why["reason"] == 'line one\nline "two"\r\x00 ü'
    assert buried.state == b'{"a":"\\n"}'
    assert queue.replay("q") == "returned"


# ---- the bell ----------------------------------------------------------------------------------


def test_what_the_bell_moves_stays_an_item_in_one_place(queue: Queue) -> None:
    queue.push("q", "u1", "u2")
    moved = queue.client.blmove("q", "conserver:returned:q", 1, "LEFT", "RIGHT")
    assert moved == b"u1"
    assert queue.places() == {("returned", b"u1"): 1, ("waiting", b"u2"): 1}
    one = Consumer(queue)
    first, second = one.take(2)
    assert payloads([first, second]) == [b"u1", b"u2"]
    one.release(second, first)
    assert queue.waiting() == [b"u1", b"u2"]

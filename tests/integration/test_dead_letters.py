"""deadletters.py against a real Redis: letters found, sent to work again, forgotten.

A Consumer of the queue's own tests makes them; other tools are played by plain commands.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from conserver.queue import dead_letters as deadletters
from conserver.queue import elements, host_calls
from conserver.queue.dead_letters import DeadLetter
from conserver.queue.record import Progress
from tests.queues import Consumer, Queue, document, opened, record

DONE = Progress(links=["a"], owed=["pg"], attempts=6, failures=6, runs={"b": 6}, error="odd")


@pytest.fixture
def queue(redis_url: str) -> Iterator[Queue]:
    """An empty Redis."""
    with opened(redis_url) as made:
        yield made


def dead_letter(queue: Queue, *payloads: bytes | str, state: bytes = b"=") -> None:
    """Make dead letters of these, in this order."""
    consumer = Consumer(queue)
    for payload in payloads:
        queue.push("q", payload)
        consumer.dead_letter(consumer.one(), why=f"of {payload!r}"[:40], state=state)


def letters(queue: Queue) -> list[DeadLetter]:
    return list(deadletters.scan(queue.client, "q"))


def only(queue: Queue) -> DeadLetter:
    [found] = letters(queue)
    return found


# ---- finding -------------------------------------------------------------------------------------


def test_lists_with_dead_letters_are_known(queue: Queue) -> None:
    Consumer(queue, "c0", lists=("other", "third"))
    dead_letter(queue, "u1", "u2")
    queue.push("DLQ:third", "bare")
    queue.make_key("DLQ:other", "hash")
    assert deadletters.lists(queue.client) == ["q", "third"]
    assert [deadletters.depth(queue.client, name) for name in ("q", "other", "x")] == [2, 0, 0]


def test_letters_come_with_their_reasons_the_oldest_first_then_bare_ones(queue: Queue) -> None:
    dead_letter(queue, "u1", "u2", "u1")
    for time_ms, (member, _) in enumerate(
        queue.client.zrange("conserver:dead:q", 0, -1, withscores=True)
    ):
        queue.client.zadd("conserver:dead:q", {member: -1 if b"u2" in member else time_ms})
    queue.client.rpush("DLQ:q", "u1", "bare")
    found = letters(queue)
    assert [letter.payload for letter in found] == [b"u2", b"u1", b"u1", b"u1", b"bare"]
    assert [bool(letter.why) for letter in found] == [True, True, True, False, False]
    assert [letter.name for letter in found][-1] == "bare"


def test_the_newest_can_come_first(queue: Queue) -> None:
    dead_letter(queue, "u1", "u2", "u3")
    for member in queue.client.zrange("conserver:dead:q", 0, -1):
        queue.client.zadd("conserver:dead:q", {member: int(member[-1:])})
    queue.client.rpush("DLQ:q", "bare")
    found = deadletters.scan(queue.client, "q", newest=True)
    assert [letter.payload for letter in found] == [b"u3", b"u2", b"u1", b"bare"]


def test_a_letter_has_its_progress(queue: Queue) -> None:
    dead_letter(queue, "u1", state=DONE.dump())
    assert only(queue).progress == DONE
    assert only(queue).why["reason"] == "of 'u1'"


def test_a_large_document_is_kept_once_and_found_all_the_same(queue: Queue) -> None:
    large = document("u1", body="x" * 100_000)
    dead_letter(queue, large, document("u2"))
    first, second = letters(queue)
    assert first.payload == large
    assert len(first.member) < 1000
    assert second.payload == document("u2")


def test_a_letter_that_another_tool_has_taken_is_not_shown_as_one_with_its_payload(
    queue: Queue,
) -> None:
    dead_letter(queue, document("u1", body="x" * 100_000))
    queue.client.delete("DLQ:q")
    assert letters(queue) == []


def test_what_dies_while_letters_are_read_is_not_taken_for_one_without_a_reason(
    queue: Queue,
) -> None:
    queue.push("DLQ:q", "bare", *(f"b{number}" for number in range(2 * elements.MOST)))
    found = deadletters.scan(queue.client, "q")
    assert next(found).payload == b"bare"
    dead_letter(queue, "fresh")
    rest = list(found)
    assert [one for one in rest if one.payload == b"fresh"] == []
    assert len(rest) == 2 * elements.MOST
    assert [one.payload for one in letters(queue) if one.why] == [b"fresh"]


def test_entries_that_somebody_else_has_added_stand_in_nobodys_way(queue: Queue) -> None:
    dead_letter(queue, "u1")
    good = record("t", "u2").decode()
    for odd in ("junk", "{}", '{"reason": "x"}\nno record', "[]\n" + good):
        queue.client.zadd("conserver:dead:q", {odd: 0})
    assert [letter.payload for letter in letters(queue)] == [b"u1"]


def test_many_letters_are_read_in_pages(queue: Queue) -> None:
    pipe = queue.client.pipeline(transaction=False)
    for number in range(elements.MOST + 20):
        text = b'{"reason":"x"}\n' + record(f"t{number}", f"u{number}")
        pipe.zadd("conserver:dead:q", {text: number})
        pipe.rpush("DLQ:q", f"u{number}")
    pipe.rpush("DLQ:q", *(f"bare{number}" for number in range(elements.MOST)))
    pipe.execute()
    found = letters(queue)
    assert len(found) == 2 * elements.MOST + 20
    assert len({letter.payload for letter in found}) == len(found)


# ---- sending to work again -----------------------------------------------------------------------


def test_a_requeued_letter_resumes_with_its_attempts_and_age_new(queue: Queue) -> None:
    queue.client.rpush("conserver:returned:q", record("t1", "u1", flags="s", deaths=3))
    consumer = Consumer(queue)
    consumer.dead_letter(consumer.one(), state=DONE.dump())
    assert deadletters.requeue(queue.client, only(queue)) == "returned"
    [item] = queue.returned()
    assert Progress.load(item.state) == Progress(links=["a"], owed=["pg"])
    assert (item.token, item.deaths, item.suspect) == ("t1", 0, False)
    assert item.first_seen_ms > 1_700_000_000_000, "or it would be given up by age at once"
    assert queue.places() == {("returned", b"u1"): 1}


def test_a_letter_without_a_record_goes_to_its_list_as_it_is(queue: Queue) -> None:
    queue.client.rpush("DLQ:q", "bare")
    assert deadletters.requeue(queue.client, only(queue)) == "queued"
    assert queue.places() == {("waiting", b"bare"): 1}


def test_a_large_document_comes_back_whole(queue: Queue) -> None:
    large = document("u1", body="x" * 100_000)
    dead_letter(queue, large)
    assert deadletters.requeue(queue.client, only(queue)) == "returned"
    assert [item.payload for item in queue.returned()] == [large]


def test_a_letter_is_sent_once_however_often_it_is_asked_for(queue: Queue) -> None:
    dead_letter(queue, "u1", "u1")
    first, second = letters(queue)
    assert deadletters.requeue(queue.client, first) == "returned"
    assert deadletters.requeue(queue.client, first) == "gone"
    assert queue.places() == {("returned", b"u1"): 1, ("dead", b"u1"): 1}
    assert deadletters.requeue(queue.client, second) == "returned"


def test_a_letter_that_another_tool_has_replayed_is_only_swept(queue: Queue) -> None:
    dead_letter(queue, "u1")
    letter = only(queue)
    queue.client.delete("DLQ:q")
    queue.push("q", "u1")
    assert deadletters.requeue(queue.client, letter) == "swept"
    assert queue.places() == {("waiting", b"u1"): 1}
    assert queue.reasons() == []


def test_letters_of_a_key_of_another_type_stay(queue: Queue) -> None:
    dead_letter(queue, "u1")
    letter = only(queue)
    queue.client.delete("DLQ:q")
    queue.make_key("DLQ:q", "hash")
    before = queue.everything()
    assert deadletters.requeue(queue.client, letter) == "gone"
    assert deadletters.purge(queue.client, letter) is False
    assert queue.everything() == before


def test_a_bare_letter_stays_where_its_list_is_of_another_type(queue: Queue) -> None:
    queue.client.rpush("DLQ:q", "bare")
    queue.make_key("q", "hash")
    assert deadletters.requeue(queue.client, only(queue)) == "gone"
    assert queue.dead() == [b"bare"]


# ---- forgetting ----------------------------------------------------------------------------------


def test_a_purged_letter_is_gone_with_its_reason(queue: Queue) -> None:
    dead_letter(queue, "u1", "u2")
    assert deadletters.purge(queue.client, letters(queue)[0]) is True
    assert queue.dead() == [b"u2"]
    assert len(queue.reasons()) == 1
    assert deadletters.purge(queue.client, letters(queue)[0]) is True
    assert queue.places() == {}


def test_purging_twice_takes_no_equal_payload(queue: Queue) -> None:
    dead_letter(queue, "u1", "u1")
    letter = letters(queue)[0]
    assert deadletters.purge(queue.client, letter) is True
    assert deadletters.purge(queue.client, letter) is False
    assert queue.dead() == [b"u1"]


def test_reasons_that_were_swept_leave_a_letter_that_can_be_sent(queue: Queue) -> None:
    dead_letter(queue, "u1")
    queue.run(host_calls.sweep("q", -1, 10))
    assert (only(queue).member, only(queue).why) == (b"", {})
    assert deadletters.requeue(queue.client, only(queue)) == "queued"


def test_a_letter_is_named_by_its_uuid_or_its_beginning(queue: Queue) -> None:
    why: dict[str, Any] = {"uuid": "u1"}
    assert DeadLetter("q", b"{...", why=why).name == "u1"
    assert DeadLetter("q", b"line\nline" + b"x" * 100).name == "line\ufffdline" + "x" * 52 + "..."

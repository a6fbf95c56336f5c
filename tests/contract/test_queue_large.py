"""Whole documents on the lists: no call reads more of them than its bound, whoever looks."""

from __future__ import annotations

from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from conserver.queue import calls, elements, host_calls, script
from tests.queues import Consumer, Queue, document, payloads, record
from tests.workers import SteppedWorker, link, nothing

LARGE_BYTES = 256 * 1024
FITTING = 4
"""How many of these documents one call handles: with their members they are a little larger."""


def large(name: str) -> bytes:
    """A document of 256 KiB and a little."""
    return document(name, subject="x" * LARGE_BYTES)


def push(queue: Queue, count: int) -> list[bytes]:
    documents = [large(f"u{number}") for number in range(count)]
    queue.push("q", *documents)
    return documents


def holding(queue: Queue, count: int) -> Consumer:
    """A consumer that holds so many of them."""
    push(queue, count)
    one = Consumer(queue, limits=calls.ClaimLimits(most_bytes=100_000_000))
    one.take(count)
    return one


def until_nothing(call: Any) -> list[int]:
    """What each call did, the last of them nothing."""
    return list(iter(call, 0))


def commands(queue: Queue, name: str) -> int:
    """How often a command was called since the statistics were reset."""
    return int(queue.client.info("commandstats").get(f"cmdstat_{name}", {"calls": 0})["calls"])


# ---- claims --------------------------------------------------------------------------------------


def repeat(one: Consumer, known: list[str]) -> calls.Claim:
    """The last claim once more, by a worker that tells what it holds."""
    assert one.last is not None
    call = one.last._replace(again=known)
    return calls.read_claim(one.queue.client.execute_command(*call.command(repeated=True)))


@pytest.mark.real_redis("it has no CONFIG RESETSTAT")
def test_a_repetition_does_not_look_at_what_its_worker_knows(queue: Queue) -> None:
    queue.push("q", *[f"u{number}" for number in range(9)])
    one = Consumer(queue, lists=("other", "q"))
    before = [item.token for item in one.take(6)]
    first = one.claim()
    queue.client.config_resetstat()
    assert repeat(one, before) == first
    assert (commands(queue, "hget"), commands(queue, "hgetall")) == (3 + 1, 0)
    assert repeat(one, []) == first
    assert calls.read_claim(one.again()) == first


def test_a_claim_that_comes_for_the_first_time_does_not_mind_what_is_known(queue: Queue) -> None:
    queue.push("q", "u1", "u2")
    one = Consumer(queue)
    known = [one.one().token]
    one.last = calls.claim("h1", "c1", 2, False, [calls.Demand("q", 1)], one.limits)
    assert payloads(repeat(one, known).items) == [b"u2"]


def test_a_worker_tells_what_it_holds_when_it_says_a_claim_again(
    queue: Queue, redis_url: str
) -> None:
    queue.client.script_load(script.load("claim").text)
    said: list[tuple[Any, ...]] = []

    def cut(_bench: SteppedWorker, words: tuple[Any, ...]) -> None:
        if words[1] == script.load("claim").sha:
            said.append(words)
            if len(said) == 2:
                raise RedisConnectionError

    with SteppedWorker(redis_url, links=[link("a", nothing)], before_command=cut) as worker:
        worker.supply(1)
        first = worker.claim_one()
        worker.supply(1)
        worker.claim_one()
        assert said[2] == (*said[1], first.token)


def test_what_is_too_large_to_run_is_bounded_by_bytes_too(queue: Queue) -> None:
    documents = push(queue, 6)
    one = Consumer(queue, limits=calls.ClaimLimits(payload_bytes=1000))
    answers = [one.claim(100) for _ in range(3)]
    assert [(len(answer.items), answer.more) for answer in answers] == [(4, 2), (2, 0), (0, 0)]
    assert {item.refused[0] for item in one.holds.values() if item.refused} == {"cut"}
    assert queue.places() == {("held", body): 1 for body in documents}


@pytest.mark.real_redis("it has no CONFIG RESETSTAT")
def test_large_ones_behind_many_small_ones_are_not_popped_by_the_dozen(queue: Queue) -> None:
    small = [f"u{number}".encode() for number in range(20)]
    queue.push("q", *small)
    documents = push(queue, 20)
    one = Consumer(queue)
    queue.client.config_resetstat()
    assert payloads(one.claim(100).items) == [*small, *documents[:FITTING]]
    assert queue.waiting() == documents[FITTING:]
    assert commands(queue, "lpush") <= FITTING


# ---- what goes back ------------------------------------------------------------------------------


def test_strays_are_bounded_by_bytes(queue: Queue) -> None:
    one = holding(queue, 10)
    one.holds.clear()
    assert until_nothing(one.stray) == [4, 4, 2]
    assert len(queue.returned()) == 10


def test_strays_that_cannot_go_back_do_not_hide_the_others_for_ever(queue: Queue) -> None:
    queue.push("bad", *[f"u{number}" for number in range(50)])
    queue.push("q", "good")
    one = Consumer(queue, lists=("bad", "q"))
    assert len(one.claim(50).items) == 51
    queue.make_key("conserver:returned:bad", "string")
    call = calls.stray(one.id, one.number, [])
    one_entry = call._replace(args=[one.number, 1])
    assert any(queue.run(one_entry) for _ in range(5000))
    assert payloads(queue.returned()) == [b"good"]


def test_promotion_is_bounded_by_bytes_and_keeps_the_order(queue: Queue) -> None:
    one = holding(queue, 10)
    held = list(one.holds.values())
    one.park(*held)
    assert until_nothing(lambda: queue.promote("q")) == [4, 4, 2]
    assert sorted(payloads(queue.returned())) == sorted(payloads(held))
    assert {item.payload for item in one.take(10)} == {item.payload for item in held}


def test_what_is_due_and_cannot_go_does_not_hide_the_others(queue: Queue) -> None:
    parked = {record(f"s{number}", f"s{number}", flags="s"): number for number in range(3)}
    parked |= {record("t", "ordinary"): 10}
    queue.client.zadd("conserver:parked:q", parked)
    queue.make_key("conserver:suspects:q", "string")
    assert queue.promote("q") == 1
    assert payloads(queue.returned()) == [b"ordinary"]
    assert len(queue.parked()) == 3


def test_what_the_bell_moved_is_bounded_by_bytes(queue: Queue) -> None:
    documents = push(queue, 10)
    for _ in range(10):
        queue.client.lmove("q", "conserver:returned:q", "LEFT", "RIGHT")
    assert until_nothing(lambda: queue.run(host_calls.put_back("q", 100))) == [4, 4, 2]
    assert queue.waiting() == documents


def test_records_that_are_passed_over_count_too(queue: Queue) -> None:
    queue.client.rpush("conserver:returned:q", "u1")
    for number in range(FITTING):
        queue.client.rpush("conserver:returned:q", record(f"t{number}", large("u2")))
    queue.client.rpush("conserver:returned:q", "u3")
    assert until_nothing(lambda: queue.run(host_calls.put_back("q", 100))) == [1]
    assert queue.waiting() == [b"u3"]


# ---- looking -------------------------------------------------------------------------------------


class Looking:
    """A client that keeps how many elements each command has answered."""

    def __init__(self, queue: Queue) -> None:
        self._client = queue.client
        self.lengths: list[int] = []

    def __getattr__(self, name: str) -> Any:
        def command(*words: Any, **options: Any) -> Any:
            answer = getattr(self._client, name)(*words, **options)
            if name in ("lrange", "zrange", "hmget"):
                self.lengths.append(len(answer))
            return answer

        return command


@pytest.fixture
def looking(queue: Queue) -> Any:
    """It, as a client."""
    return Looking(queue)


def test_pages_grow_while_they_are_light(queue: Queue, looking: Any) -> None:
    texts = [b"%d" % number for number in range(200)]
    queue.push("a list", *texts)
    assert list(elements.in_list(looking, "a list")) == texts
    assert looking.lengths == [4, 8, 16, 32, 64, 64, 12, 0]


def test_pages_are_bounded_by_bytes(queue: Queue, looking: Any) -> None:
    large_ones = [b"%d" % number + b"x" * LARGE_BYTES for number in range(40)]
    queue.push("a list", *large_ones)
    assert list(elements.in_list(looking, "a list")) == large_ones
    assert max(looking.lengths) * LARGE_BYTES <= elements.PAGE_BYTES
    queue.client.delete("a list")
    looking.lengths.clear()
    queue.push("a list", b"x" * 2 * elements.PAGE_BYTES, "a", "b")
    queue.push("a list", *[b"x" * 2 * elements.PAGE_BYTES] * 2)
    assert len(list(elements.in_list(looking, "a list"))) == 5
    assert looking.lengths == [4, 1, 0], "one that is larger than a page comes alone"


def test_sorted_sets_and_hashes_are_read_in_pages_as_well(queue: Queue, looking: Any) -> None:
    names = [f"{number:02}".encode() for number in range(30)]
    queue.client.zadd("a set", dict.fromkeys(names, 1))
    queue.client.hset("a hash", mapping={name: name * 2 for name in names})
    assert list(elements.in_sorted_set(looking, "a set")) == names
    pairs = dict(elements.in_hash(looking, "a hash"))
    assert pairs == {name: name * 2 for name in names}
    assert looking.lengths == [4, 8, 16, 2, 0, 4, 8, 16, 2]


def test_a_field_that_goes_meanwhile_is_unavailable(queue: Queue) -> None:
    queue.client.hset("a hash", mapping={str(number): number for number in range(10)})
    pairs = elements.in_hash(queue.client, "a hash")
    first = next(pairs)
    queue.client.delete("a hash")
    assert len([first, *pairs]) == elements.FIRST


def test_a_list_that_is_none_has_nothing_and_a_key_of_ours_is_told_of(queue: Queue) -> None:
    queue.make_key("a key", "string")
    assert list(elements.in_list(queue.client, "a key")) == []
    for read in (elements.in_sorted_set, elements.in_hash):
        with pytest.raises(ResponseError, match="WRONGTYPE"):
            list(read(queue.client, "a key"))

"""A Redis at maxmemory refuses what grows. A queue that cannot drain then is a deadlock."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from redis.exceptions import OutOfMemoryError
from servers import Redis

from conserver.process.messages import Blame
from conserver.queue import host_calls
from conserver.queue.record import Source
from tests.conftest import Private
from tests.queue_examples import EXAMPLES
from tests.queues import Consumer, Queue, document, opened

# What adds to the queue: whoever submits is told, and comes again.
SUBMISSIONS = [name for name in EXAMPLES if name.startswith("submit")]


@pytest.fixture
def small(private: Private) -> Iterator[Queue]:
    """A Redis of the test's own, not full yet."""
    with opened(private(Redis({"maxmemory-policy": "noeviction"})).url) as found:
        yield found


def fill(queue: Queue) -> None:
    """From now on Redis is full: no producer can push."""
    queue.client.config_set("maxmemory", 1)
    with pytest.raises(OutOfMemoryError):
        queue.client.rpush("q", "more")


def unfill(queue: Queue) -> None:
    queue.client.config_set("maxmemory", 0)


def test_every_script_passes_when_redis_is_full(small: Queue) -> None:
    for name, example in EXAMPLES.items():
        if name in SUBMISSIONS:
            continue
        unfill(small)
        small.client.flushall()
        call = example(small)
        small.run(call)
        expected = shape(small)
        small.client.flushall()
        call = example(small)
        fill(small)
        small.run(call)
        assert shape(small) == expected, name


@pytest.mark.parametrize("name", SUBMISSIONS)
def test_a_full_redis_takes_no_submission_and_nothing_of_one(small: Queue, name: str) -> None:
    call = EXAMPLES[name](small)
    before = small.everything()
    fill(small)
    with pytest.raises(OutOfMemoryError):
        small.run(call)
    assert small.everything() == before


def shape(queue: Queue) -> dict[bytes, int]:
    """Which keys there are and how much each holds: the same effect, at another time."""
    return {
        key: len(value) if not isinstance(value, bytes) else 1
        for key, value in queue.everything().items()
    }


def test_a_full_redis_drains(small: Queue) -> None:
    uuids = [f"u{number}" for number in range(100)]
    small.supply("q", *uuids)
    small.push("q", *[document(f"inline-{number}") for number in range(20)])
    for number in range(5):
        small.suspect(f"s{number}")
    fill(small)
    one = Consumer(small)
    while claim := one.claim(16).items:
        for item in claim:
            if item.suspect:
                assert one.begin(item) == 1
            inline = item.source is Source.INLINE
            uuid = f"n{item.token}" if inline else item.payload.decode()
            answer = one.write(item, item.payload, uuid=uuid, state=b"{}")
            assert answer.kind == "written"
            assert one.settle(item, "out", expiry_s=10).kind == "settled"
    assert len(small.waiting("out")) == 125
    assert small.places() == {}


def test_a_death_in_a_full_redis_loses_nothing(small: Queue) -> None:
    small.supply("q", *[f"u{number}" for number in range(50)])
    one, two = Consumer(small, "c1"), Consumer(small, "c2", "h2")
    one.take(50)
    fill(small)
    small.run(host_calls.beat("h2", "b2", {}))
    small.reap("h1")
    while small.return_items(one, Blame("everything")).returned:
        pass
    assert len(small.suspects()) == 50
    item = two.one()
    two.begin(item)
    two.dead_letter(item)
    assert small.replay("q") == "returned"
    two.claim()
    small.run(host_calls.register("h2", "c3", ["q"]))
    assert sum(small.places().values()) == 50


def test_what_the_bell_would_move_waits_on_its_list(small: Queue) -> None:
    # BLMOVE itself is refused: the bell is a hint, the claim does without.
    small.push("q", "u1")
    fill(small)
    with pytest.raises(OutOfMemoryError):
        small.client.blmove("q", "conserver:returned:q", 1, "LEFT", "RIGHT")
    assert Consumer(small).one().payload == b"u1"

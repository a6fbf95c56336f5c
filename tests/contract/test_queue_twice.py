"""Every script, executed twice, late, or by a Redis that has forgotten it.

A connection that breaks does not say whether the command was carried out: it is sent again. A dead
worker's command may arrive when its items have long been given to somebody else.
"""

from __future__ import annotations

from importlib import resources
from typing import Any

import pytest

from conserver.process.messages import Blame
from conserver.queue import script
from tests.queue_examples import BY_CONSUMERS, COUNTERS, EXAMPLES
from tests.queues import Consumer, Queue

PARTS = {"prelude", "documents"}
LISTS = ("q", "other", "out", "audit")


def without_hosts(queue: Queue) -> dict[bytes, Any]:
    """Everything but the registrations, which a second return or reap may take away."""
    return {
        key: value
        for key, value in queue.everything().items()
        if not key.startswith((b"conserver:host", b"conserver:gone:"))
    }


def test_every_script_has_an_example(queue: Queue) -> None:
    scripts = {path.name for path in resources.files("conserver.queue").iterdir()}
    names = {name.removesuffix(".lua") for name in scripts if name.endswith(".lua")} - PARTS
    called = set()
    for example in EXAMPLES.values():
        queue.client.flushall()
        called.add(example(queue).name)
    assert called | COUNTERS == names


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_script_executed_twice_does_no_more_than_once(queue: Queue, name: str) -> None:
    call = EXAMPLES[name](queue)
    queue.run(call)
    once = without_hosts(queue)
    queue.run(call)
    assert without_hosts(queue) == once


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_script_executed_three_times_forgets_nobody_who_holds_something(
    queue: Queue, name: str
) -> None:
    call = EXAMPLES[name](queue)
    for _ in range(3):
        queue.run(call)
    holders = list(queue.client.scan_iter("conserver:inflight:*"))
    for key in holders:
        consumer = key.decode().rpartition(":")[2]
        assert queue.client.hexists("conserver:host:h1", f"consumer:{consumer}")


@pytest.mark.parametrize("name", BY_CONSUMERS)
@pytest.mark.parametrize("forgotten", [False, True], ids=["void", "forgotten"])
def test_what_the_dead_say_late_changes_nothing(queue: Queue, name: str, forgotten: bool) -> None:
    call = EXAMPLES[name](queue)
    dead = Consumer(queue)
    queue.reap("h1")
    queue.return_items(dead, Blame("everything"))
    if forgotten:
        queue.return_items(dead, Blame("everything"))
        queue.reap("h1")
    before = queue.everything()
    queue.run(call)
    assert queue.everything() == before


@pytest.mark.parametrize("name", BY_CONSUMERS)
def test_what_the_dead_say_late_does_not_touch_the_next_holder(queue: Queue, name: str) -> None:
    call = EXAMPLES[name](queue)
    dead = Consumer(queue)
    queue.return_items(dead)
    queue.return_items(dead)
    living = Consumer(queue, "c2")
    living.claim(100)
    before = queue.everything()
    queue.run(call)
    assert queue.everything() == before


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_forgotten_script_is_sent_whole(queue: Queue, name: str) -> None:
    call = EXAMPLES[name](queue)
    queue.client.script_flush()
    queue.run(call)
    known = queue.client.script_exists(script.load(call.name).sha)
    assert known == [True]


@pytest.mark.real_redis("it has no CONFIG RESETSTAT")
@pytest.mark.parametrize("name", EXAMPLES)
def test_a_script_needs_no_more_than_its_arguments_say(queue: Queue, name: str) -> None:
    # Bounded per call: a thousand other items change nothing for it.
    call = EXAMPLES[name](queue)
    for index in range(100):
        queue.client.rpush(f"unrelated-{index}", *range(10))
    queue.client.config_resetstat()
    queue.run(call)
    stats = queue.client.info("commandstats")
    assert sum(entry["calls"] for entry in stats.values()) < 120

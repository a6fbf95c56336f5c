"""The two scripts of schedules: each time goes to one host, and a run to one host at a time."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from conserver.queue import schedules
from conserver.queue.schedules import State
from tests.queues import Queue

MINUTE_MS = 60_000
HOUR_MS = 3_600_000
NOON_MS = 1_790_000_000_000
DAILY = "0 12 * * * UTC"


def fire(
    queue: Queue, time_ms: int, now_ms: int, *, host: str = "one", push: bool = True, **rest: Any
) -> list[str]:
    """Fire the schedule `nightly`, with a list of two payloads if it is a push."""
    action: dict[str, Any] = {"list_name": "out", "payloads": ["a", "b"]} if push else {}
    call = schedules.fire(
        "nightly",
        rest.pop("definition", DAILY),
        time_ms,
        now_ms,
        catch_up_ms=rest.pop("catch_up_ms", HOUR_MS),
        host=host,
        lease_ms=0 if push else 30_000,
        **{**action, **rest},
    )
    return [part.decode() for part in queue.run(call)]


def tend(queue: Queue, run: str, now_ms: int, **rest: Any) -> list[str]:
    """Tend a run of it."""
    call = schedules.tend("nightly", run, now_ms, lease_ms=rest.pop("lease_ms", 30_000), **rest)
    return [part.decode() for part in queue.run(call)]


def state(queue: Queue) -> State:
    """What Redis knows of it."""
    return schedules.load(queue.client.hgetall("conserver:schedule:nightly"), DAILY)


@pytest.fixture
def known(queue: Queue) -> Queue:
    """A queue that has seen the schedule an hour before noon."""
    assert fire(queue, NOON_MS - 24 * HOUR_MS, NOON_MS - HOUR_MS) == ["known"]
    return queue


def test_a_new_schedule_makes_up_for_nothing(queue: Queue) -> None:
    assert fire(queue, NOON_MS - MINUTE_MS, NOON_MS) == ["known"]
    assert fire(queue, NOON_MS - MINUTE_MS, NOON_MS + 1) == ["none"]
    assert queue.waiting("out") == []


def test_of_two_hosts_one_fires(known: Queue) -> None:
    before = str(NOON_MS - HOUR_MS)
    assert fire(known, NOON_MS, NOON_MS + 5) == ["pushed", str(NOON_MS), before]
    assert fire(known, NOON_MS, NOON_MS + 6, host="two") == ["none"]
    assert known.waiting("out") == [b"a", b"b"]
    assert state(known).last_result == {"done": 2}
    assert state(known).last_time == NOON_MS / 1000


@pytest.mark.parametrize(("late_ms", "said"), [(HOUR_MS, "pushed"), (HOUR_MS + 1, "missed")])
def test_a_missed_time_is_made_up_for_once_if_it_is_not_too_long_ago(
    known: Queue, late_ms: int, said: str
) -> None:
    assert fire(known, NOON_MS, NOON_MS + late_ms)[0] == said
    assert fire(known, NOON_MS, NOON_MS + late_ms + 1) == ["none"]
    assert len(known.waiting("out")) == (2 if said == "pushed" else 0)


def test_a_changed_schedule_makes_up_for_nothing(known: Queue) -> None:
    """Its latest time by the new expression is one that it never had."""
    changed = "0 11 * * * UTC"
    assert fire(known, NOON_MS - HOUR_MS, NOON_MS - 5, definition=changed) == ["known"]
    assert fire(known, NOON_MS - HOUR_MS, NOON_MS - 4, definition=changed) == ["none"]
    assert fire(known, NOON_MS + HOUR_MS, NOON_MS + HOUR_MS, definition=changed)[0] == "pushed"


def test_what_older_definitions_have_fired_is_forgotten(known: Queue) -> None:
    day_ms = 24 * HOUR_MS
    for day in range(10):
        at_ms = NOON_MS + day * day_ms
        assert fire(known, at_ms - 1, at_ms - 1, definition=f"{day}")[0] == "known"
        assert fire(known, at_ms, at_ms, definition=f"{day}")[0] == "pushed"
    fields = [f for f in known.client.hkeys("conserver:schedule:nightly") if f[:6] == b"fired:"]
    assert len(fields) <= 3


def test_a_paused_schedule_lets_its_times_pass(known: Queue) -> None:
    known.client.hset("conserver:schedule:nightly", "paused", 1)
    assert fire(known, NOON_MS, NOON_MS)[0] == "paused"
    known.client.hdel("conserver:schedule:nightly", "paused")
    assert fire(known, NOON_MS, NOON_MS + 1) == ["none"]
    assert known.waiting("out") == []
    assert state(known).passed == "paused"


def test_it_fires_when_somebody_asks_even_if_it_is_paused(known: Queue) -> None:
    known.client.hset("conserver:schedule:nightly", mapping={"paused": 1, "wanted": NOON_MS - 9})
    assert fire(known, NOON_MS - 24 * HOUR_MS, NOON_MS - 5)[0] == "pushed"
    assert fire(known, NOON_MS - 24 * HOUR_MS, NOON_MS - 4) == ["none"]
    assert known.waiting("out") == [b"a", b"b"]


def test_a_list_of_another_type_takes_nothing_and_is_named(known: Queue) -> None:
    known.make_key("out", "hash")
    assert fire(known, NOON_MS, NOON_MS) == ["type", "out", "hash"]
    assert fire(known, NOON_MS, NOON_MS + 1) == ["none"], "not again and again"
    result = state(known).last_result
    assert result is not None
    assert "out is a hash" in result["error"]


@pytest.mark.real_redis("an error inside its scripts has no text")
def test_a_schedule_of_another_type_is_named(queue: Queue) -> None:
    queue.make_key("conserver:schedule:nightly", "list")
    key = "conserver:schedule:nightly"
    assert fire(queue, NOON_MS, NOON_MS) == ["type", key, "list"]
    assert tend(queue, "1.1", NOON_MS) == ["type", key, "list"]


# ---- runs ----------------------------------------------------------------------------------------


def begun(known: Queue) -> str:
    """A run that host one has begun at noon."""
    answer = fire(known, NOON_MS, NOON_MS, push=False)
    assert answer[0] == "run"
    assert answer[2] == ""
    return answer[1]


def test_a_run_belongs_to_its_host_while_that_tends_it(known: Queue) -> None:
    run = begun(known)
    assert state(known).run == run
    for minute in range(1, 5):
        now_ms = NOON_MS + minute * 20_000
        assert fire(known, NOON_MS, now_ms, host="two", push=False) == ["none"]
        assert tend(known, run, now_ms, cursor=str(minute)) == ["kept"]


def test_a_run_whose_host_died_is_taken_over_where_it_was(known: Queue) -> None:
    run = begun(known)
    pushed = tend(known, run, NOON_MS + 1, cursor="7", list_name="out", payloads=["x"])
    assert pushed == ["kept"]
    assert fire(known, NOON_MS, NOON_MS + 30_001, host="two", push=False) == ["none"]
    answer = fire(known, NOON_MS, NOON_MS + 30_002, host="two", push=False)
    assert (answer[0], answer[2:]) == ("run", ["7", str(NOON_MS), ""])
    assert tend(known, run, NOON_MS + 30_003, list_name="out", payloads=["y"]) == ["lost"]
    assert known.waiting("out") == [b"x"], "the first host was slow and not dead"
    assert tend(known, answer[1], NOON_MS + 30_004, result={"done": 1}) == ["ended"]
    assert (state(known).run, state(known).last_result) == ("", {"done": 1})


def test_a_run_that_is_given_up_is_taken_over_at_once(known: Queue) -> None:
    run = begun(known)
    assert tend(known, run, NOON_MS + 1, lease_ms=0, cursor="7") == ["kept"]
    assert fire(known, NOON_MS, NOON_MS + 2, host="two", push=False)[:1] == ["run"]


def test_a_time_that_comes_during_a_run_is_passed_over(known: Queue) -> None:
    run = begun(known)
    later = NOON_MS + 10_000
    assert fire(known, later, later, push=False)[0] == "busy"
    assert tend(known, run, later, result={"done": 0}) == ["ended"]
    assert fire(known, later, later + 1, push=False) == ["none"]


def test_a_list_of_another_type_keeps_the_cursor(known: Queue) -> None:
    run = begun(known)
    known.make_key("out", "hash")
    answer = tend(known, run, NOON_MS, cursor="9", list_name="out", payloads=["x"])
    assert answer == ["type", "out", "hash"]
    assert known.client.hget("conserver:schedule:nightly", "cursor") is None


def test_a_run_of_an_action_that_became_a_push_is_dropped(known: Queue) -> None:
    begun(known)
    assert fire(known, NOON_MS, NOON_MS + 60_000) == ["none"]
    assert state(known).run == ""


def test_results_are_read_back(known: Queue) -> None:
    run = begun(known)
    tend(known, run, NOON_MS + 5, result={"error": "no “such” thing", "done": 3})
    assert state(known).last_result == {"error": "no “such” thing", "done": 3}
    assert state(known).last_at == (NOON_MS + 5) / 1000
    assert orjson.dumps(state(known).last_result)

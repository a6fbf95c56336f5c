"""Schedules under hosts that die at every step: no time fires twice, no page is pushed twice.

The clock is the test's own. A host that dies loses what it has in memory; a call of it may have
been executed although its answer never came.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conserver.config.schedules import ScheduleConfig
from conserver.queue import schedules
from tests.queues import Queue, opened

CATCH_UP_S = 900
LEASE_MS = 30_000
BEGIN_MS = 1_790_000_000_000
PAGES = 6
PUSH = ScheduleConfig.model_validate(
    {
        "cron": "*/10 * * * *",
        "catch_up_s": CATCH_UP_S,
        "push": {"list": "out", "payloads": ["tick"]},
    }
)

# Seconds that pass, and what becomes of the call of the host that looks then.
Fate = st.sampled_from(["answered", "answer lost", "never sent"])
Steps = st.lists(st.tuples(st.integers(0, 2000), Fate), min_size=1, max_size=40)


@pytest.fixture(scope="module")
def queue(redis_session_url: str) -> Iterator[Queue]:
    """A queue on real Redis; each example empties it."""
    with opened(redis_session_url) as found:
        yield found


@given(steps=Steps)
@settings(deadline=None, max_examples=60)
def test_every_time_fires_once_or_is_too_long_ago(
    queue: Queue, steps: list[tuple[int, str]]
) -> None:
    queue.client.flushdb()
    now_ms, looked_ms = BEGIN_MS, [BEGIN_MS]
    look(queue, now_ms)
    for passed_s, fate in steps:
        now_ms += passed_s * 1000
        if fate != "never sent":
            look(queue, now_ms)
            looked_ms.append(now_ms)
    due = 0
    for before_ms, at_ms in pairwise(looked_ms):
        latest_ms = PUSH.latest_ms(at_ms)
        due += before_ms < latest_ms and at_ms - latest_ms <= CATCH_UP_S * 1000
    assert len(queue.waiting("out")) == due


def look(queue: Queue, now_ms: int) -> None:
    """What a coordinator does; which host it is makes no difference."""
    queue.run(
        schedules.fire(
            "one",
            PUSH.definition,
            PUSH.latest_ms(now_ms),
            now_ms,
            catch_up_ms=CATCH_UP_S * 1000,
            host="any",
            list_name="out",
            payloads=["tick"],
        )
    )


Deaths = st.lists(
    st.tuples(st.integers(0, 40), st.sampled_from(["answered", "answer lost", "dies", "sleeps"])),
    min_size=1,
    max_size=60,
)


@given(steps=Deaths)
@settings(deadline=None, max_examples=60)
def test_the_pages_of_a_run_are_pushed_once_whoever_dies(
    queue: Queue, steps: list[tuple[int, str]]
) -> None:
    """Two hosts, of which each may be asleep with an old run while the other has taken it over."""
    queue.client.flushdb()
    now_ms = BEGIN_MS
    claim(queue, now_ms, BEGIN_MS - 1)
    holds: list[tuple[str, int] | None] = [None, None]
    time_ms, ended = now_ms + 1, False
    for number, (passed_s, fate) in enumerate([*steps, *[(31, "answered")] * (PAGES + 3)]):
        now_ms += passed_s * 1000 + 1
        host = number % 2
        if fate == "dies":
            holds[host] = None
        if fate == "sleeps" or ended:
            continue
        held = holds[host]
        if held is None:
            answer = claim(queue, now_ms, time_ms)
            if answer[0] == "run" and fate == "answered":
                holds[host] = (answer[1], int(answer[2] or 0))
            continue
        run, page = held
        last = page == PAGES
        call = schedules.tend(
            "one",
            run,
            now_ms,
            lease_ms=LEASE_MS,
            cursor=str(page + 1),
            result={"done": page} if last else None,
            list_name="out",
            payloads=[] if last else [str(page)],
        )
        said = queue.run(call)[0].decode()
        holds[host] = (run, page + 1) if said == "kept" and fate == "answered" else None
        ended = said == "ended"
    pushed = [int(page) for page in queue.waiting("out")]
    assert pushed == list(range(len(pushed))), "in order, each once"
    assert not ended or len(pushed) == PAGES


def claim(queue: Queue, now_ms: int, time_ms: int) -> list[str]:
    """Look for a run to begin or to take over."""
    call = schedules.fire(
        "one", "c", time_ms, now_ms, catch_up_ms=1e9, host="any", lease_ms=LEASE_MS
    )
    return [part.decode() for part in queue.run(call)]

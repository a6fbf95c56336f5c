"""What is said to be wrong, and what is not."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import pytest

from conserver.operations.attention import Finding, attention, for_how_long
from conserver.operations.hosts import Breaker, Host
from conserver.operations.lists import Waits
from conserver.operations.overview import ListState, Overview

NOW_S = time.time()
WRONG_TYPE = "has a key of another type, so it is not served; `conserver doctor` names the key"
FINE = ListState("calls", 0, 0, 0, 0, 0, 0.0, False, None, True, None)


def a_host(**fields: Any) -> Host:
    known: dict[str, Any] = {
        "id": "h", "name": "box", "version": "1", "pid": 1, "state": "running",
        "started_at": NOW_S, "beat_at_s": NOW_S, "beat_age_s": 1.0, "lease_s": 30.0,
        "lists": ["calls"], "storages": ["pg"], "workers": [{"slot": 1, "state": "idle"}],
    }  # fmt: skip
    return Host(**{**known, **fields})


def overview(*lists: ListState, hosts: list[Host] | None = None, away: Any = ()) -> Overview:
    found = [a_host()] if hosts is None else hosts
    return Overview(NOW_S, list(lists), found, list(away), 0, 0, None, None)


def texts(found: list[Finding]) -> list[str]:
    return [f"{one.severity}: {one.subject} {one.text}" for one in found]


def test_nothing_is_wrong() -> None:
    assert attention(overview(replace(FINE, queued=5, oldest_age_s=3.0)), 100) == []


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ({"queued": 4310, "served": False},
         "critical: List calls is served by no host: 4,310 items wait"),
        ({"queued": 1, "served": False}, "critical: List calls is served by no host: 1 item waits"),
        ({"queued": 2, "paused": True, "paused_since": NOW_S - 7260},
         "warning: List calls has been paused for 2 h: 2 items wait"),
        ({"queued": 7, "oldest_age_s": 1300.0},
         "warning: List calls has an item that has waited for 22 min, of 7"),
        ({"suspects": 1},
         "warning: List calls has 1 item that may have killed a worker; each runs alone"),
        ({"dead": 2}, "warning: List calls has 2 dead letters"),
        ({"parked": 100},
         "critical: List calls has 100 items parked, and takes no new ones until some are done"),
        ({"returned": None}, f"critical: List calls {WRONG_TYPE}"),
    ],
)  # fmt: skip
def test_lists(state: dict[str, Any], said: str) -> None:
    assert texts(attention(overview(replace(FINE, **state)), 100)) == [said]


@pytest.mark.parametrize("state", [{"paused": True}, {"served": False}, {"oldest_age_s": 9e9}])
def test_a_list_where_nothing_waits_worries_nobody(state: dict[str, Any]) -> None:
    assert attention(overview(replace(FINE, **state)), 100) == []


def test_a_storage_that_is_away_says_how_much_waits_for_it() -> None:
    waits = Waits(200, {"pg": 100, "s3": 100}, 0, 1.0)
    many = replace(FINE, parked=8000, waits=waits)
    few = replace(FINE, name="other", parked=10, waits=Waits(10, {"pg": 10}, 0, 1.0))
    away = [Breaker("pg", 2, 2, NOW_S - 720)]
    [said] = texts(attention(overview(many, few, away=away)))
    assert said == ("critical: Storage pg has been away for 12 min: about 4,010 items wait for it")
    [said] = texts(attention(overview(few, away=away)))
    assert said == "critical: Storage pg has been away for 12 min: 10 items wait for it"
    [said] = texts(attention(overview(FINE, away=[Breaker("pg", 1, 2)])))
    assert said == "critical: Storage pg has been away to 1 of 2 workers"
    assert attention(overview(FINE, away=[Breaker("pg", 0, 2)])) == []
    [said] = texts(attention(overview(FINE, away=[Breaker("pg", 2, 2, NOW_S - 720, "refused")])))
    assert said == "critical: Storage pg has been away for 12 min (refused)"


def test_hosts() -> None:
    waiting = replace(FINE, queued=3)
    assert texts(attention(overview(waiting, hosts=[]))) == [
        "critical: No host works: none is running; 3 items wait"
    ]
    assert texts(attention(overview(FINE, hosts=[]))) == [
        "warning: No host works: none is running; nothing waits"
    ]
    silent = a_host(beat_age_s=50.0, beat_at_s=NOW_S - 50)
    found = texts(attention(overview(FINE, hosts=[silent, a_host(id="i")])))
    assert found == [
        "critical: Host box has not been heard of for 50 s; another host returns its items"
    ]


def test_a_worker_that_keeps_ending() -> None:
    worker = {"slot": 2, "state": "waiting", "restarts": 7, "ended": "was killed by signal 9"}
    found = texts(attention(overview(FINE, hosts=[a_host(workers=[worker, {"state": "idle"}])])))
    assert found == [
        "critical: Worker 2 of box keeps ending, 7 times by now: it was killed by signal 9"
    ]


def test_the_worst_comes_first() -> None:
    found = attention(overview(replace(FINE, dead=1), replace(FINE, queued=1, served=False)))
    assert [one.severity for one in found] == ["critical", "warning"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-3, "0 s"), (59, "59 s"), (119, "119 s"), (120, "2 min"), (7200, "2 h"), (172_800, "2 days")],
)
def test_durations_in_words(seconds: float, text: str) -> None:
    assert for_how_long(seconds) == text

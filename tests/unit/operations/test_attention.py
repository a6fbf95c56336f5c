"""What is said to be wrong, and what is not."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import pytest

from conserver.operations import doctor
from conserver.operations.attention import LONG_RUN_S, Finding, attention
from conserver.operations.hosts import Breaker, Host
from conserver.operations.overview import ListState, Overview
from conserver.operations.parked import Waits
from conserver.operations.words import for_how_long, items, items_wait, one_line
from conserver.queue import keys

NOW_S = time.time()
WRONG_TYPE = "has a key of another type, so it is not served; `conserver doctor` names the key"
KILLED = "may have killed a worker; each runs alone"
ALONE = "and one has waited for 22 min for a worker that holds nothing else"
FAILS = "has items that fail and are tried again"
FINE = ListState("calls", 0, 0, 0, 0, 0, 0.0, False, None, True, None)


def a_host(**fields: Any) -> Host:
    known: dict[str, Any] = {
        "id": "h", "name": "box", "version": "1", "pid": 1, "state": "running",
        "started_at": NOW_S, "beat_at": NOW_S, "beat_age_s": 1.0, "lease_s": 30.0,
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
        ({"queued": 2, "paused": True, "paused_since": NOW_S - 7260, "paused_by": "ada@box"},
         "warning: List calls has been paused for 2 h by ada@box: 2 items wait"),
        ({"queued": 2, "paused": True, "paused_since": 0.0},
         "warning: List calls has been paused: 2 items wait"),
        ({"parked": 40, "waits": Waits(40, {}, 40, 1.0, failed=12, error="CRM is\n\tdown")},
         f"warning: List calls {FAILS}, 12: CRM is down"),
        ({"parked": 99, "waits": Waits(40, {}, 40, 1.0, failed=12, error="no")},
         f"warning: List calls {FAILS}, 12 of the 40 that are due first: no"),
        ({"queued": 7, "oldest_age_s": 1300.0},
         "warning: List calls has an item that has waited for 22 min, of 7"),
        ({"suspects": 1},
         "warning: List calls has 1 item that may have killed a worker; each runs alone"),
        ({"suspects": 2, "oldest_age_s": 1300.0},
         f"warning: List calls has 2 items that {KILLED}, {ALONE}"),
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


def test_callbacks_that_stay_paused_after_a_drain_are_told_before_one_waits() -> None:
    drained = replace(FINE, paused=True, paused_by="ada@box")
    callbacks = replace(drained, name=keys.NOTIFICATIONS)
    assert attention(overview(drained, callbacks)) == []
    paused = "has been paused by ada@box, so that no callbacks are sent"
    for waiting, wait in ((0, "0 items wait"), (1, "1 item waits")):
        [found] = attention(overview(FINE, replace(callbacks, queued=waiting)))
        said = f"warning: List conserver:notifications {paused}: {wait}"
        assert texts([found]) == [said]
        assert found.advice == "`conserver resume conserver:notifications`"


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
    assert said == "critical: Storage pg has been away, as seen by 1 of 2 workers"
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
    silent = a_host(beat_age_s=50.0, beat_at=NOW_S - 50)
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


def in_link(slot: int, since_s: float, **fields: Any) -> dict[str, Any]:
    item = {"uuid": f"u-{slot}", "link": "crm", "phase": "running", "since_s": since_s}
    return {
        "slot": slot,
        "pid": 70 + slot,
        "state": "working",
        "held": 1,
        "items": [item],
        **fields,
    }


def test_a_worker_that_is_stuck_in_a_link() -> None:
    """It is critical where none is left for other items."""
    stuck, quick = in_link(1, LONG_RUN_S + 60), in_link(2, 3.0)
    [one] = attention(overview(FINE, hosts=[a_host(workers=[stuck, quick])]))
    assert texts([one]) == ["warning: Worker 1 of box has been in the link crm for 16 min with u-1"]
    assert "`conserver cancel u-1`" in one.advice
    assert "`kill -9 71` on box" in one.advice
    both = [stuck, in_link(2, 7300.0, held=4)]
    assert texts(attention(overview(FINE, hosts=[a_host(workers=both)]))) == [
        "critical: Worker 1 of box has been in the link crm for 16 min with u-1",
        "critical: Worker 2 of box has been in the link crm for 2 h with u-2, and holds 3 more",
    ]
    another = a_host(id="i", name="other", workers=[quick])
    found = attention(overview(FINE, hosts=[a_host(workers=both), another]))
    assert {one.severity for one in found} == {"warning"}


def test_what_waits_for_its_link_or_for_a_storage_is_in_no_link() -> None:
    item = {"uuid": "u-1", "link": "", "phase": "finishing", "since_s": 9000.0}
    assert attention(overview(FINE, hosts=[a_host(workers=[in_link(1, 1, items=[item])])])) == []


def test_a_configuration_that_was_refused_says_why() -> None:
    refused = "c.yml cannot be used:\n  - links.a.module: there is no module `b`"
    host = a_host(supervisor={"reload": {"at": NOW_S - 300, "refused": refused}})
    [said] = texts(attention(overview(FINE, hosts=[host])))
    assert said == (
        "warning: Host box has refused the configuration 5 min ago, and goes on with the one "
        "before: c.yml cannot be used: - links.a.module: there is no module `b`"
    )


def test_what_redis_refuses_comes_first() -> None:
    full = doctor.eviction("noeviction", 99, 99)
    rising = doctor.eviction("noeviction", 95 << 20, 100 << 20)
    found = attention(replace(overview(replace(FINE, dead=1)), risks=[full]))
    assert texts(found)[0] == (
        "critical: Redis eviction is noeviction, 0 of 0 MiB used: producers cannot push"
    )
    [said] = texts(attention(replace(overview(FINE), risks=[rising])))
    assert said == "warning: Redis eviction is noeviction, 95 of 100 MiB used: it is nearly full"


def test_a_loss_of_data_is_told_once_and_for_a_day() -> None:
    how = "it came back empty: a FLUSHALL"
    lost = {"at": NOW_S - 7260, "how": how, "known": {"waiting": 4310, "dead": 1, "in_flight": 2}}
    later = {**lost, "at": NOW_S - 120}
    fewer = a_host(name="later", lost={**later, "known": {"waiting": 9, "dead": 9, "in_flight": 0}})
    hosts = [fewer, a_host(lost=lost), fewer]
    counted = "before, host box counted 4,310 waiting, 1 dead, 2 in flight"
    [found] = attention(overview(FINE, hosts=hosts))
    assert texts([found]) == [f"critical: Redis lost data 2 h ago: {how}; {counted}"]
    assert (found.since, "push again" in found.advice) == (NOW_S - 7260, True)
    hidden = [a_host(lost={**one, "known": {}}) for one in (lost, later)]
    assert texts(attention(overview(FINE, hosts=hidden))) == [
        f"critical: Redis lost data 2 min ago: {how}"
    ]
    assert attention(overview(FINE, hosts=[a_host(lost={**lost, "at": NOW_S - 86401})])) == []


def test_each_finding_says_what_to_do() -> None:
    away = [Breaker("pg", 2, 2, NOW_S - 720)]
    bad = replace(FINE, queued=1, dead=1, suspects=1, parked=9, returned=None, oldest_age_s=9e9)
    keeps_ending = {"slot": 2, "state": "waiting", "restarts": 7}
    silent = a_host(id="i", beat_age_s=50.0, beat_at=NOW_S - 50)
    host = a_host(
        workers=[keeps_ending, in_link(1, 9000)],
        supervisor={"reload": {"at": NOW_S, "refused": "no"}},
    )
    found = attention(overview(bad, hosts=[host, silent], away=away), 9)
    found += attention(overview(replace(FINE, queued=1, served=False), hosts=[]))
    found += attention(overview(replace(FINE, queued=1, paused=True)))
    assert len(found) == 13
    assert [one for one in found if not one.advice] == []
    assert [one.advice for one in found if one.advice.count("`") % 2] == []


def test_the_worst_comes_first() -> None:
    found = attention(overview(replace(FINE, dead=1), replace(FINE, queued=1, served=False)))
    assert [one.severity for one in found] == ["critical", "warning"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-3, "0 s"), (59, "59 s"), (119, "119 s"), (120, "2 min"), (7200, "2 h"), (172_800, "2 days")],
)
def test_durations_in_words(seconds: float, text: str) -> None:
    assert for_how_long(seconds) == text


def test_counts_in_words() -> None:
    assert (items(1), items(4310)) == ("1 item", "4,310 items")
    assert (items_wait(1), items_wait(0)) == ("1 item waits", "0 items wait")


def test_a_text_on_one_line() -> None:
    assert one_line(" refused\n\tIs it up? ") == "refused Is it up?"
    assert one_line("abcdef", 4) == "abc…"

"""When schedules fire, and what their section of the configuration may say."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conserver.config.model import parse
from conserver.config.schedules import Reason, ScheduleConfig
from conserver.errors import ConfigError
from conserver.operations.dead_letters import REASONS

PUSH = {"list": "reports", "payloads": ["tick"]}
EXPRESSIONS = [
    "0 2 * * *",
    "30 2 * * *",
    "*/7 * * * *",
    "0 0 1 1 *",
    "15 10 L * MON-FRI",
    "0 0 29 2 *",
]
ZONES = ["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu"]


def schedule(cron: str, timezone: str = "UTC") -> ScheduleConfig:
    return ScheduleConfig.model_validate({"cron": cron, "timezone": timezone, "push": PUSH})


def ms(text: str) -> float:
    return datetime.fromisoformat(text).timestamp() * 1000


def utc(at_ms: float) -> str:
    return datetime.fromtimestamp(at_ms / 1000, tz=UTC).strftime("%m-%d %H:%M")


@given(
    cron=st.sampled_from(EXPRESSIONS),
    zone=st.sampled_from(ZONES),
    now_s=st.integers(1_700_000_000, 1_950_000_000),
)
def test_the_latest_and_the_next_time_are_neighbours(cron: str, zone: str, now_s: int) -> None:
    one = schedule(cron, zone)
    now_ms = now_s * 1000
    latest_ms, next_ms = one.latest_ms(now_ms), one.next_ms(now_ms)
    assert latest_ms <= now_ms < next_ms
    assert one.next_ms(latest_ms) == next_ms
    assert one.latest_ms(next_ms) == next_ms, "the moment itself is included"
    assert one.latest_ms(next_ms - 1) == latest_ms
    assert one.missed(latest_ms, now_ms) == 0
    assert one.missed(latest_ms - 1, now_ms) == 1


@pytest.mark.parametrize(
    ("cron", "day", "times"),
    [
        # Clocks go forward at 02:00 on 29 March, and back at 03:00 on 25 October.
        pytest.param("30 2 * * *", "2026-03-28", ["03-28 01:30", "03-29 01:00", "03-30 00:30"]),
        pytest.param("30 2 * * *", "2026-10-24", ["10-24 00:30", "10-25 00:30", "10-26 01:30"]),
        pytest.param("0 12 * * *", "2026-03-28", ["03-28 11:00", "03-29 10:00", "03-30 10:00"]),
    ],
)
def test_a_fixed_time_comes_once_a_day_when_clocks_change(
    cron: str, day: str, times: list[str]
) -> None:
    one, at_ms, found = schedule(cron, "Europe/Berlin"), ms(f"{day}T00:00:00+01:00"), []
    for _ in times:
        at_ms = one.next_ms(at_ms)
        found.append(utc(at_ms))
    assert found == times


@pytest.mark.parametrize(
    ("cron", "zone", "now", "latest"),
    [
        pytest.param("30 2 * * *", "Europe/Berlin", "2026-10-25T01:00", "2026-10-25T00:30"),
        pytest.param("15 1-3 * * *", "Europe/Berlin", "2026-10-25T01:00", "2026-10-25T00:15"),
        pytest.param("30 1 * * *", "America/New_York", "2026-11-01T06:15", "2026-11-01T05:30"),
    ],
)
def test_the_latest_time_is_known_within_the_hour_that_comes_twice(
    cron: str, zone: str, now: str, latest: str
) -> None:
    assert schedule(cron, zone).latest_ms(ms(f"{now}+00:00")) == ms(f"{latest}+00:00")


def test_what_repeats_comes_in_the_hour_that_is_there_twice_as_well() -> None:
    one = schedule("*/30 * * * *", "Europe/Berlin")
    until = ms("2026-10-25T03:00:00+01:00")
    assert one.missed(until - timedelta(hours=3).total_seconds() * 1000, until) == 6


def problems(text: str) -> list[str]:
    head = "chains: {a: {ingress_lists: [q]}}\nschedules:\n"
    with pytest.raises(ConfigError) as caught:
        parse(head + text, {})
    return [str(problem) for problem in caught.value.problems]


@pytest.mark.parametrize(
    ("entry", "path", "said"),
    [
        ('{cron: "61 * * * *", push: P}', "schedules.one.cron", "bad minute"),
        ('{cron: "@daily", push: P}', "schedules.one.cron", "wrong number of fields"),
        ('{cron: "0 0 31 2 *", push: P}', "schedules.one.cron", "bad day-of-month"),
        ('{cron: "0 2 * * *", timezone: Europe/Belin, push: P}', "schedules.one.timezone", "Belin"),
        ('{cron: "0 2 * * *", timezone: "../etc", push: P}', "schedules.one.timezone", "../etc"),
        ('{cron: "0 2 * * *"}', "schedules.one", "needs one of push"),
        ('{cron: "0 2 * * *", push: P, purge: {older: 7d}}', "schedules.one", "push and purge"),
        ('{cron: "0 2 * * *", purge: {}}', "schedules.one", "say which"),
        ('{cron: "0 2 * * *", requeue: {older: soon}}', "schedules.one.requeue.older", "an age"),
        ('{cron: "0 2 * * *", requeue: {reason: tired}}', "schedules.one.requeue.reason", "tired"),
        ('{cron: "0 2 * * *", requeue: {error: "("}}', "schedules.one.requeue.error", "regular"),
        ('{cron: "0 2 * * *", push: {list: "DLQ:q", payloads: [a]}}', "push.list", "DLQ:"),
        ('{cron: "0 2 * * *", push: {list: q, payloads: []}}', "push.payloads", "empty"),
        (
            '{cron: "0 2 * * *", find: {storage: nowhere, query: "true", list: q}}',
            "schedules.one.find.storage",
            "nowhere",
        ),
        ('{cron: "0 2 * * *", push: P, when: never}', "schedules.one.when", "not known"),
    ],
)
def test_what_cannot_be_is_named_with_its_place(entry: str, path: str, said: str) -> None:
    found = problems("  one: " + entry.replace("P", "{list: q, payloads: [tick]}") + "\n")
    assert len(found) == 1, found
    assert path in found[0]
    assert said in found[0]


def test_the_reasons_are_those_of_dead_letters() -> None:
    assert get_args(Reason) == ("", *REASONS)


def test_a_disabled_schedule_does_not_fire() -> None:
    text = 'schedules: {one: {cron: "0 2 * * *", enabled: false, push: {list: q, payloads: [x]}}}'
    config = parse("chains: {a: {ingress_lists: [q]}}\n" + text, {})
    assert list(config.schedules) == ["one"]
    assert not config.enabled_schedules


@pytest.mark.parametrize(
    ("entry", "path", "said"),
    [
        ("requeue: {lists: [qq]}", "schedules.one.requeue.lists[0]", "no chain takes from `qq`"),
        ("purge: {where: hok}", "schedules.one.purge.where", "did you mean `hook`"),
        ("push: {list: calls_, payloads: [a]}", "schedules.one.push.list", "did you mean `calls`"),
        (
            'find: {storage: db, query: "true", list: call}',
            "schedules.one.find.list",
            "did you mean `calls`",
        ),
        ("push: {list: elsewhere, payloads: [a]}", "", ""),
        ("push: {list: calls, payloads: [a]}", "", ""),
        ("requeue: {lists: [calls], where: hook}", "", ""),
        ("requeue: {where: db}", "", ""),
    ],
)
def test_names_that_nothing_has_are_warnings(entry: str, path: str, said: str) -> None:
    text = (
        "links: {hook: {module: links.webhook}}\n"
        "storages: {db: {module: storage.sqlite}}\n"
        "chains: {a: {ingress_lists: [calls]}}\n"
        f'schedules: {{one: {{cron: "0 2 * * *", {entry}}}}}\n'
    )
    found = [str(one) for one in parse(text, {}).warnings]
    assert len(found) == bool(path), found
    assert all(path in one and said in one for one in found)

"""Schedules of two hosts of the true command: each time fires once, whoever is killed."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import redis

from conserver.config.schedules import ScheduleConfig
from conserver.queue import schedules
from tests.daemon import Daemon, elements, push, vcon
from tests.helpers import eventually

TICKS = 8
LETTERS = 40


def config(**sections: Any) -> dict[str, Any]:
    """One chain that fails whatever it gets from `broken`, and these schedules."""
    return {
        "links": {"fail": {"module": "tests.modules.trouble", "options": {"mode": "reject"}}},
        "chains": {"main": {"links": [], "ingress_lists": ["in"]}},
        **sections,
    }


def ticking(**rest: Any) -> dict[str, Any]:
    """A schedule that fires every second."""
    return {"cron": "* * * * * *", "push": {"list": "ticks", "payloads": ["tick"]}, **rest}


def conserver(host: Daemon, redis_url: str, *words: str) -> str:
    """What a command prints."""
    environment = {
        **os.environ,
        "REDIS_URL": redis_url,
        "CONSERVER_CONFIG_FILE": str(host.config_file),
    }
    done = subprocess.run(
        [sys.executable, "-m", "conserver", *words],
        env=environment,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done
    return done.stdout


def state(client: Any, name: str, cron: str) -> schedules.State:
    """What Redis knows of a schedule."""
    return schedules.load(client.hgetall(f"conserver:schedule:{name}"), f"{cron} UTC")


def _has_ticked(client: redis.Redis, times: int) -> bool:
    return client.llen("ticks") >= times


def test_each_time_fires_once_though_coordinators_are_killed(
    redis_url: str, client: redis.Redis, tmp_path: Path
) -> None:
    one = ticking()
    text = config(schedules={"clock": one})
    began_s, _ = client.time()
    began_ms = (began_s - 1) * 1000  # The second that is running is due as well.
    with (
        Daemon(tmp_path / "a", redis_url, text) as first,
        Daemon(tmp_path / "b", redis_url, text) as second,
    ):
        chance, kills = random.Random(1), 0
        for count in range(1, TICKS):
            assert eventually(partial(_has_ticked, client, count))
            if count % 2:
                host = chance.choice([first, second])
                host.signal(signal.SIGKILL, host.coordinator)
                kills += 1
    # Nothing fires any more.
    ticks = client.llen("ticks")
    found = state(client, "clock", one["cron"])
    fired = first.events("schedule_fired") + second.events("schedule_fired")
    assert not first.events("schedule_caught_up") + second.events("schedule_caught_up")
    # A host that was killed between the script's call and its line has fired without a word.
    assert ticks - kills <= len(fired) <= ticks
    assert len({line["due_ms"] for line in fired}) == len(fired), "a time has fired twice"
    due_times = ScheduleConfig.model_validate(one).missed(began_ms, found.fired_at * 1000)
    assert ticks <= due_times
    assert set(elements(client, "ticks")) == {"tick"}


def test_a_reload_changes_the_schedules(
    redis_url: str, client: redis.Redis, tmp_path: Path
) -> None:
    with Daemon(tmp_path, redis_url, config()) as host:
        host.write_config(config(schedules={"clock": ticking()}))
        host.signal(signal.SIGHUP)
        assert eventually(lambda: client.llen("ticks") > 0)
        host.until(lambda: len(host.pids("coordinator")) == 1)
        with_schedule = host.coordinator
        host.write_config(config())
        host.signal(signal.SIGHUP)
        host.until(lambda: len(host.events("reloaded")) >= 2)
        host.until(lambda: with_schedule not in host.everybody())
        client.delete("ticks")
        assert client.blpop(["ticks"], 2) is None
        assert host.stop() == 0
        assert client.llen("ticks") == 0


def test_a_requeue_is_done_by_a_process_and_told(
    redis_url: str, client: redis.Redis, tmp_path: Path
) -> None:
    yearly = {"cron": "0 0 1 1 *", "requeue": {"lists": ["in"], "reason": "rejected"}}
    with Daemon(tmp_path, redis_url, config(schedules={"again": yearly})) as host:
        client.rpush("in", *[f"missing-{number}" for number in range(LETTERS)])
        assert eventually(lambda: client.llen("DLQ:in") == LETTERS)
        conserver(host, redis_url, "schedules", "run", "again")
        assert host.until(lambda: host.events("schedule_run_ended", schedule="again"))
        [ended] = host.events("schedule_run_ended", schedule="again")
        assert ended["done"] == LETTERS
        listed = conserver(host, redis_url, "schedules", "list")
        assert "0 0 1 1 *" in listed
        assert f"{LETTERS} done" in listed


def test_a_query_goes_on_where_a_killed_process_stopped(
    redis_url: str, client: redis.Redis, tmp_path: Path
) -> None:
    database = tmp_path / "vcons.db"
    wanted = {"storage": "kept", "query": "subject = 'wanted'", "list": "found"}
    text = config(
        storages={"kept": {"module": "storage.sqlite", "options": {"path": str(database)}}},
        chains={
            "main": {
                "links": [],
                "ingress_lists": ["in"],
                "storages": ["kept"],
                "egress_lists": ["stored"],
            }
        },
        schedules={"report": {"cron": "0 0 1 1 *", "find": wanted}},
    )
    count = 1200
    with Daemon(tmp_path, redis_url, text) as host:
        push(client, "in", [vcon(subject="wanted") for _ in range(count)])
        assert eventually(lambda: client.llen("stored") == count)
        # No schedule may push on a key of another type: the run ends there, and says why.
        client.set("found", "in the way")
        client.hset("conserver:schedule:report", "wanted", 1)
        [failed] = host.until(lambda: host.events("schedule_run_failed"))
        assert "found is a string" in failed["error"]
        client.delete("found")
        # A run that another host has left behind its first page.
        first = elements_of(database, 500)
        client.rpush("found", *first[0])
        client.hset(
            "conserver:schedule:report",
            mapping={"run": "1.1", "lease_ms": 1, "run_time": 1, "cursor": f"500 {first[1]}"},
        )
        host.event("schedule_run_taken_over", schedule="report")
        assert eventually(lambda: client.llen("found") == count)
    found = elements(client, "found")
    assert len(set(found)) == count


def elements_of(database: Path, count: int) -> tuple[list[str], str]:
    """The first page of the query, and its cursor."""
    from storage.sqlite import Options, Storage

    storage = Storage("kept", Options(path=database))
    storage.open()
    try:
        page = storage.find("subject = 'wanted'", count)
        return list(page.uuids), page.cursor
    finally:
        storage.close()

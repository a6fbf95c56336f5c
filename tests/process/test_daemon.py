"""`conserver run` under every start method: items, deaths, stops, reloads."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.daemon import Daemon, elements, push, vcon
from tests.helpers import eventually
from tests.process.items import arrived, runs

METHODS = ["fork", "spawn", "forkserver"]
# For what happens behind the start, where all workers are alike: tests/unit/supervisor has the
# supervisor's part of each under all three.
by_fork = pytest.mark.parametrize("method", ["fork"])
Start = Callable[..., Daemon]


@pytest.fixture(params=METHODS)
def method(request: pytest.FixtureRequest) -> str:
    """Every start method."""
    return str(request.param)


@pytest.fixture
def start(redis_url: str, tmp_path: Path) -> Iterator[Start]:
    """Starts daemons, and ends them after the test."""
    with ExitStack() as stack:

        def launch(method: str = "", workers: int = 1, **environment: str) -> Daemon:
            folder = tmp_path / f"host-{len(list(tmp_path.iterdir()))}"
            config = environment.pop("config", None) or trouble(redis_url)
            daemon = Daemon(folder, redis_url, config, method, workers, **environment)
            return stack.enter_context(daemon)

        yield launch


def trouble(redis_url: str, **chain: Any) -> dict[str, Any]:
    """One chain: a link that does what each vCon's subject says, then a tag."""
    return {
        "links": {
            "trouble": {"module": "tests.modules.trouble", "options": {"redis_url": redis_url}},
            "tag": {"module": "links.tag", "options": {"tags": ["seen"]}},
        },
        "chains": {
            "main": {
                "links": ["trouble", "tag"],
                "ingress_lists": ["in"],
                "egress_lists": ["out"],
                "backoff_s": 0.05,
                "backoff_max_s": 0.2,
                **chain,
            }
        },
    }


def nothing_left(client: redis.Redis) -> bool:
    """Whether no item is held, returned, a suspect, parked or dead."""
    patterns = ["conserver:inflight:*", "conserver:returned:*", "conserver:suspects:*"]
    return not any(client.keys(p) for p in [*patterns, "conserver:parked:*", "DLQ:*"])


def test_items_pushed_as_uuid_and_whole_come_out_tagged(
    method: str, start: Start, client: redis.Redis
) -> None:
    daemon = start(method, workers=2)
    uuids = push(client, "in", [vcon() for _ in range(20)])
    whole = vcon()
    client.rpush("in", json.dumps(whole))
    daemon.until(arrived(client, [*uuids, whole["uuid"]]))
    body = client.get(f"vcon:{whole['uuid']}")
    assert b"seen" in (body or b"")
    titles = {f"conserver: worker {slot} of 2" for slot in (1, 2)}
    found = {
        (Path("/proc") / str(pid) / "cmdline").read_bytes().strip(b"\0").decode().strip()
        for pid in daemon.pids("worker")
    }
    assert found == titles
    # It is idle now, and stops at once.
    began_s = time.monotonic()
    assert daemon.stop() == 0
    assert time.monotonic() - began_s < 20, "far below the shutdown timeout"
    assert nothing_left(client)
    assert not client.keys("conserver:host:*")
    daemon.until(lambda: not daemon.everybody())  # helpers of multiprocessing end by themselves


@by_fork
def test_sigterm_lets_a_running_link_finish(
    method: str, start: Start, client: redis.Redis, tmp_path: Path
) -> None:
    daemon = start(method)
    gate = tmp_path / "gate"
    (uuid,) = push(client, "in", [vcon(subject=f"gate:{gate}")])
    (waiting,) = push(client, "in", [vcon()])
    daemon.until(lambda: runs(client, uuid) == 1)
    daemon.signal(signal.SIGTERM)
    daemon.event("draining", worker=1)
    gate.touch()
    assert daemon.wait() == 0
    assert elements(client, "out") == [uuid]
    assert elements(client, "in") == [waiting]
    assert nothing_left(client)


@by_fork
def test_items_still_running_at_the_deadline_of_a_stop_are_returned(
    method: str, start: Start, client: redis.Redis, tmp_path: Path
) -> None:
    daemon = start(method, CONSERVER_SHUTDOWN_TIMEOUT_S="1")
    (uuid,) = push(client, "in", [vcon(subject=f"gate:{tmp_path / 'never'}")])
    daemon.until(lambda: runs(client, uuid) == 1)
    assert daemon.stop() == 0
    assert client.llen("conserver:returned:in") == 1
    assert not client.keys("conserver:inflight:*")
    assert not client.keys("DLQ:*")


@by_fork
def test_a_second_signal_kills_at_once(
    method: str, start: Start, client: redis.Redis, tmp_path: Path
) -> None:
    daemon = start(method)
    (uuid,) = push(client, "in", [vcon(subject=f"gate:{tmp_path / 'never'}")])
    daemon.until(lambda: runs(client, uuid) == 1)
    daemon.signal(signal.SIGTERM)
    first_s = time.monotonic()
    eventually(lambda: time.monotonic() - first_s > 0.7, 5)
    daemon.signal(signal.SIGTERM)
    daemon.wait()
    assert client.llen("conserver:returned:in") == 1
    daemon.until(lambda: not daemon.everybody())


@by_fork
def test_signal_to_the_whole_group_is_one_stop(
    method: str, start: Start, client: redis.Redis, tmp_path: Path
) -> None:
    daemon = start(method, workers=2)
    gate = tmp_path / "gate"
    (uuid,) = push(client, "in", [vcon(subject=f"gate:{gate}")])
    daemon.until(lambda: runs(client, uuid) == 1)
    daemon.kill_group(signal.SIGINT)
    daemon.event("draining", role="supervisor")
    gate.touch()
    assert daemon.wait() == 0
    assert elements(client, "out") == [uuid]


def test_a_killed_worker_is_replaced_and_its_item_runs_again(
    method: str, start: Start, client: redis.Redis, tmp_path: Path
) -> None:
    daemon = start(method)
    gate = tmp_path / "gate"
    (uuid,) = push(client, "in", [vcon(subject=f"gate:{gate}")])
    daemon.until(lambda: runs(client, uuid) == 1)
    victim = daemon.worker(1)
    daemon.signal(signal.SIGKILL, victim)
    daemon.event("items_returned", blame="items")
    daemon.until(lambda: runs(client, uuid) == 2)
    assert daemon.worker(1) != victim
    gate.touch()
    daemon.until(arrived(client, [uuid]))
    assert daemon.stop() == 0
    assert nothing_left(client)
    assert runs(client, uuid) == 2


@by_fork
def test_a_killed_coordinator_is_replaced_and_work_goes_on(
    method: str, start: Start, client: redis.Redis
) -> None:
    daemon = start(method)
    daemon.signal(signal.SIGKILL, daemon.coordinator)
    uuids = push(client, "in", [vcon() for _ in range(5)])
    daemon.until(arrived(client, uuids))
    daemon.until(lambda: len(daemon.events("child_ready", child="coordinator")) == 2)
    more = push(client, "in", [vcon() for _ in range(5)])
    daemon.until(arrived(client, [*uuids, *more]))
    assert daemon.stop() == 0


@by_fork
def test_coordinator_and_worker_killed_together(
    method: str, start: Start, client: redis.Redis, tmp_path: Path
) -> None:
    daemon = start(method)
    gate = tmp_path / "gate"
    (uuid,) = push(client, "in", [vcon(subject=f"gate:{gate}")])
    daemon.until(lambda: runs(client, uuid) == 1)
    coordinator, worker = daemon.coordinator, daemon.worker(1)
    daemon.signal(signal.SIGKILL, coordinator)
    daemon.signal(signal.SIGKILL, worker)
    daemon.until(lambda: runs(client, uuid) == 2)
    gate.touch()
    daemon.until(arrived(client, [uuid]))
    assert daemon.stop() == 0
    assert nothing_left(client)


def test_no_orphans_after_the_supervisor_is_killed(
    method: str, start: Start, client: redis.Redis, tmp_path: Path
) -> None:
    daemon = start(method, workers=2)
    (uuid,) = push(client, "in", [vcon(subject=f"gate:{tmp_path / 'never'}")])
    daemon.until(lambda: runs(client, uuid) == 1)
    daemon.signal(signal.SIGKILL)
    daemon.until(lambda: not daemon.pids())
    assert client.llen("conserver:returned:in") == 1
    assert not client.keys("conserver:inflight:*")


def test_a_killed_forkserver_costs_no_item(
    start: Start, client: redis.Redis, tmp_path: Path
) -> None:
    daemon = start("forkserver")
    gate = tmp_path / "gate"
    (uuid,) = push(client, "in", [vcon(subject=f"gate:{gate}")])
    daemon.until(lambda: runs(client, uuid) == 1)
    worker = daemon.worker(1)
    parents = {pid: _parent(pid) for pid in daemon.everybody()}
    forkserver = parents[worker]
    assert forkserver != daemon.pid
    daemon.signal(signal.SIGKILL, forkserver)
    gate.touch()
    daemon.until(arrived(client, [uuid]))
    assert daemon.worker(1) == worker, "its children outlive it"
    daemon.signal(signal.SIGKILL, worker)
    (second,) = push(client, "in", [vcon()])
    daemon.until(arrived(client, [uuid, second]))
    assert runs(client, uuid) == 1
    assert daemon.stop() == 0


def _parent(pid: int) -> int:
    return int((Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[1])


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_second_push_wakes_another_idle_worker(
    method: str, start: Start, client: redis.Redis, tmp_path: Path
) -> None:
    # A worker claims by itself once an hour here: only a list waiter can wake it.
    daemon = start(method, workers=2, TICK_INTERVAL="3600000")
    gate = tmp_path / "gate"
    (first,) = push(client, "in", [vcon(subject=f"gate:{gate}")])
    daemon.until(lambda: runs(client, first) == 1)
    (second,) = push(client, "in", [vcon()])
    daemon.until(arrived(client, [second]))
    gate.touch()
    daemon.until(arrived(client, [first, second]))


@by_fork
def test_a_stalled_worker_is_replaced_and_its_item_runs_again(
    method: str, start: Start, client: redis.Redis, tmp_path: Path
) -> None:
    daemon = start(method, CONSERVER_STALL_TIMEOUT_S="5")
    gate = tmp_path / "gate"
    (uuid,) = push(client, "in", [vcon(subject=f"gate:{gate}")])
    daemon.until(lambda: runs(client, uuid) == 1)
    daemon.signal(signal.SIGSTOP, daemon.worker(1))
    daemon.until(lambda: runs(client, uuid) == 2)
    gate.touch()
    daemon.until(arrived(client, [uuid]))
    assert daemon.stop() == 0
    assert runs(client, uuid) == 2


@by_fork
def test_a_link_that_holds_the_interpreter_lock_for_less_than_the_stall_timeout(
    method: str, start: Start, client: redis.Redis
) -> None:
    daemon = start(method, CONSERVER_STALL_TIMEOUT_S="30")
    uuids = push(client, "in", [vcon(subject="lock:3"), vcon()])
    daemon.until(arrived(client, uuids))
    assert not daemon.events("child_died")
    assert [runs(client, uuid) for uuid in uuids] == [1, 1]


def test_a_suspended_host_is_reaped_and_fenced(
    start: Start, client: redis.Redis, tmp_path: Path
) -> None:
    sick = start("fork", CONSERVER_LEASE_S="4")
    gate = tmp_path / "gate"
    (uuid,) = push(client, "in", [vcon(subject=f"gate:{gate}")])
    sick.until(lambda: runs(client, uuid) == 1)
    sick.pause()
    well = start("spawn", CONSERVER_LEASE_S="4")
    well.until(lambda: runs(client, uuid) >= 2)
    gate.touch()
    well.until(arrived(client, [uuid]))
    sick.resume()
    sick.until(lambda: len(sick.events("child_ready", child="worker 1")) >= 2)
    (second,) = push(client, "in", [vcon()])
    well.until(arrived(client, [uuid, second]))
    assert sick.stop() == 0
    assert well.stop() == 0
    assert elements(client, "out").count(uuid) == 1
    assert nothing_left(client)
    assert not client.keys("conserver:host:*")


def test_a_host_whose_processes_all_die_loses_nothing(
    start: Start, client: redis.Redis, tmp_path: Path
) -> None:
    doomed = start("fork", workers=2, CONSERVER_LEASE_S="2")
    gate = tmp_path / "gate"
    uuids = push(client, "in", [vcon(subject=f"gate:{gate}") for _ in range(2)])
    doomed.until(lambda: all(runs(client, uuid) == 1 for uuid in uuids))
    other = start("fork", workers=2, CONSERVER_LEASE_S="2")
    doomed.kill_everybody()
    gate.touch()
    other.until(arrived(client, uuids))
    assert other.stop() == 0
    assert nothing_left(client)
    assert not client.keys("conserver:host:*")
    assert not client.smembers("conserver:hosts")


def test_reload_takes_a_good_configuration_and_refuses_a_bad_one(
    method: str, start: Start, client: redis.Redis, redis_url: str
) -> None:
    daemon = start(method, workers=2)
    first = daemon.worker(1)
    (daemon.folder / "leaver.py").write_text("import sys\nsys.exit(3)\n")
    leaver = {**trouble(redis_url), "links": {"leaver": {"module": "leaver"}}}
    leaver["chains"]["main"]["links"] = ["leaver"]
    bad: list[tuple[dict[str, Any] | str, str]] = [
        ("chains: [this is: no config", "no YAML"),
        ("", "no list is served"),
        (leaver, "SystemExit: 3"),
    ]
    for config, words in bad:
        daemon.write_config(config)
        daemon.signal(signal.SIGHUP)
        daemon.until(partial(_refused, daemon, words))
    (uuid,) = push(client, "in", [vcon()])
    daemon.until(arrived(client, [uuid]))
    assert daemon.worker(1) == first
    daemon.write_config(trouble(redis_url, ingress_lists=["in", "also"]))
    daemon.signal(signal.SIGHUP)
    daemon.until(lambda: first not in daemon.pids("worker"), 20)
    (second,) = push(client, "also", [vcon()])
    daemon.until(arrived(client, [uuid, second]), 20)
    assert daemon.stop() == 0


def _refused(daemon: Daemon, words: str) -> bool:
    return any(words in line["reason"] for line in daemon.events("reload_refused"))


@pytest.mark.parametrize(
    ("environment", "config", "code", "words"),
    [
        ({}, {"links": {"x": {"module": "links.nowhere"}}}, 78, "links.nowhere"),
        ({}, {"links": {"x": {"module": "links.tag", "options": {"tgas": []}}}}, 78, "tgas"),
        ({}, "chains: [", 78, "config.yml"),
        ({}, {"links": {"x": {"module": "leaver"}}}, 78, "SystemExit: 3"),
        ({"CONSERVER_START_METHOD": "thread"}, {}, 78, "forkserver"),
        ({"REDIS_URL": "redis://127.0.0.1:1/0", "CONSERVER_BOOT_TIMEOUT_S": "1"}, {}, 69, "Redis"),
    ],
)
def test_boot_failure_is_a_message_and_an_exit_code(
    environment: dict[str, str],
    config: dict[str, Any] | str,
    code: int,
    words: str,
    redis_url: str,
    tmp_path: Path,
) -> None:
    chain = {"main": {"links": ["x"], "ingress_lists": ["in"]}}
    if isinstance(config, dict):
        tag = {"module": "links.tag", "options": {"tags": ["a"]}}
        config = {"links": {"x": tag}, **config, "chains": chain}
    daemon = Daemon(tmp_path / "host", redis_url, {}, "fork", 2, **environment)
    (daemon.folder / "leaver.py").write_text("import sys\nsys.exit(3)\n")
    daemon.write_config(config)
    daemon.launch()
    try:
        assert daemon.wait(20) == code, daemon.tail()
        assert words in daemon.tail()
        daemon.until(lambda: not daemon.everybody())
    finally:
        daemon.destroy()


@by_fork
def test_poison_is_dead_lettered_and_its_neighbours_are_not(
    method: str, start: Start, client: redis.Redis
) -> None:
    daemon = start(method, workers=2)
    poison, *rest = push(client, "in", [vcon(subject="exit"), *(vcon() for _ in range(10))])
    daemon.until(arrived(client, rest), 30)
    daemon.until(lambda: elements(client, "DLQ:in") == [poison], 60)
    (why,) = client.zrange("conserver:dead:in", 0, -1)
    assert b"poison" in why
    assert runs(client, poison) == 4, "once with others, then three times alone"

"""Redis restarts, stands still, is full, or loses connections: work goes on, and nobody dies."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import redis
from servers import Redis

from conserver.queue.script import load
from tests.daemon import Daemon, elements, push, vcon
from tests.fault.scene import Producer, Scene, arrived, deaths, hold, nothing_left
from tests.helpers import TcpProxy, eventually

# As short as they may be, so that a Redis that is away for seconds is away for longer than these.
IMPATIENT: dict[str, Any] = {"CONSERVER_LEASE_S": "5", "CONSERVER_STALL_TIMEOUT_S": "5"}
RESUMES_WITHIN_S = 15.0


@pytest.fixture
def hosts(scene: Scene) -> list[Daemon]:
    """Two hosts that would declare each other dead after five seconds."""
    return [scene.start(workers=2, **IMPATIENT) for _ in range(2)]


def test_restart_with_aof_resumes_within_seconds(scene: Scene, client: redis.Redis) -> None:
    config, gate = scene.config(["trouble", "mark"]), scene.town.folder / "gate"
    hosts = [scene.start(config, workers=2, **IMPATIENT) for _ in range(2)]
    before = push(client, "in", [vcon() for _ in range(40)])
    before += push(client, "in", [vcon(subject=f"gate:{gate}") for _ in range(160)])
    hosts[0].until(lambda: client.llen("out") > 20)
    scene.town.redis.stop()
    scene.town.redis.start()
    done = client.llen("out")
    assert done < len(before), "those at the gate are left to resume"
    gate.touch()
    hosts[0].until(lambda: client.llen("out") > done, RESUMES_WITHIN_S)
    (idle,) = push(client, "in", [vcon()])
    hosts[0].until(lambda: arrived(client, [*before, idle]), 30)
    assert not deaths(*hosts)
    assert all(scene.runs(uuid) == 1 for uuid in before)
    assert nothing_left(client)


def test_idle_hosts_hear_of_work_within_seconds_of_a_restart(
    scene: Scene, client: redis.Redis, hosts: list[Daemon]
) -> None:
    """Their bells waited in the Redis that is gone."""
    scene.town.redis.restart()
    (uuid,) = push(client, "in", [vcon()])
    hosts[0].until(lambda: arrived(client, [uuid]), RESUMES_WITHIN_S)
    assert not deaths(*hosts)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["stands still", "is down"])
def test_away_longer_than_lease_and_stall_timeout_is_no_massacre(
    how: str, scene: Scene, client: redis.Redis, hosts: list[Daemon]
) -> None:
    server = scene.town.redis
    pids = [daemon.pids() for daemon in hosts]
    uuids = push(client, "in", [vcon(subject="sleep:0.02") for _ in range(100)])
    hosts[0].until(lambda: client.llen("out") > 10)
    _out(server, how)
    hold(12)
    _back(server, how)
    hosts[0].until(lambda: arrived(client, uuids), 30)
    assert not deaths(*hosts)
    assert [daemon.pids() for daemon in hosts] == pids, "nobody was replaced"
    assert all(scene.runs(uuid) == 1 for uuid in uuids)
    assert nothing_left(client)
    assert not client.exists("DLQ:in")


@pytest.mark.slow
def test_away_for_long_with_patience_as_delivered(scene: Scene, client: redis.Redis) -> None:
    """Ninety seconds: longer than the lease (30) and the stall timeout (60) of the defaults."""
    hosts = [scene.start(workers=2) for _ in range(2)]
    pids = [daemon.pids() for daemon in hosts]
    uuids = push(client, "in", [vcon(subject="sleep:0.02") for _ in range(100)])
    hosts[0].until(lambda: client.llen("out") > 10)
    scene.town.redis.pause()
    hold(90)
    scene.town.redis.resume()
    hosts[0].until(lambda: arrived(client, uuids), 30)
    assert not deaths(*hosts)
    assert [daemon.pids() for daemon in hosts] == pids
    assert all(scene.runs(uuid) == 1 for uuid in uuids)


@pytest.mark.slow
def test_host_cut_off_for_longer_than_its_lease_is_fenced(
    scene: Scene, client: redis.Redis, hosts: list[Daemon]
) -> None:
    """One host alone loses Redis: the other one takes its items, and each is egressed once."""
    with Producer(scene.town).at_work() as producer:
        hosts[0].until(lambda: client.llen("out") > 10)
        proxy = scene.town.hosts[0].proxy
        proxy.stall()
        hosts[1].event("host_reaped", 20)
        proxy.flow()
        hosts[0].until(lambda: len(hosts[0].events("child_ready", child="worker 1")) > 1, 20)
    hosts[0].until(lambda: arrived(client, producer.uuids), 30)
    assert nothing_left(client)
    assert not client.exists("DLQ:in")
    for daemon in hosts:
        assert daemon.stop() == 0
    assert not client.keys("conserver:host:*")


def test_full_redis_is_drained(scene: Scene, client: redis.Redis) -> None:
    """At maxmemory with noeviction everything that needs more memory is refused, but the queue."""
    server = scene.town.redis
    uuids = push(client, "in", [vcon(subject="sleep:0.005") for _ in range(300)])
    daemon = scene.start(workers=2, **IMPATIENT)
    daemon.until(lambda: client.llen("out") > 5)
    client.config_set("maxmemory-policy", "noeviction")
    client.config_set("maxmemory", client.info("memory")["used_memory"] // 2)
    with pytest.raises(redis.exceptions.OutOfMemoryError):
        client.set("more", "x")
    daemon.until(lambda: arrived(client, uuids), 30)
    # Beyond a lease: it is not taken for dead because its beat could not be written.
    hold(6)
    assert not deaths(daemon)
    assert nothing_left(client)
    client.config_set("maxmemory", 0)
    more = push(client, "in", [vcon()])
    daemon.until(lambda: arrived(client, [*uuids, *more]))
    assert server.alive


SCRIPTS = ["claim", "write", "settle", "move"]


@pytest.mark.parametrize("moment", ["before", "after"])
def test_connection_cut_at_a_script(moment: str, stored_scene: Scene, client: redis.Redis) -> None:
    """Cut before: the command never came. Cut after: it was carried out, and is repeated."""
    daemon = stored_scene.start(config=_retrying(stored_scene), workers=1)
    proxy = stored_scene.town.hosts[0].proxy
    cut: dict[str, Callable[..., None]] = {"before": proxy.cut_before, "after": proxy.cut_after}
    uuids: list[str] = []
    for number, script in enumerate(SCRIPTS, 1):
        cut[moment](load(script).sha.encode(), 3)
        uuids += push(client, "in", [vcon(subject="retry" if n % 3 else "") for n in range(30)])
        daemon.until(partial(arrived, client, uuids), 30)
        daemon.until(partial(_has_cut, proxy, 3 * number))
        daemon.until(lambda: nothing_left(client))
    assert not client.exists("DLQ:in")
    assert not deaths(daemon)
    for uuid, document in _documents(client, uuids).items():
        assert len(document["analysis"]) == 1, f"{uuid} was worked on twice"
    for name in stored_scene.town.places:
        assert stored_scene.stored(name, uuids) == len(uuids)


@pytest.mark.parametrize("moment", ["before", "after"])
def test_connection_cut_at_a_dead_letter(moment: str, scene: Scene, client: redis.Redis) -> None:
    daemon = scene.start()
    proxy = scene.town.hosts[0].proxy
    cut = proxy.cut_before if moment == "before" else proxy.cut_after
    cut(load("move").sha.encode(), 2)
    uuids = push(client, "in", [vcon(subject="reject") for _ in range(5)])
    daemon.until(lambda: sorted(elements(client, "DLQ:in")) == sorted(uuids))
    daemon.until(lambda: proxy.cuts_done >= 2 or client.llen("DLQ:in") == 5)
    assert client.zcard("conserver:dead:in") == 5
    assert nothing_left(client)


@pytest.mark.parametrize("moment", ["before", "after"])
def test_connection_cut_while_a_dead_worker_is_replaced(
    moment: str, scene: Scene, client: redis.Redis
) -> None:
    """The coordinator's scripts: what it returned, registered or promoted, it may do again."""
    daemon = scene.start(scene.config(backoff_s=0.5, backoff_max_s=0.5), workers=2)
    proxy = scene.town.hosts[0].proxy
    cut = proxy.cut_before if moment == "before" else proxy.cut_after
    uuids: list[str] = []
    for number, script in enumerate(("return", "register", "promote"), 1):
        cut(load(script).sha.encode(), 2)
        subjects = ["fail:1" if n % 2 else "sleep:1" for n in range(6)]
        fresh = push(client, "in", [vcon(subject=subject) for subject in subjects])
        uuids += fresh
        daemon.until(partial(_has_begun, scene, fresh))
        daemon.signal(signal.SIGKILL, daemon.worker(1))
        daemon.until(partial(arrived, client, uuids), 30)
        daemon.until(partial(_has_cut, proxy, 2 * number))
        daemon.until(lambda: len(daemon.pids("worker")) == 2)
    assert nothing_left(client)
    assert not client.exists("DLQ:in")
    assert all(len(d["analysis"]) == 1 for d in _documents(client, uuids).values())


def test_proxy_that_stalls_and_crawls(scene: Scene, client: redis.Redis) -> None:
    daemon = scene.start(workers=2, **IMPATIENT)
    proxy = scene.town.hosts[0].proxy
    uuids = push(client, "in", [vcon(subject="sleep:0.01") for _ in range(100)])
    daemon.until(lambda: client.llen("out") > 5)
    proxy.stall()
    hold(2)
    proxy.flow()
    proxy.slow(0.05)
    hold(2)
    proxy.flow()
    daemon.until(lambda: arrived(client, uuids), 30)
    assert not deaths(daemon)
    assert all(scene.runs(uuid) == 1 for uuid in uuids)


def test_scripts_that_redis_has_forgotten_are_sent_again(scene: Scene, client: redis.Redis) -> None:
    daemon = scene.start()
    first = push(client, "in", [vcon()])
    daemon.until(lambda: arrived(client, first))
    client.script_flush()
    second = push(client, "in", [vcon()])
    daemon.until(lambda: arrived(client, [*first, *second]), RESUMES_WITHIN_S)
    assert not deaths(daemon)


def _out(server: Redis, how: str) -> None:
    if how == "stands still":
        server.pause()
    else:
        server.kill()


def _back(server: Redis, how: str) -> None:
    if how == "stands still":
        server.resume()
    else:
        server.start()
    eventually(server.answers)


def _has_cut(proxy: TcpProxy, times: int) -> bool:
    return proxy.cuts_done >= times


def _has_begun(scene: Scene, uuids: list[str]) -> bool:
    return any(scene.runs(uuid) for uuid in uuids)


def _retrying(scene: Scene) -> dict[str, Any]:
    return scene.config(retries=20)


def _documents(client: redis.Redis, uuids: list[str]) -> dict[str, Any]:
    return {uuid: json.loads(client.get(f"vcon:{uuid}") or b"{}") for uuid in uuids}

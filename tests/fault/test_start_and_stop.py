"""A host starts, stops and loses everything while what it needs is away."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import redis
from chaosrun.town import Town
from servers import Redis

from tests.conftest import Private
from tests.daemon import Daemon, push, vcon
from tests.fault.scene import Scene, arrived, deaths, nothing_left


def test_start_before_redis(scene: Scene, client: redis.Redis) -> None:
    """As after a power cut, when everything starts at once."""
    uuids = push(client, "in", [vcon()])
    scene.town.redis.stop()
    host = scene.town.host(scene.config(), method="fork", workers=2)
    host.daemon.launch()
    host.daemon.event("redis_away")
    scene.town.redis.start()
    host.daemon.until(lambda: arrived(client, uuids))
    assert not deaths(host.daemon)


def test_start_while_a_storage_is_away(stored_scene: Scene, client: redis.Redis) -> None:
    """It does its work for the others meanwhile."""
    server = stored_scene.town.places["postgres"].server
    server.stop()
    uuids = push(client, "in", [vcon() for _ in range(10)])
    daemon = stored_scene.start()
    daemon.until(stored_scene.holds("s3", uuids), 30)
    daemon.until(stored_scene.holds("elasticsearch", uuids), 30)
    daemon.until(lambda: client.zcard("conserver:parked:in") == 10)
    server.start()
    daemon.until(lambda: arrived(client, uuids), 60)
    assert stored_scene.stored("postgres", uuids) == 10
    assert [stored_scene.runs(uuid) for uuid in uuids] == [1] * 10
    assert not deaths(daemon)


@pytest.mark.slow
def test_stop_while_redis_is_away(scene: Scene, client: redis.Redis) -> None:
    """Its deadline holds, and another host finds and finishes what it could not settle."""
    settings: dict[str, Any] = {"CONSERVER_LEASE_S": "2", "CONSERVER_SHUTDOWN_TIMEOUT_S": "2"}
    daemon = scene.start(workers=2, **settings)
    uuids = push(client, "in", [vcon(subject="sleep:0.02") for _ in range(100)])
    daemon.until(lambda: client.llen("out") > 10)
    scene.town.redis.pause()
    began_s = time.monotonic()
    assert daemon.stop() == 0
    assert time.monotonic() - began_s < 40, "its deadline and the coordinator's grace are 5"
    daemon.until(lambda: not daemon.everybody())
    scene.town.redis.resume()
    other = scene.start(workers=2, **settings)
    other.until(lambda: arrived(client, uuids), 40)
    assert nothing_left(client)
    assert not client.exists("DLQ:in")


def test_stop_while_redis_is_down_and_nothing_is_held(scene: Scene, client: redis.Redis) -> None:
    """No process waits for it. Another host deletes the registrations after the lease."""
    settings: dict[str, Any] = {"CONSERVER_LEASE_S": "2", "TICK_INTERVAL": "4000"}
    daemon = scene.start(workers=2, **settings)
    daemon.until(partial(_have_claimed, client, 2))
    scene.town.redis.kill()
    for worker in (1, 2):
        daemon.event("redis_away", worker=worker)
    assert daemon.stop() == 0
    assert not daemon.events("drain_deadline_passed")
    assert daemon.events("orders_left_to_other_hosts", orders=2)
    scene.town.redis.start()
    (uuid,) = push(client, "in", [vcon()])
    other = scene.start(**settings)
    other.event("host_reaped", 20)
    other.until(lambda: arrived(client, [uuid]))
    assert other.stop() == 0
    assert not client.keys("conserver:host:*")


def test_redis_that_has_lost_everything(tmp_path: Path, private: Private) -> None:
    """No persistence, and a restart: what it held is gone, and the hosts go on with what comes."""
    with Town(tmp_path, [], private(Redis())) as town, town.client() as client:
        scene = Scene(town)
        daemons = [scene.start(workers=2) for _ in range(2)]
        first = push(client, "in", [vcon() for _ in range(20)])
        daemons[0].until(lambda: arrived(client, first))
        town.redis.restart()
        second = push(client, "in", [vcon() for _ in range(20)])
        daemons[0].until(lambda: arrived(client, second), 20)
        for daemon in daemons:
            assert not daemon.events("child_died")
            daemon.until(partial(_all_work, daemon))
        third = push(client, "in", [vcon() for _ in range(20)])
        daemons[0].until(lambda: arrived(client, second + third), 20)
        assert [daemon.stop() for daemon in daemons] == [0, 0]
        assert not client.keys("conserver:host:*")


def _have_claimed(client: redis.Redis, workers: int) -> bool:
    """Whether so many workers have made their first claim, and now wait for the next tick."""
    (host,) = client.keys("conserver:host:*") or [b""]
    fields: dict[bytes, bytes] = client.hgetall(host)  # type: ignore[assignment]
    claims = [claims for name, claims in fields.items() if name.startswith(b"consumer:")]
    return [int(one) > 0 for one in claims] == [True] * workers


def _all_work(daemon: Daemon) -> bool:
    return len(daemon.pids("worker")) == daemon.workers

"""A storage is away or hangs while work goes on: nobody else waits for it, and nothing is lost."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import redis
from chaosrun.places import PLACES

from tests.daemon import Daemon
from tests.fault.scene import Producer, Scene, arrived, deaths, hold, nothing_left

PATIENCE_S = 30.0
"""Of a machine that is busy with other things. A storage that is away comes back only later."""

SETTLES_S = 120.0
"""Until all is done that an outage has left: it waits for as long again as it had waited."""

# Longer than timeouts and the first pauses of the breaker, so that items wait in `parked`.
AWAY_S = {"postgres": 10.0, "s3": 8.0, "elasticsearch": 8.0}


@pytest.fixture(params=sorted(PLACES))
def victim(request: pytest.FixtureRequest) -> str:
    """The storage that is broken."""
    return str(request.param)


@pytest.mark.slow
def test_storage_stopped_under_load(victim: str, stored_scene: Scene, client: redis.Redis) -> None:
    daemon = stored_scene.start(workers=2)
    town = stored_scene.town
    server, proxy = town.places[victim].server, town.proxies[victim]
    stop: Callable[[], object] = server.stop
    start: Callable[[], object] = server.start
    if victim == "elasticsearch":
        # Its start takes ten seconds of CPU, and it is killed and started below with the others:
        # here connections are refused, as a server that is down refuses them.
        stop, start = proxy.refuse, proxy.start
    with Producer(town).at_work() as producer:
        daemon.until(lambda: client.llen("out") > 10)
        stop()
        _others_go_on(stored_scene, daemon, producer, victim)
        hold(AWAY_S[victim])
        _others_go_on(stored_scene, daemon, producer, victim)
        daemon.until(lambda: client.zcard("conserver:parked:in") > 0)
        start()
        daemon.until(lambda: client.llen("out") > 50, 60)
    _all_is_well(stored_scene, client, daemon, producer.uuids)
    assert daemon.events("storage_away", storage=victim)
    assert daemon.events("storage_back", storage=victim)


@pytest.mark.slow
def test_storage_that_hangs_holds_back_nobody_else(
    victim: str, stored_scene: Scene, client: redis.Redis
) -> None:
    daemon = stored_scene.start(workers=2)
    server = stored_scene.town.places[victim].server
    with Producer(stored_scene.town).at_work() as producer:
        daemon.until(lambda: client.llen("out") > 10)
        server.pause()
        daemon.event("storage_away", storage=victim)
        _others_go_on(stored_scene, daemon, producer, victim)
        daemon.until(lambda: client.zcard("conserver:parked:in") > 0)
        server.resume()
    _all_is_well(stored_scene, client, daemon, producer.uuids)


@pytest.mark.slow
def test_all_storages_away_at_once(stored_scene: Scene, client: redis.Redis) -> None:
    daemon = stored_scene.start(workers=2)
    servers = [place.server for place in stored_scene.town.places.values()]
    with Producer(stored_scene.town).at_work() as producer:
        daemon.until(lambda: client.llen("out") > 10)
        for server in servers:
            server.kill()
        parked = client.zcard("conserver:parked:in")
        daemon.until(lambda: client.zcard("conserver:parked:in") > parked + 25, 30)
        for server in servers:
            server.start()
    _all_is_well(stored_scene, client, daemon, producer.uuids)


@pytest.mark.slow
def test_missing_document_waits_for_a_storage_that_is_away(
    stored_scene: Scene, client: redis.Redis
) -> None:
    """What Redis has lost may be in the storage that cannot be asked now."""
    daemon = stored_scene.start()
    server = stored_scene.town.places["postgres"].server
    with Producer(stored_scene.town).at_work() as producer:
        daemon.until(lambda: client.llen("out") > 3)
    daemon.until(lambda: arrived(client, producer.uuids))
    uuid = producer.uuids[0]
    for name in ("s3", "elasticsearch"):
        stored_scene.town.places[name].server.pause()
    server.stop()
    client.delete(f"vcon:{uuid}", "out")
    client.rpush("in", uuid)
    daemon.until(lambda: client.zcard("conserver:parked:in") == 1, 30)
    assert not client.exists("DLQ:in")
    server.start()
    for name in ("s3", "elasticsearch"):
        stored_scene.town.places[name].server.resume()
    daemon.until(lambda: arrived(client, [uuid]), 60)
    assert daemon.events("document_restored")
    assert stored_scene.runs(uuid) == 2


def _others_go_on(scene: Scene, daemon: Daemon, producer: Producer, victim: str) -> None:
    """The healthy storages have what is pushed from now on within seconds."""
    before = len(producer.uuids)
    daemon.until(lambda: len(producer.uuids) >= before + 10, PATIENCE_S)
    fresh = producer.uuids[before : before + 10]
    for name in scene.town.places:
        if name != victim:
            daemon.until(scene.holds(name, fresh), PATIENCE_S)


def _all_is_well(scene: Scene, client: redis.Redis, daemon: Daemon, uuids: list[str]) -> None:
    """Everything is egressed once and stored everywhere, and nobody died or was run twice."""
    daemon.until(lambda: arrived(client, uuids), SETTLES_S)
    assert nothing_left(client)
    assert not client.exists("DLQ:in")
    for name in scene.town.places:
        assert scene.stored(name, uuids) == len(uuids), name
    assert not deaths(daemon)
    assert len(scene.runs_file.read_text().splitlines()) == len(uuids)
    assert daemon.stop() == 0

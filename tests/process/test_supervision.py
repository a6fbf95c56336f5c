"""How the true command lives beside its work: limits, planned replacements, signals to one child.

What a stop, a death and a reload do at all is in test_daemon.py.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import redis
from servers import Redis

from tests.conftest import Private
from tests.daemon import Daemon, elements, push, vcon

Start = Callable[..., Daemon]

# Links and the supervisor's look take their time on a busy machine.
LONG_S = 30


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url) as client:
        yield client


@pytest.fixture
def start(redis_url: str, tmp_path: Path) -> Iterator[Start]:
    """Starts daemons whose link does what each vCon's subject says; leaves none behind."""
    with ExitStack() as stack:

        def launch(
            url: str = "",
            workers: int = 1,
            link: dict[str, Any] | None = None,
            chain: dict[str, Any] | None = None,
            **environment: str,
        ) -> Daemon:
            folder = tmp_path / f"host-{len(list(tmp_path.iterdir()))}"
            config = configuration(url or redis_url, link, chain)
            daemon = Daemon(folder, url or redis_url, config, "fork", workers, **environment)
            return stack.enter_context(daemon)

        yield launch


def configuration(
    redis_url: str, link: dict[str, Any] | None = None, chain: dict[str, Any] | None = None
) -> dict[str, Any]:
    """One chain with one link of trouble."""
    trouble = {"module": "tests.modules.trouble", "options": {"redis_url": redis_url}}
    main = {"links": ["trouble"], "ingress_lists": ["in"], "egress_lists": ["out"]}
    return {"links": {"trouble": trouble | (link or {})}, "chains": {"main": main | (chain or {})}}


def runs(client: redis.Redis, uuid: str) -> int:
    """How often an item's link was begun."""
    return int(client.llen(f"runs:{uuid}"))


def arrived(client: redis.Redis, *uuids: str) -> Callable[[], bool]:
    """Whether exactly these are at the egress list, each once."""
    return lambda: sorted(elements(client, "out")) == sorted(uuids)


@pytest.mark.parametrize(
    "limits",
    [{"link": {"hard_timeout_s": 1}}, {"chain": {"hard_timeout_s": 1}}],
    ids=["of the link", "of the chain"],
)
def test_a_hard_limit_costs_the_overdue_item_alone(
    start: Start, client: redis.Redis, tmp_path: Path, limits: dict[str, Any]
) -> None:
    limits = {**limits, "chain": {**limits.get("chain", {}), "max_deliveries": 2}}
    daemon = start(CONSERVER_VCON_CONCURRENCY="2", **limits)
    (overdue,) = push(client, "in", [vcon(subject=f"gate:{tmp_path / 'never'}")])
    daemon.until(lambda: runs(client, overdue) == 1)
    others = push(client, "in", [vcon(subject="sleep:0.2") for _ in range(10)])
    daemon.until(lambda: elements(client, "DLQ:in") == [overdue], LONG_S)
    daemon.until(arrived(client, *others), LONG_S)
    assert runs(client, overdue) == 2
    # Who ran beside it is done once more, and no suspect: it does not wait for a turn alone.
    assert max(runs(client, uuid) for uuid in others) <= 2
    limits_passed = daemon.events("hard_time_limit_passed")
    assert {line["vcon"] for line in limits_passed} == {overdue}
    assert {line["link"] for line in limits_passed} == {"trouble"}


def test_workers_are_recycled_without_a_trace_in_the_work(
    start: Start, client: redis.Redis
) -> None:
    daemon = start(workers=2, CONSERVER_MAX_ITEMS_PER_WORKER="10")
    uuids: list[str] = []
    while len(daemon.events("worker_recycled")) < 3:
        uuids += push(client, "in", [vcon() for _ in range(15)])
        daemon.until(arrived(client, *uuids), LONG_S)
    assert all(runs(client, uuid) == 1 for uuid in uuids)
    assert daemon.events("child_died") == []
    assert daemon.stop() == 0


def test_a_worker_that_grows_is_recycled(start: Start, client: redis.Redis) -> None:
    # A megabyte: everybody is beyond it from the first look on.
    daemon = start(CONSERVER_MAX_WORKER_MEMORY="1M")
    (uuid,) = push(client, "in", [vcon()])
    daemon.until(arrived(client, uuid))
    assert "MiB of memory" in daemon.event("worker_recycled", 15)["spent"]
    daemon.until(lambda: len(daemon.events("child_ready", child="worker 1")) >= 2)


def test_a_worker_that_is_told_to_end_finishes_and_is_replaced(
    start: Start, client: redis.Redis, tmp_path: Path
) -> None:
    daemon = start()
    gate = tmp_path / "gate"
    (uuid,) = push(client, "in", [vcon(subject=f"gate:{gate}")])
    daemon.until(lambda: runs(client, uuid) == 1)
    daemon.signal(signal.SIGTERM, daemon.worker(1))
    daemon.event("draining", worker=1)
    gate.touch()
    daemon.until(arrived(client, uuid))
    daemon.until(lambda: len(daemon.events("child_ready", child="worker 1")) == 2)
    (second,) = push(client, "in", [vcon()])
    daemon.until(arrived(client, uuid, second))
    assert runs(client, uuid) == 1
    assert daemon.events("child_died") == []


def test_a_signal_to_the_coordinator_alone_changes_nothing(
    start: Start, client: redis.Redis
) -> None:
    daemon = start(TICK_INTERVAL="3600000")
    coordinator = daemon.coordinator
    daemon.signal(signal.SIGTERM, coordinator)
    daemon.signal(signal.SIGHUP, coordinator)
    for _ in range(3):  # Only a bell can wake the worker here.
        (uuid,) = push(client, "in", [vcon()])
        daemon.until(lambda uuid=uuid: uuid in elements(client, "out"))  # type: ignore[misc]
    assert daemon.coordinator == coordinator


def test_a_reload_waits_for_the_link_that_runs(
    start: Start, client: redis.Redis, redis_url: str, tmp_path: Path
) -> None:
    daemon = start(workers=1)
    gate = tmp_path / "gate"
    (uuid,) = push(client, "in", [vcon(subject=f"gate:{gate}")])
    daemon.until(lambda: runs(client, uuid) == 1)
    daemon.write_config(configuration(redis_url, chain={"egress_lists": ["out", "also"]}))
    daemon.signal(signal.SIGHUP)
    daemon.event("worker_replaced_after_reload")
    gate.touch()
    daemon.until(lambda: len(daemon.events("child_ready", child="coordinator")) == 2, LONG_S)
    (second,) = push(client, "in", [vcon()])
    daemon.until(arrived(client, uuid, second))
    assert elements(client, "also") == [second]
    assert runs(client, uuid) == 1
    assert daemon.stop() == 0


def test_a_reload_with_a_link_that_does_not_exist_is_refused(
    start: Start, client: redis.Redis, redis_url: str
) -> None:
    daemon = start()
    worker = daemon.worker(1)
    daemon.write_config(configuration(redis_url, link={"module": "links.nowhere"}))
    daemon.signal(signal.SIGHUP)
    assert "links.nowhere" in daemon.event("reload_refused")["reason"]
    (uuid,) = push(client, "in", [vcon()])
    daemon.until(arrived(client, uuid))
    assert daemon.worker(1) == worker


def test_a_worker_that_dies_while_redis_is_away_is_made_good_for_when_it_is_back(
    start: Start, private: Private, tmp_path: Path
) -> None:
    server = private(Redis())
    with redis.Redis.from_url(server.url) as client:
        daemon = start(url=server.url)
        gate = tmp_path / "gate"
        (uuid,) = push(client, "in", [vcon(subject=f"gate:{gate}")])
        daemon.until(lambda: runs(client, uuid) == 1)
        server.pause()
        victim = daemon.worker(1)
        daemon.signal(signal.SIGKILL, victim)
        daemon.event("child_died", pid=victim)
        assert daemon.pids("worker") == []
        gate.touch()
        server.resume()
        daemon.until(arrived(client, uuid), LONG_S)
        assert runs(client, uuid) == 2
        assert daemon.stop() == 0


def test_a_stop_while_redis_is_away_keeps_to_its_deadline(
    start: Start, private: Private, tmp_path: Path
) -> None:
    server = private(Redis())
    with redis.Redis.from_url(server.url) as client:
        daemon = start(url=server.url, CONSERVER_SHUTDOWN_TIMEOUT_S="1")
        (uuid,) = push(client, "in", [vcon(subject=f"gate:{tmp_path / 'never'}")])
        daemon.until(lambda: runs(client, uuid) == 1)
        server.pause()
        assert daemon.stop(8) == 0
        assert daemon.events("orders_left_to_other_hosts")
        daemon.until(lambda: not daemon.everybody(), 3)
        server.resume()
        # Nobody has lost it: another host finds this one dead, and goes on.
        other = start(url=server.url, CONSERVER_LEASE_S="1")
        other.until(lambda: runs(client, uuid) == 2, LONG_S)


def test_supervisor_and_coordinator_killed_together_leave_it_to_another_host(
    start: Start, client: redis.Redis, tmp_path: Path
) -> None:
    doomed = start(workers=2, CONSERVER_LEASE_S="1")
    gate = tmp_path / "gate"
    (uuid,) = push(client, "in", [vcon(subject=f"gate:{gate}")])
    doomed.until(lambda: runs(client, uuid) == 1)
    coordinator = doomed.coordinator
    doomed.signal(signal.SIGKILL)
    doomed.signal(signal.SIGKILL, coordinator)
    doomed.until(lambda: not doomed.everybody(), 4)
    other = start(CONSERVER_LEASE_S="1")
    gate.touch()
    other.until(arrived(client, uuid), LONG_S)
    assert other.stop() == 0

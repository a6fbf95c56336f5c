"""`conserver run` beside its work: limits, planned replacements, signals to one child.

test_daemon.py has the basics of stops, deaths and reloads.
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
from tests.process.items import arrived, runs

Start = Callable[..., Daemon]

# Links and the watchdog take their time on a busy machine.
LONG_S = 30


@pytest.fixture
def start(redis_url: str, tmp_path: Path) -> Iterator[Start]:
    """Starts daemons whose link does what each vCon's subject says; ends them afterwards."""
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
    """One chain with the link tests.modules.trouble."""
    trouble = {"module": "tests.modules.trouble", "options": {"redis_url": redis_url}}
    main = {"links": ["trouble"], "ingress_lists": ["in"], "egress_lists": ["out"]}
    return {"links": {"trouble": trouble | (link or {})}, "chains": {"main": main | (chain or {})}}


@pytest.mark.parametrize(
    "limits",
    [{"link": {"hard_timeout_s": 2}}, {"chain": {"hard_timeout_s": 2}}],
    ids=["of the link", "of the chain"],
)
def test_a_hard_limit_costs_the_slow_item_alone(
    start: Start, client: redis.Redis, tmp_path: Path, limits: dict[str, Any]
) -> None:
    limits = {**limits, "chain": {**limits.get("chain", {}), "max_deliveries": 2}}
    daemon = start(CONSERVER_VCON_CONCURRENCY="2", **limits)
    (slow,) = push(client, "in", [vcon(subject=f"gate:{tmp_path / 'never'}")])
    daemon.until(lambda: runs(client, slow) == 1)
    others = push(client, "in", [vcon(subject="sleep:0.1") for _ in range(10)])
    daemon.until(lambda: elements(client, "DLQ:in") == [slow], LONG_S)
    daemon.until(arrived(client, others), LONG_S)
    assert runs(client, slow) == 2
    # An item that ran beside it runs once more, but is no suspect: it need not run alone.
    assert max(runs(client, uuid) for uuid in others) <= 2
    limits_passed = daemon.events("hard_time_limit_passed")
    assert {line["vcon"] for line in limits_passed} == {slow}
    assert {line["link"] for line in limits_passed} == {"trouble"}


def test_recycling_repeats_no_item(start: Start, client: redis.Redis) -> None:
    daemon = start(workers=2, CONSERVER_MAX_ITEMS_PER_WORKER="10")
    uuids: list[str] = []
    while len(daemon.events("worker_recycled")) < 3:
        uuids += push(client, "in", [vcon() for _ in range(15)])
        daemon.until(arrived(client, uuids), LONG_S)
    assert all(runs(client, uuid) == 1 for uuid in uuids)
    assert daemon.events("child_died") == []
    assert daemon.stop() == 0


def test_a_worker_that_grows_is_recycled(start: Start, client: redis.Redis) -> None:
    # Every worker uses more than a megabyte from the start.
    daemon = start(CONSERVER_MAX_WORKER_MEMORY="1M")
    (uuid,) = push(client, "in", [vcon()])
    daemon.until(arrived(client, [uuid]))
    assert "MiB of memory" in daemon.event("worker_recycled")["spent"]
    daemon.until(lambda: len(daemon.events("child_ready", child="worker 1")) >= 2)


def test_a_worker_that_gets_sigterm_drains_and_is_replaced(
    start: Start, client: redis.Redis, tmp_path: Path
) -> None:
    daemon = start()
    gate = tmp_path / "gate"
    (uuid,) = push(client, "in", [vcon(subject=f"gate:{gate}")])
    daemon.until(lambda: runs(client, uuid) == 1)
    daemon.signal(signal.SIGTERM, daemon.worker(1))
    daemon.event("draining", worker=1)
    gate.touch()
    daemon.until(arrived(client, [uuid]))
    daemon.until(lambda: len(daemon.events("child_ready", child="worker 1")) == 2)
    (second,) = push(client, "in", [vcon()])
    daemon.until(arrived(client, [uuid, second]))
    assert runs(client, uuid) == 1
    assert daemon.events("child_died") == []


def test_a_signal_to_the_coordinator_alone_changes_nothing(
    start: Start, client: redis.Redis
) -> None:
    daemon = start(TICK_INTERVAL="3600000")
    coordinator = daemon.coordinator
    daemon.signal(signal.SIGTERM, coordinator)
    daemon.signal(signal.SIGHUP, coordinator)
    for _ in range(3):  # Only a list waiter can wake the worker here.
        (uuid,) = push(client, "in", [vcon()])
        daemon.until(lambda uuid=uuid: uuid in elements(client, "out"))  # type: ignore[misc]
    assert daemon.coordinator == coordinator


def test_a_reload_waits_for_a_running_link(
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
    daemon.until(arrived(client, [uuid, second]))
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
    daemon.until(arrived(client, [uuid]))
    assert daemon.worker(1) == worker


def test_items_of_a_worker_that_died_while_redis_was_away_are_returned_when_it_is_back(
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
        daemon.until(arrived(client, [uuid]), LONG_S)
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
        daemon.until(lambda: not daemon.everybody())
        server.resume()
        # The item is not lost: another host reaps this one.
        other = start(url=server.url, CONSERVER_LEASE_S="1")
        other.until(lambda: runs(client, uuid) == 2, LONG_S)


def test_another_host_reaps_one_whose_supervisor_and_coordinator_were_killed(
    start: Start, client: redis.Redis, tmp_path: Path
) -> None:
    doomed = start(workers=2, CONSERVER_LEASE_S="1")
    gate = tmp_path / "gate"
    (uuid,) = push(client, "in", [vcon(subject=f"gate:{gate}")])
    doomed.until(lambda: runs(client, uuid) == 1)
    coordinator = doomed.coordinator
    doomed.signal(signal.SIGKILL)
    doomed.signal(signal.SIGKILL, coordinator)
    doomed.until(lambda: not doomed.everybody())
    other = start(CONSERVER_LEASE_S="1")
    gate.touch()
    other.until(arrived(client, [uuid]), LONG_S)
    assert other.stop() == 0

"""An operator replaces one worker of a running host: nothing is lost, and the status says why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import redis

from conserver.operations import hosts, workers
from conserver.queue import keys
from tests.daemon import Daemon, push, vcon
from tests.helpers import free_port
from tests.process.test_daemon import trouble


def test_a_worker_is_replaced_by_hand_and_nothing_is_lost(
    client: redis.Redis, redis_url: str, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"

    def worker() -> dict[str, Any]:
        [host] = hosts.read(client)
        return host.workers[0] if host.workers else {}

    port = str(free_port())  # With it workers meter what they do.
    with Daemon(
        tmp_path / "host", redis_url, trouble(redis_url), CONSERVER_METRICS_PORT=port
    ) as daemon:
        daemon.until(lambda: worker().get("state") in ("idle", "working"))
        before = worker()
        assert (before["ended"], before["restarts"]) == ("", 0)
        pushed = push(client, "in", [vcon(subject=f"gate:{gate}") for _ in range(20)])
        daemon.until(lambda: worker()["held"])
        workers.recycle(client, hosts.read(client)[0].id, 1, actor="ops")
        daemon.event("draining", worker=1)
        gate.touch()
        daemon.until(lambda: client.llen("out") == len(pushed))
        daemon.until(lambda: worker()["ended"] == "ended as planned: recycling")
        assert worker()["pid"] != before["pid"]
        assert worker()["restarts"] == 1
        [told] = daemon.events("worker_recycled")
        assert told["spent"] == "an operator"
        assert not daemon.events("child_died")
        # What the history is made of goes on when a worker is replaced.
        host = hosts.read(client)[0].id

        def counted() -> list[float]:
            text: Any = client.hget(keys.host(host), "chains")
            found: dict[str, list[float]] = orjson.loads(text)
            return found.get("main", [0.0])

        daemon.until(lambda: counted()[0] == len(pushed))
        assert sum(counted()[2:]) == len(pushed)
        # Each item ran once: the worker finished what it had begun.
        assert sorted(client.lrange("out", 0, -1)) == sorted(uuid.encode() for uuid in pushed)

"""One request reaches all hosts: each reloads, or refuses what it cannot use and goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import orjson
import redis

from conserver.operations import hosts, reload
from tests.command_line import ROOT
from tests.daemon import Daemon, push, vcon
from tests.process.items import arrived
from tests.process.test_daemon import trouble


def test_every_host_answers_for_itself(client: redis.Redis, redis_url: str, tmp_path: Path) -> None:
    with (
        Daemon(tmp_path / "good", redis_url, trouble(redis_url)) as good,
        Daemon(tmp_path / "bad", redis_url, trouble(redis_url)) as bad,
    ):
        good.until(lambda: [host.consumes for host in hosts.read(client)] == [True, True])
        first, kept = good.worker(), bad.worker()
        good.write_config(trouble(redis_url, ingress_lists=["in", "also"]))
        bad.write_config("chains: [this is: no config")
        # A coordinator that is killed meanwhile is replaced, and its successor reads on.
        bad.signal(signal.SIGKILL, bad.coordinator)
        done = subprocess.run(
            [sys.executable, "-m", "conserver", "reload", "--json", "--timeout", "60"],
            cwd=ROOT,
            env={**os.environ, "REDIS_URL": redis_url},
            capture_output=True,
            check=False,
        )
        assert done.returncode == 1
        found = {one["status"]: one for one in orjson.loads(done.stdout)}
        assert found.keys() == {"reloaded", "refused"}
        assert "no YAML" in found["refused"]["reason"]
        assert found["reloaded"]["reason"] == ""
        good.until(lambda: good.pids("worker") not in ([], [first]))
        [uuid] = push(client, "also", [vcon()])
        good.until(arrived(client, [uuid]))
        assert bad.pids("worker") == [kept]
        assert len(bad.events("reload_refused")) == len(good.events("reloaded")) == 1

        bad.write_config(trouble(redis_url))
        alone = found["refused"]["id"]
        request = reload.ask(client, actor="ops", host=alone)

        def reloaded() -> bool:
            answers = {one.id: one.status for one in reload.answers(client, request)}
            return answers[alone] == "reloaded"

        bad.until(reloaded)
        assert len(good.events("reloaded")) == 1

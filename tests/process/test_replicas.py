"""Two replicas of `conserver api` behind a proxy that gives each connection to the next of them.

What one of them took the other one knows: a client that polls through the proxy never gets 404.
"""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.daemon import Daemon, vcon
from tests.helpers import eventually, free_port
from tests.process.test_daemon import trouble
from tests.proxies import Proxy

JOBS = 40
LONG_S = 60


class RoundRobin(Proxy):
    """A proxy in front of several servers."""

    scheme = "http"

    def __init__(self, ports: list[int]) -> None:
        super().__init__()
        self._ports = itertools.cycle(ports)

    def serve(self, client: Any) -> None:
        with self.connect("replica", next(self._ports)) as server:
            self.pass_on(client, server)


@pytest.fixture
def proxy(redis_url: str, tmp_path: Path) -> Iterator[RoundRobin]:
    """In front of two replicas, with a daemon that does the work."""
    ports = [free_port(), free_port()]
    with ExitStack() as stack:
        uploads = str(tmp_path / "uploads")
        config = trouble(redis_url)
        daemon = Daemon(tmp_path / "host", redis_url, config, CONSERVER_UPLOAD_DIR=uploads)
        stack.enter_context(daemon)
        for port in ports:
            process = subprocess.Popen(
                [sys.executable, "-m", "conserver", "api", "--port", str(port)],
                env=daemon._environment,
                cwd=daemon.folder,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            stack.callback(process.wait)
            stack.callback(process.kill)
        found = stack.enter_context(RoundRobin(ports))
        # Each of two in a row is another one.
        eventually(lambda: ready(found) and ready(found), LONG_S)
        yield found


def ready(proxy: RoundRobin) -> bool:
    try:
        return httpx.get(f"{proxy.url}/readyz", timeout=LONG_S).status_code == 200
    except httpx.TransportError:
        return False


def test_a_job_is_known_to_every_replica_at_once(proxy: RoundRobin) -> None:
    def follow(number: int) -> set[int]:
        statuses = set()
        job = f"{proxy.url}/v1/jobs/job-{number}"
        body = {"list": "in", "vcon": vcon(), "job_id": f"job-{number}"}
        statuses.add(httpx.post(f"{proxy.url}/v1/jobs", json=body, timeout=LONG_S).status_code)

        def ended() -> bool:
            answer = httpx.get(job, timeout=LONG_S)  # over a connection of its own
            statuses.add(answer.status_code)
            return answer.status_code == 200 and answer.json()["status"] == "completed"

        eventually(ended, LONG_S)
        return statuses

    with ThreadPoolExecutor(8) as pool:
        seen = set().union(*pool.map(follow, range(JOBS)))
    assert seen == {202, 200}
    assert len(set(proxy.asked)) == 2


def test_an_upload_and_a_stream_cross_replicas(proxy: RoundRobin) -> None:
    for _ in range(4):
        offer = httpx.post(f"{proxy.url}/v1/uploads", timeout=LONG_S).json()
        sent = httpx.put(f"{proxy.url}{offer['url']}", content=b"sound", timeout=LONG_S)
        assert sent.status_code == 201
        body = {"list": "in", "upload": offer["upload_id"]}
        job = httpx.post(f"{proxy.url}/v1/jobs", json=body, timeout=LONG_S)
        assert job.status_code == 202
        events = httpx.get(f"{proxy.url}{job.json()['links']['events']}", timeout=LONG_S)
        assert events.status_code == 200
        assert '"status":"completed"' in events.text

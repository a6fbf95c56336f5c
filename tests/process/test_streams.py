"""A thousand open streams: what they cost the process that serves them, and Redis."""

from __future__ import annotations

import resource
import select
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis

from tests.clients import http_client
from tests.daemon import Daemon, vcon
from tests.helpers import ended, eventually, free_port
from tests.process.test_daemon import trouble
from tests.queues import Consumer, Queue

STREAMS = 1000
JOBS = 50
KIB_PER_STREAM_MAX = 64
"""Measured: 38. The bound catches a connection to Redis or a thread for each, which cost more."""

WAIT_S = 60


@pytest.fixture
def descriptors() -> Iterator[None]:
    """Enough of them for both ends of each stream."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * STREAMS + 500
    if hard != resource.RLIM_INFINITY and hard < wanted:
        pytest.skip(f"this test needs {wanted} file descriptors, and may have {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture
def api(tmp_path: Path, redis_url: str, descriptors: None) -> Iterator[tuple[int, httpx.Client]]:
    """A process that serves the API alone: its pid, and a client."""
    daemon = Daemon(tmp_path / "alone", redis_url, trouble(redis_url))
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "conserver", "api", "--port", str(port)],
        env=daemon._environment,
        cwd=daemon.folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    with ended(process), http_client(f"http://127.0.0.1:{port}", timeout=WAIT_S) as web:
        eventually(lambda: answers(web), WAIT_S)
        yield process.pid, web


def answers(web: httpx.Client) -> bool:
    try:
        return web.get("/readyz").status_code == 200
    except httpx.HTTPError:
        return False


def open_stream(web: httpx.Client, path: str) -> socket.socket:
    """A client of server-sent events that has asked and has read nothing yet."""
    made = socket.create_connection((web.base_url.host, web.base_url.port or 0), WAIT_S)
    made.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    return made


def read_until(streams: list[socket.socket], word: bytes) -> None:
    """Read from all of them until each has sent the word."""
    heard = dict.fromkeys(streams, b"")
    poll = select.poll()
    for one in streams:
        poll.register(one, select.POLLIN)
    by_number = {one.fileno(): one for one in streams}
    waiting, until_s = set(streams), time.monotonic() + WAIT_S
    while waiting:
        assert time.monotonic() < until_s, f"{len(waiting)} streams have not sent {word!r}"
        for number, _ in poll.poll(1000):
            one = by_number[number]
            part = one.recv(65_536)
            assert part, "the stream has ended"
            heard[one] += part
            if word in heard[one]:
                waiting.discard(one)
                poll.unregister(one)


def memory_kib(pid: int) -> int:
    """What the process has of its own in memory."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return sum(
        int(line.split()[1]) for line in text.splitlines() if line.startswith("Private_Dirty")
    )


def connections(client: redis.Redis) -> int:
    """How many clients Redis has."""
    info: Any = client.info("clients")
    return int(info["connected_clients"])


def test_a_thousand_streams_have_a_bounded_cost(
    api: tuple[int, httpx.Client], client: redis.Redis
) -> None:
    pid, web = api
    jobs = [web.post("/v1/vcons?list=in", json=vcon()).json() for _ in range(JOBS)]
    paths = [job["links"]["events"] for job in jobs]
    with ExitStack() as stack:
        warm = stack.enter_context(open_stream(web, paths[0]))
        read_until([warm], b"event: job")
        before_kib, before = memory_kib(pid), connections(client)
        threads = len(list(Path(f"/proc/{pid}/task").iterdir()))
        streams = [
            stack.enter_context(open_stream(web, paths[number % JOBS])) for number in range(STREAMS)
        ]
        read_until(streams, b"event: job")
        per_stream_kib = (memory_kib(pid) - before_kib) / STREAMS
        assert connections(client) <= before + 2
        assert len(list(Path(f"/proc/{pid}/task").iterdir())) < threads + 20  # A pool's.
        assert per_stream_kib < KIB_PER_STREAM_MAX

        # Each of them is told of a change, and the process serves others meanwhile.
        queue = Queue(client)
        worker = Consumer(queue, lists=("in",))
        worker.take(JOBS)
        assert web.get("/livez").status_code == 200
        read_until(streams, b'"status":"processing"')
        opened = len(list(Path(f"/proc/{pid}/fd").iterdir()))
        assert opened > STREAMS
    eventually(lambda: len(list(Path(f"/proc/{pid}/fd").iterdir())) < opened - STREAMS + 20, WAIT_S)
    assert web.get(jobs[0]["links"]["self"]).json()["status"] == "processing"

"""The API as a child of `conserver run`, and alone: starts, deaths, stops, reloads, addresses."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis

from conserver.queue import keys
from tests.clients import http_client
from tests.conftest import absent
from tests.daemon import Daemon, elements, vcon
from tests.helpers import eventually, free_port
from tests.process.test_daemon import trouble
from tests.process.test_jobs import JOBS, KILLS

Start = Callable[..., tuple[Daemon, httpx.Client]]
LONG_S = 60


@pytest.fixture
def start(redis_url: str, tmp_path: Path) -> Iterator[Start]:
    """Starts daemons with the API, each with a client for it."""
    with ExitStack() as stack:

        def launch(method: str = "fork", **environment: Any) -> tuple[Daemon, httpx.Client]:
            port = free_port()
            daemon = Daemon(
                tmp_path / "host",
                redis_url,
                trouble(redis_url),
                method,
                CONSERVER_API_PORT=str(port),
                **environment,
            )
            stack.enter_context(daemon)
            client = http_client(f"http://127.0.0.1:{port}", timeout=LONG_S)
            stack.enter_context(client)
            daemon.event("api_listens", LONG_S)
            return daemon, client

        yield launch


# Spawned it is in the next test.
@pytest.mark.parametrize("method", ["fork", "forkserver"])
def test_the_api_is_a_child_like_any_other(start: Start, method: str, client: redis.Redis) -> None:
    daemon, web = start(method)
    assert web.get("/readyz").json() == {"status": "ok", "redis": "ok"}
    job = web.post("/v1/vcons", params={"list": "in"}, json=vcon()).json()
    ended = web.get(job["links"]["self"], params={"wait": 60}).json()
    assert ended["status"] == "completed"

    # A death refuses no connection: the socket is the supervisor's.
    (pid,) = daemon.pids("api")
    daemon.signal(signal.SIGKILL, pid)
    with http_client(web.base_url, timeout=LONG_S) as fresh:
        assert fresh.get("/livez").status_code == 200
    assert daemon.pids("api") != [pid]

    # Asked over HTTP, the supervisor replaces the API too.
    (pid,) = daemon.pids("api")
    eventually(lambda: web.post("/v1/reload").status_code == 202)
    daemon.until(lambda: daemon.pids("api") not in ([], [pid]), LONG_S)
    with http_client(web.base_url, timeout=LONG_S) as fresh:
        assert fresh.get("/livez").status_code == 200
    assert daemon.stop() == 0


def test_a_signal_to_its_process_alone_drains_it(start: Start) -> None:
    daemon, web = start("spawn")
    assert web.get("/readyz").json() == {"status": "ok", "redis": "ok"}
    (pid,) = daemon.pids("api")
    daemon.signal(signal.SIGTERM, pid)
    daemon.until(lambda: daemon.pids("api") not in ([], [pid]), LONG_S)
    with http_client(web.base_url, timeout=LONG_S) as fresh:
        assert fresh.get("/livez").status_code == 200
    assert daemon.stop() == 0


def test_a_reload_with_a_faulty_file_of_tokens_is_refused(start: Start, tmp_path: Path) -> None:
    """The API that serves goes on with the tokens it has."""
    file = tmp_path / "tokens"
    file.write_text("")
    daemon, web = start("fork", CONSERVER_API_TOKENS_FILE=str(file))
    (pid,) = daemon.pids("api")
    file.write_text("{ no tokens")
    daemon.signal(signal.SIGHUP)
    refused = daemon.event("reload_refused", LONG_S)
    assert str(file) in str(refused)
    assert daemon.pids("api") == [pid]
    assert web.get("/livez").status_code == 200
    assert daemon.stop() == 0


def test_one_that_cannot_start_again_has_its_port_closed_until_it_can(
    start: Start, tmp_path: Path
) -> None:
    """Nobody would answer the connections that the supervisor's socket takes."""
    file = tmp_path / "tokens"
    file.write_text("")
    daemon, web = start("fork", CONSERVER_API_TOKENS_FILE=str(file))
    file.write_text("{ no tokens")
    daemon.signal(signal.SIGKILL, *daemon.pids("api"))
    closed = daemon.event("port_closed", LONG_S)
    assert (closed["child"], closed["port"]) == ("api", web.base_url.port)
    with http_client(web.base_url, timeout=LONG_S) as fresh:
        with pytest.raises(httpx.ConnectError):
            fresh.get("/livez")
        file.write_text("")
        daemon.until(lambda: len(daemon.events("api_listens")) == 2, LONG_S)
        assert fresh.get("/livez").status_code == 200
    assert len(daemon.events("port_closed")) == 1
    assert daemon.stop() == 0


def test_a_stop_finishes_requests_and_ends_streams(start: Start, tmp_path: Path) -> None:
    daemon, web = start()
    later = {"list": "in", "not_before": "2090-01-01T00:00:00Z"}
    job = web.post("/v1/vcons", params=later, json=vcon()).json()
    path = web.post("/v1/uploads").json()["url"]
    lines: list[str] = []
    follows = threading.Event()

    def follow() -> None:
        with web.stream("GET", job["links"]["events"]) as answer:
            for line in answer.iter_lines():
                lines.append(line)
                follows.set()

    stream = threading.Thread(target=follow)
    stream.start()
    assert follows.wait(LONG_S)
    url = web.base_url
    with closing(socket.create_connection((url.host, url.port or 0))) as upload:
        head = f"PUT {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\nab"
        upload.sendall(head.encode())
        eventually(lambda: list((daemon.folder / "uploads").glob(".*")))
        daemon.signal(signal.SIGTERM)
        stream.join(LONG_S)
        assert lines[0] == "retry: 1000"
        upload.sendall(b"cd")
        assert upload.recv(65_536).startswith(b"HTTP/1.1 201")
    assert daemon.wait() == 0


def test_a_reload_waits_for_a_drain_no_longer_than_a_stop_would(start: Start) -> None:
    daemon, web = start(CONSERVER_SHUTDOWN_TIMEOUT_S="3")
    (pid,) = daemon.pids("api")
    path = web.post("/v1/uploads").json()["url"]
    url = web.base_url
    with closing(socket.create_connection((url.host, url.port or 0))) as upload:
        head = f"PUT {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\nab"
        upload.sendall(head.encode())
        eventually(lambda: list((daemon.folder / "uploads").glob(".*")))
        daemon.signal(signal.SIGHUP)
        eventually(lambda: [e for e in daemon.events("draining") if "connections" in e], LONG_S)
        daemon.signal(signal.SIGSTOP, pid)  # As one whose event loop is stuck.
        daemon.until(lambda: daemon.pids("api") not in ([], [pid]), 20)
    assert not daemon.events("child_stalled")
    with http_client(url, timeout=LONG_S) as fresh:
        assert fresh.get("/livez").status_code == 200
    assert daemon.stop() == 0


def test_one_that_is_stuck_does_not_outlive_a_killed_supervisor(start: Start) -> None:
    daemon, web = start(CONSERVER_SHUTDOWN_TIMEOUT_S="3")
    (pid,) = daemon.pids("api")
    daemon.signal(signal.SIGSTOP, pid)
    daemon.signal(signal.SIGKILL)
    daemon.until(lambda: not daemon.pids(), 20)
    killed = daemon.event("orphan_killed")
    assert (killed["child"], killed["pid"]) == ("api", pid)
    with socket.create_server((web.base_url.host, web.base_url.port or 0)):
        pass  # The port is free for the next supervisor.


def test_one_that_still_serves_may_finish_after_a_killed_supervisor(start: Start) -> None:
    daemon, web = start(CONSERVER_SHUTDOWN_TIMEOUT_S="20")
    path = web.post("/v1/uploads").json()["url"]
    url = web.base_url
    with closing(socket.create_connection((url.host, url.port or 0))) as upload:
        head = f"PUT {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\nab"
        upload.sendall(head.encode())
        eventually(lambda: list((daemon.folder / "uploads").glob(".*")))
        daemon.signal(signal.SIGKILL)
        daemon.until(lambda: not daemon.pids("worker"), 20)
        upload.sendall(b"cd")
        assert upload.recv(65_536).startswith(b"HTTP/1.1 201")
    daemon.until(lambda: not daemon.pids(), 20)
    assert not daemon.events("orphan_killed")


# conserver without CAP_NET_BIND_SERVICE, which root has too: PR_CAPBSET_DROP before the exec.
WITHOUT_LOW_PORTS = """
import ctypes, os, sys
ctypes.CDLL(None).prctl(24, 10, 0, 0, 0)
os.execv(sys.executable, [sys.executable, "-m", "conserver", *sys.argv[1:]])
"""


def test_a_configuration_that_is_posted_is_in_force_soon(start: Start, client: redis.Redis) -> None:
    """vcon-server's POST /config: the workers serve what it says; a wrong one changes nothing."""
    daemon, web = start(CONSERVER_API_CONFIG_WRITES="true")
    config = web.get("/config").json()
    chain = next(iter(config["chains"].values()))
    wrong = {**config, "chains": {"main": {**chain, "links": ["nowhere"]}}}
    answer = web.post("/config", json=wrong)
    assert (answer.status_code, "nowhere" in answer.json()["detail"]) == (422, True)
    chain["ingress_lists"] = ["in", "posted"]
    assert web.post("/config", json=config).status_code == 204
    daemon.event("reloaded", LONG_S)
    job = "a-job-on-the-new-list"
    client.set("vcon:new", vcon_text("new"))
    client.rpush("posted", f"new#{job}")
    daemon.until(lambda: client.hget(keys.job(job), "status") == b"completed", LONG_S)
    assert daemon.stop() == 0


def vcon_text(uuid: str) -> bytes:
    return json.dumps(vcon(uuid=uuid)).encode()


def refused(
    tmp_path: Path,
    redis_url: str,
    *words: str,
    program: tuple[str, ...] = ("-m", "conserver"),
    **environment: str,
) -> tuple[int, str]:
    """The exit code and the messages of a command that does not start."""
    daemon = Daemon(tmp_path / "refused", redis_url, trouble(redis_url))
    found = subprocess.run(
        [sys.executable, *program, *words],
        env={**daemon._environment, **environment},
        cwd=daemon.folder,
        capture_output=True,
        text=True,
        timeout=LONG_S,
        check=False,
    )
    return found.returncode, found.stdout + found.stderr


@pytest.mark.parametrize("words", [("run",), ("api",)])
def test_an_address_in_use(tmp_path: Path, redis_url: str, words: tuple[str, ...]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        code, text = refused(tmp_path, redis_url, *words, CONSERVER_API_PORT=port)
    assert code == 69
    assert "another process does" in text
    assert "Traceback" not in text


@pytest.mark.parametrize("words", [("run",), ("api",)])
def test_a_port_that_needs_a_right(tmp_path: Path, redis_url: str, words: tuple[str, ...]) -> None:
    lowest = int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text())
    if lowest < 2:
        absent("on this machine everybody may use every port")
    program = ("-c", WITHOUT_LOW_PORTS)
    code, text = refused(tmp_path, redis_url, *words, program=program, CONSERVER_API_PORT="1")
    assert code == 69
    assert "below 1024" in text
    assert "Traceback" not in text


@pytest.mark.parametrize(
    ("environment", "code", "message"),
    [
        ({"CONSERVER_API_HOST": "203.0.113.1", "CONSERVER_API_TOKEN": "t"}, 69, "no such address"),
        ({"CONSERVER_API_HOST": "no.such.invalid", "CONSERVER_API_TOKEN": "t"}, 69, "resolved"),
        ({"CONSERVER_API_TOKENS_FILE": "nowhere"}, 78, "cannot be read"),
        ({"CONSERVER_API_PORT": "70000"}, 78, "CONSERVER_API_PORT"),
    ],
)
def test_what_else_is_refused(
    tmp_path: Path, redis_url: str, environment: dict[str, str], code: int, message: str
) -> None:
    given: dict[str, Any] = {"CONSERVER_API_PORT": str(free_port()), **environment}
    found, text = refused(tmp_path, redis_url, "run", **given)
    assert found == code, text
    assert message in text


def test_without_tokens_it_stays_on_loopback(start: Start) -> None:
    daemon, web = start(CONSERVER_API_HOST="0.0.0.0")
    assert daemon.events("api_serves_loopback_only")
    assert daemon.event("api_listens")["host"] == "127.0.0.1"
    assert web.get("/livez", headers={"Host": "evil.example"}).status_code == 421


@pytest.mark.parametrize("workers", [1, 3])
def test_alone_it_serves_and_ends(
    tmp_path: Path, redis_url: str, client: redis.Redis, workers: int
) -> None:
    daemon = Daemon(tmp_path / "alone", redis_url, trouble(redis_url))
    port = free_port()
    words = ["api", "--port", str(port), "--workers", str(workers)]
    process = subprocess.Popen(
        [sys.executable, "-m", "conserver", *words],
        env=daemon._environment,
        cwd=daemon.folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        with http_client(f"http://127.0.0.1:{port}", timeout=LONG_S) as web:
            eventually(lambda: _answers(web), LONG_S)
            job = web.post("/v1/vcons", params={"list": "in"}, json=vcon()).json()
            assert web.get(job["links"]["self"]).json()["status"] == "queued"
            assert web.post("/v1/reload").status_code == 409
            if workers > 1:
                killed = _children(process.pid)[0]
                os.kill(killed, signal.SIGKILL)
                eventually(lambda: len({*_children(process.pid)} - {killed}) == workers, LONG_S)
        process.send_signal(signal.SIGTERM)
        assert process.wait(LONG_S) == 0
    finally:
        process.kill()
        process.wait()


def _answers(web: httpx.Client) -> bool:
    try:
        return web.get("/livez").status_code == 200
    except httpx.ConnectError:
        return False


def _children(pid: int) -> list[int]:
    text: Any = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(one) for one in text.split()]


@pytest.mark.slow
def test_every_accepted_job_has_one_end_whoever_is_killed(
    start: Start, client: redis.Redis
) -> None:
    """CONSERVER_TEST_JOBS and CONSERVER_TEST_KILLS make it longer."""
    daemon, web = start("fork", CONSERVER_WORKERS="2")
    chance = random.Random(11)
    waiting = [f"job-{number}" for number in range(JOBS)]
    accepted: list[str] = []

    def submit_all() -> None:
        with http_client(web.base_url, timeout=LONG_S) as own:
            while waiting:
                with suppress(IndexError):
                    accepted.append(submit_one(own, waiting.pop()))

    def submit_one(own: httpx.Client, job: str) -> str:
        body = {"list": "in", "job_id": job, "vcon": vcon()}
        while True:
            # An answer that a death has swallowed is asked for again, under the same id.
            with suppress(httpx.TransportError):
                answer = own.post("/v1/jobs", json=body)
                assert answer.status_code in (200, 202), answer.text
                return job

    def enough(due: int) -> bool:
        return len(accepted) >= due

    threads = [threading.Thread(target=submit_all) for _ in range(4)]
    for thread in threads:
        thread.start()
    for number in range(1, KILLS + 1):
        due = number * JOBS // (KILLS + 1)
        daemon.until(partial(enough, due), LONG_S)
        victims = daemon.pids(("api", "worker", "coordinator")[number % 3])
        if victims:
            daemon.signal(signal.SIGKILL, chance.choice(victims))
    for thread in threads:
        thread.join(2 * LONG_S)
    assert sorted(accepted) == sorted(f"job-{number}" for number in range(JOBS))

    def statuses() -> set[bytes]:
        pipe = client.pipeline(transaction=False)
        for job in accepted:
            pipe.hget(keys.job(job), "status")
        return set(pipe.execute())

    daemon.until(lambda: statuses() == {b"completed"}, LONG_S)
    out = elements(client, "out")
    assert len(out) == len(set(out)) == JOBS
    assert daemon.stop() == 0

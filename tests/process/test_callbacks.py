"""Callbacks of jobs, from the submission to a receiver's HTTP server, whoever is killed."""

from __future__ import annotations

import base64
import os
import random
import signal
import threading
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
import redis
from standardwebhooks import Webhook

from conserver.queue import keys
from conserver.testing.http_server import Reply, serving
from tests.clients import http_client
from tests.daemon import Daemon, vcon
from tests.helpers import free_port
from tests.process.test_daemon import trouble

JOBS = int(os.environ.get("CONSERVER_TEST_JOBS", "100"))
KILLS = int(os.environ.get("CONSERVER_TEST_KILLS", "6"))
SECRET = "whsec_" + base64.b64encode(b"a secret of thirty-two bytes ....").decode()
LONG_S = 60


@contextmanager
def host(folder: Path, redis_url: str, **environment: str) -> Iterator[tuple[Daemon, httpx.Client]]:
    """A daemon with its API, that may deliver to loopback, and a client."""
    port = free_port()
    daemon = Daemon(
        folder,
        redis_url,
        trouble(redis_url),
        "fork",
        workers=2,
        CONSERVER_API_PORT=str(port),
        CONSERVER_CALLBACK_PRIVATE_ADDRESSES="true",
        CONSERVER_WEBHOOK_SECRET=SECRET,
        CONSERVER_CALLBACK_BACKOFF_S="0.2",
        **environment,
    )
    client = http_client(f"http://127.0.0.1:{port}", timeout=LONG_S)
    with daemon, client:
        daemon.event("api_listens", LONG_S)
        yield daemon, client


def body_of(url: str, deed: str = "nothing", **callback: Any) -> dict[str, Any]:
    """A job whose vCon does that, with a webhook."""
    return {"list": "in", "vcon": vcon(subject=deed), "callback": {"url": url, **callback}}


def test_the_ends_of_jobs_are_told_as_signed_webhooks(tmp_path: Path, redis_url: str) -> None:
    with host(tmp_path, redis_url) as (daemon, web), serving() as receiver:
        address = f"{receiver.url}/hook?secret=a-query-of-a-caller"
        deeds = {"nothing": "completed", "filter": "filtered", "reject:no": "failed"}
        jobs = {
            web.post("/v1/jobs", json=body_of(address, deed)).json()["id"]: status
            for deed, status in deeds.items()
        }

        def told() -> dict[str, Any]:
            """The last event of each job. A delivery whose answer is late is made again."""
            events = [Webhook(SECRET).verify(one.body, one.headers) for one in receiver.requests]
            assert all(one["type"] == f"job.{one['data']['status']}" for one in events)
            return {one["data"]["job_id"]: one["data"] for one in events}

        daemon.until(lambda: told().keys() == jobs.keys(), LONG_S)
        assert {job: data["status"] for job, data in told().items()} == jobs
        (failed,) = (data for data in told().values() if data["status"] == "failed")
        assert failed["error"]["message"] == "no"
        assert failed["error"]["where"] == "trouble"
        assert failed["error"]["type"] == "Rejected"
        for job in jobs:
            view = told_as(daemon, web, job, "delivered")
            assert "a-query-of-a-caller" not in orjson.dumps(view).decode()
        assert b"a-query-of-a-caller" not in daemon.log_file.read_bytes()

        def nothing_waits_there() -> bool:
            lists = {entry["name"] for entry in web.get("/v1/lists").json()}
            return keys.NOTIFICATIONS not in lists

        daemon.until(nothing_waits_there)
        assert daemon.stop() == 0


def test_a_delivery_that_fails_for_good_is_a_dead_letter_and_can_be_requeued(
    tmp_path: Path, redis_url: str
) -> None:
    replies = [*[Reply(500, b"out of order")] * 3, Reply(204, b"")]
    with host(tmp_path, redis_url) as (daemon, web), serving(*replies) as receiver:
        address = f"{receiver.url}/hook?secret=a-query-of-a-caller"
        job = web.post("/v1/jobs", json=body_of(address)).json()["id"]
        letter = daemon.event("dead_letter", LONG_S)
        assert letter["list"] == keys.NOTIFICATIONS
        assert "HTTP 500: out of order (tried 3 times)" in letter["error"]
        assert len({request.headers["webhook-id"] for request in receiver.requests}) == 1
        view = told_as(daemon, web, job, "failed")
        assert view["status"] == "completed"
        assert "HTTP 500" in view["notification"]["error"]
        letters = web.get("/v1/dead-letters", params={"list": keys.NOTIFICATIONS})
        assert "a-query-of-a-caller" not in letters.text
        found = web.post(
            "/v1/operations", json={"kind": "requeue", "filter": {"lists": [keys.NOTIFICATIONS]}}
        )
        assert found.status_code == 202, found.text
        daemon.until(lambda: len(receiver.requests) == 4, LONG_S)
        told_as(daemon, web, job, "delivered")
        assert (
            receiver.requests[-1].headers["webhook-id"]
            == (receiver.requests[0].headers["webhook-id"])
        )


def test_a_slow_receiver_keeps_no_other_item_waiting(tmp_path: Path, redis_url: str) -> None:
    """With one thread per worker: notifications have threads of their own."""
    slow = Reply(200, b"x" * 10_000, drip_s=0.5)
    with host(tmp_path, redis_url) as (daemon, web), serving(slow) as receiver:
        for _ in range(4):
            web.post("/v1/jobs", json=body_of(receiver.url))
        daemon.until(lambda: len(receiver.requests) >= 4, LONG_S)
        job = web.post("/v1/jobs", json={"list": "in", "vcon": vcon()}).json()
        path = job["links"]["self"]
        daemon.until(lambda: web.get(path, params={"wait": 30}).json()["status"] == "completed")


def told_as(daemon: Daemon, web: httpx.Client, job: str, status: str) -> dict[str, Any]:
    """The job, once that has become of its notification."""

    def look() -> dict[str, Any]:
        found: dict[str, Any] = web.get(f"/v1/jobs/{job}").json()
        return found if found["notification"]["status"] == status else {}

    return daemon.until(look, LONG_S)


class Receiver:
    """An HTTP server that keeps what it was told, and refuses every fifth call at first."""

    def __init__(self) -> None:
        self.ids: dict[str, set[str]] = defaultdict(set)  # job -> the webhook-ids of its calls
        self.ends: dict[str, dict[str, Any]] = {}
        self.calls = 0
        lock, receiver = threading.Lock(), self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                event = Webhook(SECRET).verify(body, dict(self.headers.items()))
                job = event["data"]["job_id"]
                with lock:
                    receiver.calls += 1
                    refuse = receiver.calls % 5 == 0 and job not in receiver.ids
                    receiver.ids[job].add(self.headers["webhook-id"])
                    if not refuse:
                        receiver.ends[job] = event["data"]
                self.send_response(503 if refuse else 200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - http.server's
                """Write nothing."""

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}/told"
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,))
        self._thread.start()

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()


@pytest.mark.slow
def test_every_end_is_told_whoever_is_killed(tmp_path: Path, redis_url: str) -> None:
    """API, workers and coordinator are killed at random; a receiver refuses some calls."""
    chance = random.Random(11)
    deeds = {"nothing": "completed", "filter": "filtered", "reject:no": "failed"}
    expected: dict[str, str] = {}
    receiver = Receiver()
    with redis.Redis.from_url(redis_url) as client:
        try:
            with host(tmp_path, redis_url, CONSERVER_CALLBACK_TRIES="20") as (daemon, web):
                for number in range(JOBS):
                    deed = chance.choice(list(deeds))
                    job = f"job-{number}"
                    body = {**body_of(receiver.url, deed), "job_id": job}
                    submitted(daemon, web, json=body)
                    expected[job] = deeds[deed]
                    if number and number % max(JOBS // KILLS, 1) == 0:
                        titles = ["api", "worker 1 ", "worker 2 ", "coordinator"]
                        for pid in daemon.pids(chance.choice(titles)):
                            daemon.signal(signal.SIGKILL, pid)
                daemon.until(lambda: receiver.ends.keys() == expected.keys(), 2 * LONG_S)
                assert {job: end["status"] for job, end in receiver.ends.items()} == expected
                failures = [e["error"] for e in receiver.ends.values() if e["status"] == "failed"]
                assert {error["message"] for error in failures} == {"no"}
                assert Counter(map(len, receiver.ids.values())) == {1: JOBS}, "one id per end"
                daemon.until(lambda: not waiting(client), LONG_S)
                assert client.llen(keys.dead_letters(keys.NOTIFICATIONS)) == 0
        finally:
            receiver.close()


def submitted(daemon: Daemon, web: httpx.Client, **request: Any) -> None:
    """Until it is taken: the job's id makes a repetition harmless."""

    def taken() -> bool:
        with suppress(httpx.TransportError):
            return web.post("/v1/jobs", **request).status_code in (200, 202)
        return False

    daemon.until(taken, LONG_S)


def waiting(client: redis.Redis) -> int:
    """How many notifications are not delivered yet."""
    name = keys.NOTIFICATIONS
    held = sum(
        keys.NOTIFICATIONS.encode() in text
        for key in client.scan_iter(keys.inflight("*"))
        for text in client.hvals(key)
    )
    lists = (name, keys.returned(name), keys.suspects(name))
    return held + sum(client.llen(key) for key in lists) + client.zcard(keys.parked(name))

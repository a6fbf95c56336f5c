"""/metrics of a daemon: true numbers, over kill -9 and reloads, in formats that parsers read."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis
from prometheus_client import parser
from prometheus_client.openmetrics import parser as openmetrics_parser
from servers import Redis

from tests.clients import http_client
from tests.conftest import Private
from tests.daemon import Daemon, elements, push, vcon
from tests.helpers import TcpProxy, free_port
from tests.process.test_daemon import trouble
from tests.process.test_transcribers import CONFIG as SPEECH
from tests.process.test_transcribers import push as recordings

OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
OPEN: Any = openmetrics_parser.text_string_to_metric_families
PLAIN: Any = parser.text_string_to_metric_families
UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}")

Numbers = dict[str, dict[tuple[tuple[str, str], ...], float]]


class Host:
    """A daemon that serves metrics, and whoever scrapes it."""

    def __init__(self, daemon: Daemon, port: int) -> None:
        self.daemon = daemon
        self.port = port
        # A connection that is kept may belong to a coordinator that has just been replaced.
        once = httpx.Limits(max_keepalive_connections=0)
        self.client = http_client(f"http://127.0.0.1:{port}", timeout=60, limits=once)

    def get(self, path: str) -> httpx.Response:
        """An answer; asked again where the coordinator ends just now, as Prometheus does."""
        for _ in range(5):
            with contextlib.suppress(httpx.RemoteProtocolError, httpx.ReadError):
                return self.client.get(path)
        return self.client.get(path)

    def scrape(self, path: str = "/metrics") -> Numbers:
        """Sample name -> labels -> value."""
        answer = self.get(path)
        assert answer.status_code == 200, answer.text
        return numbers(PLAIN(answer.text))

    def total(self, name: str, **labels: str) -> float:
        """The sum over the series of /metrics with these labels."""
        found = self.scrape().get(name, {})
        wanted = set(labels.items())
        return sum(value for keys, value in found.items() if wanted <= set(keys))


Start = Callable[..., Host]


def numbers(families: Any) -> Numbers:
    """The samples of families, by name and labels."""
    found: Numbers = {}
    for family in families:
        for sample in family.samples:
            found.setdefault(sample.name, {})[tuple(sorted(sample.labels.items()))] = sample.value
    return found


@pytest.fixture
def start(redis_url: str, tmp_path: Path) -> Iterator[Start]:
    """Starts daemons that serve metrics."""
    with ExitStack() as stack:

        def launch(method: str = "fork", workers: int = 1, **environment: Any) -> Host:
            port = free_port()
            config = environment.pop("config", None) or trouble(redis_url)
            daemon = Daemon(
                tmp_path / "host",
                redis_url,
                config,
                method,
                workers,
                CONSERVER_METRICS_PORT=str(port),
                **environment,
            )
            stack.enter_context(daemon)
            daemon.event("metrics_listen", 60)
            host = Host(daemon, port)
            stack.enter_context(closing(host.client))
            return host

        yield launch


def work(client: redis.Redis, host: Host, count: int, **members: Any) -> None:
    """Push items, and wait until all are out."""
    out = len(elements(client, "out")) + count
    push(client, "in", (vcon(**members) for _ in range(count)))
    host.daemon.until(lambda: len(elements(client, "out")) == out, 60)


def replaced(daemon: Daemon, slot: int, pid: int) -> bool:
    """Whether another process is in that slot."""
    return daemon.pids(f"worker {slot} ") not in ([], [pid])


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_counters_go_on_over_kills_and_a_reload(
    start: Start, client: redis.Redis, method: str
) -> None:
    host = start(method, workers=2)
    daemon = host.daemon
    work(client, host, 20)
    daemon.until(lambda: host.total("conserver_items_total", outcome="done") == 20)
    # On a busy machine a worker may release some before it begins them, and claim them again.
    assert host.total("conserver_items_claimed_total", list="in") >= 20
    assert host.total("conserver_link_duration_seconds_count", link="tag") == 20
    assert host.total("conserver_item_duration_seconds_count", chain="main") == 20
    for slot in (1, 2):
        before = daemon.worker(slot)
        daemon.signal(signal.SIGKILL, before)
        daemon.until(partial(replaced, daemon, slot, before))
    assert host.total("conserver_items_total", outcome="done") == 20
    work(client, host, 20)
    daemon.until(lambda: host.total("conserver_items_total", outcome="done") == 40)
    daemon.until(lambda: host.total("conserver_worker_restarts_total") == 2)
    configured_at = host.total("conserver_config_reload_success_timestamp_seconds")
    daemon.signal(signal.SIGHUP)
    daemon.until(
        lambda: host.total("conserver_config_reload_success_timestamp_seconds") > configured_at
    )
    work(client, host, 20)
    daemon.until(lambda: host.total("conserver_items_total", outcome="done") == 60)
    assert host.total("conserver_metrics_series_left_out") == 0


def test_a_killed_coordinator_refuses_no_scrape(start: Start, client: redis.Redis) -> None:
    """The socket is the supervisor's: a scrape waits for the next coordinator."""
    host = start()
    work(client, host, 3)
    host.daemon.until(lambda: host.total("conserver_items_total", outcome="done") == 3)
    for _ in range(3):
        host.daemon.signal(signal.SIGKILL, host.daemon.coordinator)
        assert host.total("conserver_items_total", outcome="done") == 3


def test_ends_failures_and_dead_letters(start: Start, client: redis.Redis, redis_url: str) -> None:
    host = start(config=trouble(redis_url, retries=1))
    push(client, "in", [vcon(subject="filter"), vcon(subject="fail"), vcon(subject="reject")])
    client.rpush("in", "not-there")
    host.daemon.until(lambda: client.llen("DLQ:in") == 3, 60)
    host.daemon.until(lambda: host.total("conserver_items_total") == 4)
    assert host.total("conserver_items_total", outcome="filtered") == 1
    assert host.total("conserver_items_dead_lettered_total", reason="failed") == 1
    assert host.total("conserver_items_dead_lettered_total", reason="rejected") == 2
    assert host.total("conserver_attempts_failed_total", link="trouble") >= 2
    assert host.total("conserver_items_parked_total", cause="retry") == 1


def test_a_storage_that_is_away(
    start: Start, client: redis.Redis, redis_url: str, tmp_path: Path
) -> None:
    folder = tmp_path / "vcons"
    config = trouble(redis_url, storages=["files"])
    config["storages"] = {"files": {"module": "storage.file", "options": {"path": str(folder)}}}
    host = start(config=config)
    work(client, host, 2)
    host.daemon.until(lambda: host.total("conserver_storage_writes_total", outcome="stored") == 2)
    assert host.total("conserver_storage_write_duration_seconds_count", storage="files") >= 1
    assert host.total("conserver_storage_up", storage="files") == 1


def test_the_processes_at_this_moment(start: Start, client: redis.Redis, tmp_path: Path) -> None:
    host = start(workers=2, CONSERVER_VCON_CONCURRENCY="3")
    gate = tmp_path / "gate"
    push(client, "in", [vcon(subject=f"gate:{gate}")])
    host.daemon.until(lambda: host.total("conserver_worker_busy_threads") == 1)
    assert host.total("conserver_worker_held_items") == 1
    host.daemon.until(lambda: host.total("conserver_worker_up") == 2)
    assert host.total("conserver_worker_threads", slot="1") == 3
    host.daemon.until(lambda: host.total("conserver_worker_memory_bytes", slot="2") > 1 << 20)
    assert host.total("conserver_host_running") == 1
    assert host.total("conserver_redis_up") == 1
    assert 0 < host.total("conserver_redis_round_trip_seconds") < 60
    gate.touch()
    host.daemon.until(lambda: host.total("conserver_worker_busy_threads") == 0)


def test_a_refused_reload_shows(start: Start) -> None:
    host = start()
    assert host.total("conserver_config_last_reload_successful") == 1
    host.daemon.write_config("chains: 7")
    host.daemon.signal(signal.SIGHUP)
    host.daemon.until(lambda: host.total("conserver_config_last_reload_successful") == 0)


def test_queues_are_told_once_and_apart(start: Start, client: redis.Redis, tmp_path: Path) -> None:
    host = start()
    gate = tmp_path / "gate"
    push(client, "in", [vcon(subject=f"gate:{gate}"), *(vcon() for _ in range(300))])
    client.rpush("DLQ:in", "u-1")
    client.hset("conserver:control", "paused:other", 1)
    host.daemon.until(lambda: host.total("conserver_worker_busy_threads") == 1)

    def age_s() -> float:
        ages = host.scrape("/metrics/queues")["conserver_list_oldest_age_seconds"]
        return ages[(("list", "in"),)]

    def consumed() -> bool:
        return host.scrape("/metrics/queues")["conserver_hosts"][(("state", "consuming"),)] == 1

    host.daemon.until(lambda: age_s() > 0)  # Also while nothing finishes.
    host.daemon.until(consumed)
    found = host.scrape("/metrics/queues")
    items = found["conserver_list_items"]
    waiting = sum(items[(("list", "in"), ("state", where))] for where in ("queued", "returned"))
    [(_, held)] = found["conserver_in_flight_items"].items()
    assert waiting + held == 301
    assert found["conserver_dead_letters"][(("list", "in"),)] == 1
    assert found["conserver_list_paused"] == {(("list", "in"),): 0, (("list", "other"),): 1}
    assert found["conserver_list_served"] == {(("list", "in"),): 1, (("list", "other"),): 0}
    assert not found.keys() & host.scrape().keys(), "a name is told at one place only"
    gate.touch()


def test_no_name_is_told_by_both_pages_and_no_label_grows(
    start: Start, client: redis.Redis
) -> None:
    """However many items there are, the series are as many as the configuration makes."""
    host = start()

    def series() -> int:
        return sum(len(found) for found in host.scrape().values())

    work(client, host, 5)
    host.daemon.until(lambda: host.total("conserver_items_total", outcome="done") == 5)
    before = series()
    work(client, host, 200)
    host.daemon.until(lambda: host.total("conserver_items_total", outcome="done") == 205)
    # One that tells of an item that waited long, say, may come later; none comes with each item.
    assert series() < before + 20
    text = host.client.get("/metrics").text
    assert not UUID.search(text)


def test_openmetrics_by_the_accept_header(start: Start, client: redis.Redis) -> None:
    host = start()
    work(client, host, 3)
    for path in ("/metrics", "/metrics/queues"):

        def the_same(path: str = path) -> bool:
            answer = host.client.get(path, headers={"Accept": OPENMETRICS})
            assert answer.headers["content-type"].startswith("application/openmetrics-text")
            return numbers(OPEN(answer.text)).keys() == host.scrape(path).keys()

        host.daemon.until(the_same)  # Workers tell a moment later what they have done.


def test_hostile_names_are_escaped(start: Start, client: redis.Redis, redis_url: str) -> None:
    name = 'in"} evil{x="\\\n'
    client.sadd("conserver:lists", name)
    client.rpush(name, "u-1")
    host = start()
    found = host.scrape("/metrics/queues")["conserver_list_items"]
    assert found[(("list", name), ("state", "queued"))] == 1


def test_redis_away(start: Start, redis_url: str, tmp_path: Path) -> None:
    """The host's own numbers are there; what Redis knows is an error that says so."""
    port = int(redis_url.rpartition(":")[2].partition("/")[0])
    with TcpProxy(port) as proxy:
        host = start(REDIS_URL=proxy.url(redis_url))
        proxy.refuse()
        host.daemon.until(lambda: host.total("conserver_redis_up") == 0, 60)
        answer = host.client.get("/metrics/queues")
        assert answer.status_code == 503
        assert "cannot be reached" in answer.text
        assert host.total("conserver_worker_threads") == 1


def test_what_is_no_request_is_answered_or_closed(start: Start) -> None:
    host = start()
    assert host.client.get("/").status_code == 404
    assert host.client.get("/metrics/../etc").status_code == 404
    assert host.client.post("/metrics").status_code == 405
    assert host.client.head("/metrics").status_code == 200
    for junk in (b"\0\0\r\n\r\n", b"GET\r\n\r\n", b"GET /metrics\r\n\r\n", b"x" * 100_000):
        with socket.create_connection(("127.0.0.1", host.port), 60) as raw:
            try:
                raw.sendall(junk)
                assert raw.recv(100) == b""
            except (ConnectionResetError, BrokenPipeError):
                continue
    assert host.total("conserver_worker_threads") == 1
    assert not host.daemon.events("metrics_failed")


def test_off_means_not_imported(redis_url: str, tmp_path: Path) -> None:
    """Without a port no process maps a library of ours for it, and nobody listens."""
    with Daemon(tmp_path / "host", redis_url, trouble(redis_url), "spawn") as daemon:
        for pid in daemon.pids():
            assert "prometheus" not in Path(f"/proc/{pid}/maps").read_text()
        assert not daemon.events("metrics_listen")


def test_it_binds_to_loopback_unless_told_otherwise(start: Start) -> None:
    host = start()
    told = host.daemon.event("metrics_listen")
    assert (told["host"], told["port"]) == ("127.0.0.1", host.port)


def test_a_port_that_is_taken_is_an_error_before_anything_runs(
    redis_url: str, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        daemon = Daemon(
            tmp_path / "host", redis_url, trouble(redis_url), CONSERVER_METRICS_PORT=str(port)
        )
        daemon.launch()
        assert daemon.wait() == os.EX_UNAVAILABLE
        assert "CONSERVER_METRICS_PORT" in daemon.log_file.read_text()


def test_speech_is_counted_by_transcriber_and_link(start: Start, client: redis.Redis) -> None:
    """And goes on when the transcriber is killed."""
    host = start(config=SPEECH)
    recordings(client, 3)
    host.daemon.until(lambda: client.llen("heard") == 3, 60)
    answered = partial(host.total, "conserver_speech_windows_total", outcome="answered")
    host.daemon.until(lambda: answered() == 3)
    assert host.total("conserver_speech_window_seconds_total", device="CPU") > 3
    assert (
        1
        <= host.total("conserver_speech_batch_rows_count")
        <= host.total("conserver_speech_batch_rows_sum")
    )
    assert host.total("conserver_speech_queue_wait_seconds_count") >= 1
    assert host.total("conserver_speech_batch_duration_seconds_sum") > 0
    host.daemon.until(lambda: host.total("conserver_speech_device_memory_bytes") > 1 << 20)
    host.daemon.until(lambda: host.total("conserver_audio_seconds_total", link="hear") > 3)
    assert host.total("conserver_transcription_seconds_total", chain="calls") > 0
    host.daemon.until(lambda: host.total("conserver_transcriber_up", device="CPU") == 1)
    [first] = host.daemon.pids("transcriber")
    host.daemon.signal(signal.SIGKILL, first)
    recordings(client, 2)
    host.daemon.until(lambda: client.llen("heard") == 5, 60)
    host.daemon.until(lambda: answered() == 5)
    host.daemon.until(lambda: host.total("conserver_transcriber_restarts_total") == 1)


def test_the_api_tells_the_same_of_its_host(
    start: Start, client: redis.Redis, redis_url: str
) -> None:
    """On its own port, with its own requests, which go on when it is killed."""
    api_port = str(free_port())
    host = start(CONSERVER_API_PORT=api_port)
    host.daemon.event("api_listens", 60)
    work(client, host, 5)
    with http_client(f"http://127.0.0.1:{api_port}", timeout=60) as web:

        def told() -> Numbers:
            return numbers(PLAIN(web.get("/metrics").text))

        def done() -> float:
            found = told().get("conserver_items_total", {})
            return sum(v for keys, v in found.items() if ("outcome", "done") in keys)

        host.daemon.until(lambda: done() == 5)
        web.get("/v1/lists")
        asked = partial(host.total, "conserver_http_requests_total", route="/v1/lists")
        host.daemon.until(lambda: asked() == 1)
        [first] = host.daemon.pids("api")
        host.daemon.signal(signal.SIGKILL, first)
        host.daemon.until(lambda: host.daemon.pids("api") not in ([], [first]))
        host.daemon.until(lambda: answers(web))
        web.get("/v1/lists")
        host.daemon.until(lambda: asked() == 2)
        host.daemon.until(lambda: told().get("conserver_worker_up"))


def answers(web: httpx.Client) -> bool:
    """Whether the API is there."""
    try:
        return web.get("/livez").status_code == 200
    except httpx.TransportError:
        return False


def test_hundreds_of_scrapes_leave_nothing_open(start: Start, client: redis.Redis) -> None:
    """Neither descriptors of the coordinator nor connections to Redis grow."""
    host = start()
    work(client, host, 3)
    # The worker is idle: a list waiter has its connection, too.
    host.daemon.until(lambda: any(one["cmd"] == "blmove" for one in client.client_list()))
    host.scrape("/metrics/queues")
    coordinator = Path(f"/proc/{host.daemon.coordinator}/fd")

    def opened() -> int:
        return len(list(coordinator.iterdir()))

    before = opened()
    connections = len(client.client_list())
    for _ in range(300):
        host.scrape()
    for _ in range(20):
        host.scrape("/metrics/queues")
    host.daemon.until(lambda: opened() <= before + 2)
    host.daemon.until(lambda: len(client.client_list()) <= connections + 1)


def test_a_coordinator_that_cannot_start_has_its_port_closed_until_the_next(
    start: Start, private: Private
) -> None:
    """A scrape of nobody would wait until its timeout."""
    server = private(Redis())
    host = start(REDIS_URL=server.url)
    daemon = host.daemon
    server.pause()  # No coordinator becomes ready.
    for starts in (2, 3):
        assert not daemon.events("port_closed")
        daemon.signal(signal.SIGKILL, daemon.coordinator)
        daemon.until(partial(_has_listened, daemon, starts), 60)
    closed = daemon.event("port_closed")
    assert (closed["child"], closed["port"]) == ("coordinator", host.port)
    assert host.get("/metrics").status_code == 200
    server.resume()
    assert daemon.stop() == 0


def _has_listened(daemon: Daemon, times: int) -> bool:
    return len(daemon.events("metrics_listen")) == times

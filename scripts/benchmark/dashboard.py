"""What the dashboard costs: `scripts/bench dashboard`.

One process of `conserver api` over a Redis of its own that holds 200 lists with items, parked
items and an hour of history, and two hosts with 100 workers each. The table has, each with its
target:

1. the overview and the page of workers: from the request to the last byte, the median, and the
   CPU time of the server for each;
2. what a browser loads for its first page;
3. what open tabs cost in CPU: one, and fifty with the same page.
"""

from __future__ import annotations

import argparse
import gzip
import os
import re
import statistics
import tempfile
import time
import urllib.request
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import orjson
import redis
from servers import Redis

from benchmark.api import Server
from conserver.queue import history, keys

LISTS = 200
HOSTS = 2
WORKERS = 100
TABS = 50
LOOK_S = 10.0


def fill(client: Any) -> None:
    """Lists, hosts and workers in all states."""
    now_s = time.time()
    number = int(now_s) // history.FINE.step_s
    names = [f"list-{at:03}" for at in range(LISTS)]
    pipe = client.pipeline(transaction=False)
    for at, name in enumerate(names):
        pipe.sadd(keys.LISTS, name)
        pipe.rpush(
            name, *[f"0199e0a4-7c1e-8b3a-9f11-{at:03}{item:09}" for item in range(at)] or "x"
        )
        if at % 10 == 0:
            record = f"\x01token 1 0 - {int(now_s * 1000)} 0 0 16 {name}\n"
            members = {f'{record}{{"owed":["pg{at % 3}"]}}{item}': 1e13 for item in range(300)}
            pipe.zadd(keys.parked(name), members)
        for ring in (history.FINE, history.COARSE):
            pipe.set(ring.key(name), bytes(ring.points * history.POINT_BYTES))
        for step in range(360):
            raw = history.pack(number - step, [float((step * at) % 97)] * 8)
            ring = history.FINE
            pipe.setrange(ring.key(name), ring.offset(number - step), raw)
        pipe.execute()
    for host in range(HOSTS):
        client.sadd(keys.HOSTS, f"host{host}")
        client.hset(keys.host(f"host{host}"), mapping=_host(host, names, now_s))


def _host(number: int, names: list[str], now_s: float) -> Any:
    item = {"chain": "main", "link": "transcribe", "phase": "running", "since_s": 12.3}
    workers = [
        {
            "slot": slot, "pid": 1000 + slot, "consumer": f"c{slot}", "state": "working",
            "restarts": slot % 3, "backoff_s": 0, "started_at": now_s - 9000, "idle": False,
            "ended": "ended as planned: recycling", "ended_at": now_s - 9000, "done": 12345,
            "failed": 3, "rss_bytes": 180 << 20, "away": ["pg1"] if slot == 1 else [], "held": 8,
            "items": [{**item, "uuid": f"0199e0a4-7c1e-8b3a-9f11-2d3c4b5a{slot:04}"}] * 8,
        }
        for slot in range(1, WORKERS + 1)
    ]  # fmt: skip
    return {
        "beat": f"{int(now_s * 1000) + 3_600_000}.1", "name": f"box-{number}", "version": "0.1.0",
        "lease_s": "30", "pid": "1", "state": "running", "started_at": str(now_s - 9000),
        "lists": orjson.dumps(names), "storages": orjson.dumps(["pg0", "pg1", "pg2"]),
        "workers": orjson.dumps(workers), "away": orjson.dumps({"pg1": now_s - 720}),
    }  # fmt: skip


class Visitor:
    """A browser without a cache, on one machine with the server."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self.base = f"http://127.0.0.1:{server.port}/ui/"

    def get(self, path: str = "") -> bytes:
        """A page or file, as it is sent, compressed."""
        request = urllib.request.Request(self.base + path, headers={"accept-encoding": "gzip"})
        with urllib.request.urlopen(request) as answer:
            found: bytes = answer.read()
            self.compressed = answer.headers.get("content-encoding") == "gzip"
            return found

    def text(self, path: str = "") -> str:
        """The same, readable."""
        found = self.get(path)
        return (gzip.decompress(found) if self.compressed else found).decode()

    def page_ms(self, path: str, times: int) -> tuple[float, float, float]:
        """The median and the longest time of a page in ms, and the server's CPU time for one."""
        before_s = self._server.cpu_s()
        took = []
        for _ in range(times):
            began_s = time.perf_counter()
            self.get(path)
            took.append((time.perf_counter() - began_s) * 1000)
        cpu_ms = (self._server.cpu_s() - before_s) * 1000 / times
        return statistics.median(took), max(took), cpu_ms

    def tabs_cpu(self, count: int, path: str = "") -> float:
        """The share of a core that the server needs while so many tabs show a page."""
        with ExitStack() as stack:
            for _ in range(count):
                stream = urllib.request.urlopen(f"{self.base}{path}?live=1")
                stack.enter_context(stream)
                stream.readline()
            time.sleep(2)
            before_s, began_s = self._server.cpu_s(), time.perf_counter()
            time.sleep(LOOK_S)
            return (self._server.cpu_s() - before_s) / (time.perf_counter() - began_s)


def measured(server: Server, times: int) -> list[tuple[str, str, str]]:
    """The rows: what, measured, target."""
    visitor = Visitor(server)
    _eventually(visitor.get)
    rows = []
    for path, name in (("", "the overview"), ("workers", "the page of workers")):
        median_ms, most_ms, cpu_ms = visitor.page_ms(path, times)
        told = f"{median_ms:.0f} ms (at most {most_ms:.0f}; {cpu_ms:.0f} ms of CPU)"
        rows.append((f"{name}, {LISTS} lists, {HOSTS * WORKERS} workers", told, "< 100 ms"))
    page = visitor.text()
    files = sorted(set(re.findall(r'(?:src|href)="(static/[^"]+)"', page)))
    sent = len(visitor.get()) + sum(len(visitor.get(file)) for file in files)
    whole = len(page) + sum(len(visitor.text(file)) for file in files if "svg" not in file)
    told = f"{sent / 1000:.0f} KB sent, {whole / 1000:.0f} KB unpacked"
    rows.append((f"the first page, {1 + len(files)} files", told, "< 150 KB"))
    one, many = visitor.tabs_cpu(1), visitor.tabs_cpu(TABS)
    rows.append(("one open tab", f"{one:.1%} of a core", ""))
    rows.append((f"{TABS} open tabs", f"{many:.1%} of a core", "one poller"))
    return rows


def _eventually(ask: Callable[[], Any]) -> None:
    until_s = time.monotonic() + 30
    while True:
        try:
            ask()
            return
        except OSError:
            if time.monotonic() > until_s:
                raise
            time.sleep(0.1)


def main(words: list[str]) -> int:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(
        prog="scripts/bench dashboard",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="a look, no figures to quote")
    asked = parser.parse_args(words)
    server_of_redis = Redis().start()
    try:
        with redis.Redis.from_url(server_of_redis.url) as client:
            fill(client)
        with tempfile.TemporaryDirectory() as folder:
            server = Server(Path(folder), server_of_redis.url)
            try:
                rows = measured(server, 5 if asked.quick else 50)
            finally:
                server.close()
    finally:
        server_of_redis.close()
    print(f"load of the machine at the end: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores\n")
    print("| | measured | target |\n|---|---|---|")
    for row in rows:
        print(f"| {' | '.join(row)} |")
    return 0

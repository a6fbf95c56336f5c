"""The servers of one sample: a Redis with AOF everysec, and what else the row needs, all of it
empty.

PostgreSQL is one cluster per run with a database per sample; S3 and Elasticsearch are stand-ins of
their own (see standins.py), or the real ones with a bucket and an index per sample.
"""

from __future__ import annotations

import itertools
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import redis
from servers import S3, Elasticsearch, Postgres, Redis, free_port
from servers.tree import family_of

SCRIPTS = Path(__file__).resolve().parents[1]
KEY, SECRET, REGION = S3.key, S3.secret, S3.region
# What a production server would spend on its own housekeeping is nobody's cost per item.
_REDIS = {
    "appendonly": "yes",
    "appendfsync": "everysec",
    "auto-aof-rewrite-percentage": "0",
    "enable-debug-command": "local",
}
_POSTGRES = {
    "fsync": "on",
    "autovacuum": "off",
    "max_wal_size": "8GB",
    "checkpoint_timeout": "60min",
    "shared_buffers": "256MB",
}
_START_TIMEOUT_S = 15


@dataclass
class Scene:
    """One sample's servers. `storages` is their part of a configuration."""

    redis_url: str
    client: redis.Redis
    storages: dict[str, dict[str, Any]]
    _roots: dict[str, int] = field(default_factory=dict)

    def pids(self) -> dict[str, list[int]]:
        """The processes of every server, by its name."""
        return {name: family_of(root) for name, root in self._roots.items()}

    def counters(self) -> tuple[int, int]:
        """How many commands Redis has carried out, those of scripts included, and how many calls of
        scripts.
        """
        stats: dict[str, dict[str, int]] = self.client.info("commandstats")
        calls = {name.removeprefix("cmdstat_"): one["calls"] for name, one in stats.items()}
        return sum(calls.values()), calls.get("evalsha", 0) + calls.get("eval", 0)


class Scenery:
    """Makes scenes. Holds what is too slow to be made for each of them."""

    def __init__(self, real: bool = False, delay_s: float = 0.0) -> None:
        self.real = real
        self.delay_s = delay_s
        self._stack = ExitStack()
        self._numbers = itertools.count(1)
        self._lasting: dict[str, Postgres | S3 | Elasticsearch] = {}

    def close(self) -> None:
        """End the lasting servers."""
        self._stack.close()

    @contextmanager
    def scene(self, *storages: str, delay_s: float | None = None) -> Iterator[Scene]:
        """Fresh servers: Redis and these storages ("postgres", "s3", "elasticsearch")."""
        delay_s = self.delay_s if delay_s is None else delay_s
        with ExitStack() as stack:
            server = stack.enter_context(Redis(_REDIS))
            client = stack.enter_context(redis.Redis.from_url(server.url, socket_timeout=None))
            scene = Scene(server.url, client, {}, {"redis": server.pid})
            for name in storages:
                options, root = getattr(self, f"_{name}")(stack, delay_s)
                scene.storages[name] = {"module": f"storage.{name}", "options": options}
                scene._roots[name] = root
            yield scene

    def _postgres(self, stack: ExitStack, delay_s: float) -> tuple[dict[str, Any], int]:
        import psycopg

        server = self._last("postgres", lambda: Postgres(_POSTGRES))
        assert isinstance(server, Postgres)
        name = f"bench{next(self._numbers)}"
        with psycopg.connect(server.url, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}".encode())
            # What was written before is on disk before the next sample begins.
            connection.execute("CHECKPOINT")
        return {"url": server.url_of(name)}, server.pid

    def _s3(self, stack: ExitStack, delay_s: float) -> tuple[dict[str, Any], int]:
        bucket = f"bench-{next(self._numbers)}"
        if self.real:
            server = self._last("s3", S3)
            url, root = server.url, server.pid
        else:
            url, root = standin(stack, "s3", delay_s)
        make_bucket(url, bucket)
        options = {
            "aws_bucket": bucket,
            "endpoint_url": url,
            "aws_access_key_id": KEY,
            "aws_secret_access_key": SECRET,
            "aws_region": REGION,
        }
        return options, root

    def _elasticsearch(self, stack: ExitStack, delay_s: float) -> tuple[dict[str, Any], int]:
        if self.real:
            server = self._last("elasticsearch", Elasticsearch)
            url, root = server.url, server.pid
        else:
            url, root = standin(stack, "elasticsearch", delay_s)
        return {"url": url, "index": f"bench{next(self._numbers)}"}, root

    def _last(self, name: str, make: Any) -> Postgres | S3 | Elasticsearch:
        """The server of this run, started when it is first needed."""
        if name not in self._lasting:
            self._lasting[name] = self._stack.enter_context(make())
        return self._lasting[name]


def standin(stack: ExitStack, kind: str, delay_s: float) -> tuple[str, int]:
    """Start a stand-in that lives as long as `stack`. Answers its URL and its pid."""
    port = free_port()
    command = [sys.executable, "-m", "benchmark.standins", kind, str(port), str(delay_s)]
    process = subprocess.Popen(command, cwd=SCRIPTS)
    stack.callback(process.wait)
    stack.callback(process.kill)
    deadline = time.monotonic() + _START_TIMEOUT_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
            continue
        return f"http://127.0.0.1:{port}", process.pid


def make_bucket(url: str, name: str) -> None:
    """Make a bucket there. Raises RuntimeError."""
    from storage.s3_http import Bucket, Key, Place

    bucket = Bucket(Place(f"{url}/{name}", REGION, lambda: Key(KEY, SECRET)), 10)
    answer = bucket.request("PUT", "")
    bucket.close()
    if not answer.ok:
        raise RuntimeError(f"no bucket: {answer.status} {answer.body!r}")

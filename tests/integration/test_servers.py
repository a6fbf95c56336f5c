"""The tests' own servers: they keep port and data over a restart, and a pause holds all of one."""

from __future__ import annotations

import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from servers import S3, Elasticsearch, Postgres, Redis
from servers.tree import birth_of

from tests.clients import S3Access
from tests.conftest import Private
from tests.helpers import TcpProxy, eventually


def test_redis_comes_back_with_its_append_only_file(private: Private) -> None:
    server = private(Redis({"appendonly": "yes", "appendfsync": "always"}))
    with redis.Redis.from_url(server.url) as client:
        client.set("kept", "1")
    first = server.pid

    server.kill()
    assert not server.alive
    server.start()

    assert server.pid != first
    with redis.Redis.from_url(server.url) as client:
        assert client.get("kept") == b"1"


def test_a_paused_postgres_answers_nobody_and_goes_on_afterwards(private: Private) -> None:
    server = private(Postgres())
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute("CREATE TABLE t AS SELECT 1 AS n")
        pid = connection.info.backend_pid

        server.pause()
        # An open connection's backend leads a process group of its own: it must be held too.
        assert Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"
        assert not server.answers()
        server.resume()

        assert connection.execute("SELECT n FROM t").fetchone() == (1,)
    server.restart()
    with psycopg.connect(server.url) as connection:
        assert connection.execute("SELECT n FROM t").fetchone() == (1,)


def test_s3_keeps_objects_and_checks_signatures(private: Private) -> None:
    server = private(S3())
    access = S3Access.of(server.settings())
    client = access.client()
    client.create_bucket(Bucket="kept")
    client.put_object(Bucket="kept", Key="a/b.json", Body=b"{}")
    server.restart()
    assert client.get_object(Bucket="kept", Key="a/b.json")["Body"].read() == b"{}"
    client.close()

    stranger = S3Access(server.url, server.key, "wrong", server.region).client()
    with pytest.raises(stranger.exceptions.ClientError, match="SignatureDoesNotMatch"):
        stranger.get_object(Bucket="kept", Key="a/b.json")
    stranger.close()


@pytest.mark.slow
@pytest.mark.timeout(600)  # it starts an Elasticsearch of its own
def test_elasticsearch_asks_for_its_password(elasticsearch_with_password: Elasticsearch) -> None:
    """That one comes back after a kill is shown by tests/fault/test_storage_away.py."""
    server = elasticsearch_with_password
    with pytest.raises(urllib.request.HTTPError) as refused:
        urllib.request.urlopen(f"{server.url}/_cluster/health")
    refused.value.close()
    assert refused.value.code == 401


def test_servers_end_with_the_process_that_started_them(tmp_path: Path) -> None:
    script = "from servers import Redis; r = Redis().start(); print(r.pid, r.folder, flush=True)"
    test_run = subprocess.Popen(
        [sys.executable, "-c", f"{script}; input()"],
        cwd=Path(__file__).parents[2] / "scripts",
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with test_run:
        assert test_run.stdout is not None
        pid, folder = test_run.stdout.readline().split()
        assert birth_of(int(pid)) is not None
        test_run.kill()
    eventually(lambda: birth_of(int(pid)) is None)
    eventually(lambda: not Path(folder).exists())


def test_session_servers(
    redis_url: str,
    postgres_url: str,
    s3: S3Access,
    s3_bucket: str,
    elasticsearch_url: str,
    elasticsearch_index: str,
) -> None:
    with redis.Redis.from_url(redis_url) as client:
        assert client.dbsize() == 0
    with psycopg.connect(postgres_url) as connection:
        row = connection.execute("SELECT current_database()").fetchone()
        assert row is not None
        assert row[0].startswith("conserver_test_")
    bucket_client = s3.client()
    bucket_client.create_bucket(Bucket=s3_bucket)
    bucket_client.put_object(Bucket=s3_bucket, Key="a", Body=b"1")
    bucket_client.close()
    request = urllib.request.Request(
        f"{elasticsearch_url}/{elasticsearch_index}/_doc/1",
        data=b"{}",
        method="PUT",
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request) as answer:
        assert answer.status == 201


@contextmanager
def _proxied(
    url: str, timeout_s: float = 60
) -> Iterator[tuple[TcpProxy, redis.Redis, redis.Redis]]:
    """A proxy, a client through it that repeats nothing, and a client beside it."""
    port = urlsplit(url).port
    assert port is not None
    never = Retry(NoBackoff(), 0)
    with (
        TcpProxy(port) as proxy,
        redis.Redis.from_url(proxy.url(url), retry=never, socket_timeout=timeout_s) as client,
        redis.Redis.from_url(url) as direct,
    ):
        yield proxy, client, direct


class TestTcpProxy:
    """The proxy before a real Redis."""

    def test_cut_before_leaves_the_command_undone(self, redis_session_url: str) -> None:
        with _proxied(redis_session_url) as (proxy, client, direct):
            direct.set("n", 0)
            proxy.cut_before(b"INCR")
            with pytest.raises(redis.ConnectionError):
                client.incr("n")
            assert direct.get("n") == b"0"
            assert client.incr("n") == 1
            assert proxy.cuts_done == 1

    def test_cut_after_leaves_the_command_done(self, redis_session_url: str) -> None:
        with _proxied(redis_session_url) as (proxy, client, direct):
            direct.set("n", 0)
            proxy.cut_after(b"INCR")
            with pytest.raises(redis.ConnectionError):
                client.incr("n")
            assert direct.get("n") == b"1"

    def test_stall_holds_and_flow_lets_go(self, redis_session_url: str) -> None:
        with _proxied(redis_session_url, timeout_s=3) as (proxy, client, _):
            client.ping()
            proxy.stall()
            with pytest.raises(redis.TimeoutError):
                client.ping()
            proxy.flow()
            assert client.ping()

    def test_refuse_looks_like_a_server_that_is_down(self, redis_session_url: str) -> None:
        with _proxied(redis_session_url) as (proxy, client, _):
            client.ping()
            proxy.refuse()
            with pytest.raises(redis.ConnectionError):
                client.ping()
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", proxy.port))
            proxy.start()
            assert client.ping()

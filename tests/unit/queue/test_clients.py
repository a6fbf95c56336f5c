"""clients.py: Redis URLs become connections that have timeouts and repeat nothing by themselves."""

from __future__ import annotations

import asyncio
import importlib.metadata
import shutil
import subprocess
import time
import traceback
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.exceptions import RedisError
from servers import Redis, ServerFailed, free_port
from servers.packages import docker_works

from conserver.config import settings
from conserver.config.redis_url import known_in_query
from conserver.errors import EXIT_CONFIG, BootError
from conserver.queue import clients
from tests.conftest import Private
from tests.helpers import TcpProxy

PLAIN = ["redis://localhost:6379/2", "unix:///run/redis.sock?db=2", "rediss://localhost/2"]
SENTINEL = "redis+sentinel://us%40er:p%3Aw@h1:26380,h2,[::1]:26381/main/2?sentinel_password=x"


@pytest.mark.parametrize("url", [*PLAIN, SENTINEL])
def test_every_connection_is_bounded_and_repeats_nothing(url: str) -> None:
    made: Any = clients.pool(url, timeout_s=0.7).make_connection()
    assert made.socket_timeout == 0.7
    assert made.retry.get_retries() == 0
    assert made.db == 2


@pytest.mark.parametrize("url", [*PLAIN, SENTINEL])
def test_every_connection_names_its_library_as_redis_py_would(url: str) -> None:
    made: Any = clients.pool(url).make_connection()
    assert made.driver_info.formatted_name == "redis-py"
    assert made.driver_info.lib_version == importlib.metadata.version("redis")


@pytest.mark.parametrize("url", [*PLAIN, SENTINEL])
def test_a_coordinator_may_have_a_connection_for_each_of_many_lists(url: str) -> None:
    pools: list[Any] = [clients.pool(url), clients.async_client(url).connection_pool]
    assert [pool.max_connections for pool in pools] == [10_000, 10_000]


def test_a_sentinel_url_names_sentinels_service_database_and_both_logins() -> None:
    pool: Any = clients.pool(SENTINEL)
    assert pool.service_name == "main"
    manager = pool.sentinel_manager
    nodes = [sentinel.connection_pool.connection_kwargs for sentinel in manager.sentinels]
    assert [(node["host"], node["port"]) for node in nodes] == [
        ("h1", 26380),
        ("h2", 26379),
        ("::1", 26381),
    ]
    assert {node["password"] for node in nodes} == {"x"}
    assert {node["socket_timeout"] for node in nodes} == {5.0}
    assert pool.connection_kwargs["username"] == "us@er"
    assert pool.connection_kwargs["password"] == "p:w"


def test_tls_through_sentinel_covers_both() -> None:
    url = "rediss+sentinel://h1/main?ssl_ca_certs=/ca.pem"
    pools: list[Any] = [clients.pool(url), clients.async_client(url).connection_pool]
    for pool in pools:
        assert "SSL" in pool.connection_class.__name__
        assert pool.connection_kwargs["ssl_ca_certs"] == "/ca.pem"
        guard = pool.sentinel_manager.sentinels[0].connection_pool
        assert "SSL" in guard.connection_class.__name__
        assert guard.connection_kwargs["ssl_ca_certs"] == "/ca.pem"


def test_parameters_of_tls_through_sentinel_have_their_types() -> None:
    pool: Any = clients.pool("rediss+sentinel://h1/main?ssl_check_hostname=no")
    assert pool.connection_kwargs["ssl_check_hostname"] is False


@pytest.mark.parametrize("scheme", ["redis", "rediss", "unix", "rediss+sentinel"])
def test_what_the_settings_let_into_a_url_makes_connections(scheme: str) -> None:
    values = {
        "socket_timeout": "1", "socket_connect_timeout": "1", "encoding": "utf-8", "protocol": "2",
        "ssl_cert_reqs": "none", "ssl_min_version": "771", "ssl_check_hostname": "no",
        "ssl_include_verify_flags": "VERIFY_X509_STRICT",
        "ssl_exclude_verify_flags": "[VERIFY_X509_STRICT, VERIFY_X509_PARTIAL_CHAIN]",
    }  # fmt: skip
    start = "unix:///run/x" if scheme == "unix" else f"{scheme}://h/0/"
    for name in known_in_query(scheme):
        url = f"{start}?{name}={values.get(name, '1').replace(' ', '%20')}"
        settings.load({"REDIS_URL": url})
        pools: list[Any] = [clients.pool(url), clients.async_client(url).connection_pool]
        for pool in pools:
            pool.make_connection()


def test_a_url_that_cannot_be_parsed_is_a_boot_error_that_does_not_quote_it() -> None:
    for make in (clients.pool, clients.client, clients.async_client):
        with pytest.raises(BootError, match="a Redis URL cannot be used") as caught:
            make("redis://:se/cret@localhost")
        assert caught.value.exit_code == EXIT_CONFIG
        assert "'se'" not in "".join(traceback.format_exception(caught.value))


def test_a_waiting_client_has_no_timeout_but_its_sentinels_have() -> None:
    pool: Any = clients.async_client(SENTINEL, timeout_s=None).connection_pool
    assert pool.connection_kwargs["socket_timeout"] is None
    guard = pool.sentinel_manager.sentinels[0].connection_pool
    assert guard.connection_kwargs["socket_timeout"] == 5.0


@pytest.mark.parametrize(
    "url",
    [
        "redis+sentinel://",
        "redis+sentinel://h1",
        "redis+sentinel:///main",
        "redis+sentinel://h1:port/main",
        "redis+sentinel://h1:99999/main",
        "redis+sentinel://h1,/main",
        "redis+sentinel://h1/main/zero",
        "redis+sentinel://[::1/main",
    ],
)
def test_a_sentinel_url_that_says_too_little_is_a_boot_error(url: str) -> None:
    with pytest.raises(BootError, match="redis\\+sentinel://host") as caught:
        clients.pool(url)
    assert caught.value.exit_code == EXIT_CONFIG


def test_a_client_waits_no_longer_than_its_timeout_for_a_frozen_server(private: Private) -> None:
    server = private(Redis())
    with clients.client(server.url, timeout_s=1.5) as client:
        client.ping()
        server.pause()
        began = time.monotonic()
        with pytest.raises(redis.TimeoutError):
            client.get("a")
        with pytest.raises(redis.TimeoutError):
            client.get("a")  # a new connection this time: its greeting is bounded too
        assert time.monotonic() - began < 20
        server.resume()


def test_a_command_whose_answer_was_lost_is_not_sent_again(redis_url: str) -> None:
    port = int(redis_url.rpartition(":")[2].partition("/")[0])
    with (
        TcpProxy(port) as proxy,
        clients.client(proxy.url(redis_url)) as client,
        clients.client(redis_url) as direct,
    ):
        proxy.cut_after(b"counter")
        with pytest.raises(redis.ConnectionError):
            client.incr("counter")
        assert direct.get("counter") == b"1"


def test_an_asyncio_client_does_not_send_a_command_again_either(redis_url: str) -> None:
    port = int(redis_url.rpartition(":")[2].partition("/")[0])

    async def count(url: str) -> None:
        async with clients.async_client(url) as client:
            with pytest.raises(redis.ConnectionError):
                await client.incr("counter")

    with TcpProxy(port) as proxy, clients.client(redis_url) as direct:
        proxy.cut_after(b"counter")
        asyncio.run(count(proxy.url(redis_url)))
        assert direct.get("counter") == b"1"


def test_unix_sockets(private: Private, tmp_path: Path) -> None:
    if docker_works():
        pytest.skip("a container's socket is inside it")
    path = tmp_path / "redis.sock"
    private(Redis({"unixsocket": str(path)}))
    with clients.client(f"unix://{path}?db=3") as client:
        assert client.ping() is True


def test_tls(private: Private, tmp_path: Path) -> None:
    if shutil.which("openssl") is None or docker_works():
        pytest.skip("needs openssl and a Redis of this machine")
    key, certificate, port = tmp_path / "key.pem", tmp_path / "cert.pem", free_port()
    words = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost"
    words += f" -addext subjectAltName=DNS:localhost -keyout {key} -out {certificate}"
    subprocess.run(words.split(), check=True, capture_output=True)
    key.chmod(0o644)
    options = {"tls-port": str(port), "tls-auth-clients": "no"}
    options |= {"tls-cert-file": str(certificate), "tls-key-file": str(key)}
    try:
        private(Redis(options))
    except ServerFailed:
        pytest.skip("this Redis was built without TLS")
    url = f"rediss://localhost:{port}?ssl_ca_certs={certificate}"
    with clients.client(url) as client:
        assert client.ping() is True
    with clients.client(f"rediss://localhost:{port}") as client, pytest.raises(RedisError):
        client.ping()  # nobody vouches for it

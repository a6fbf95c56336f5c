"""Redis URLs into connections: redis://, rediss://, unix://, redis+sentinel:// and
rediss+sentinel://.

    redis+sentinel://user:password@host1:26379,host2:26379/service/0
        ?sentinel_username=u&sentinel_password=p

Every connection is bounded: nothing here waits longer than its timeouts, and nothing is repeated
behind the caller's back (redis-py repeats each command by default; the queue repeats what it knows
to be safe, itself).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import parse_qsl, unquote, urlsplit

from conserver.errors import EXIT_CONFIG, BootError

if TYPE_CHECKING:
    import redis
    import redis.asyncio
    from redis.connection import ConnectionPool

SENTINEL_PORT = 26379
MAX_CONNECTIONS = 10_000  # redis-py stops at 100; a coordinator has one bell per list
SENTINEL_SCHEMES = ("redis+sentinel:", "rediss+sentinel:")


def _bounds(timeout_s: float, connect_timeout_s: float | None = None) -> dict[str, Any]:
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    return {
        "protocol": 2,
        "socket_timeout": timeout_s,
        "socket_connect_timeout": connect_timeout_s or min(timeout_s, 1.0),
        "socket_keepalive": True,
        "retry": Retry(NoBackoff(), 0),
        "retry_on_error": [],
        "max_connections": MAX_CONNECTIONS,
    }


def _sentinel_parts(url: str) -> tuple[list[tuple[str, int]], str, dict[str, Any], dict[str, Any]]:
    """(sentinels, service, arguments for the master, arguments for the sentinels) of a Sentinel
    URL.
    """
    try:
        parts = urlsplit(url)
        credentials, _, hosts = parts.netloc.rpartition("@")
        segments = [segment for segment in parts.path.split("/") if segment]
        nodes = [urlsplit("//" + host) for host in hosts.split(",")]
        sentinels = [(node.hostname or "", node.port or SENTINEL_PORT) for node in nodes]
        service, db = segments[0], int(segments[1]) if len(segments) > 1 else 0
        if not all(name for name, _ in sentinels):
            raise ValueError("a sentinel without a name")
    except (ValueError, IndexError):
        # Without its cause, which quotes the URL, and a password with it.
        raise BootError(
            "REDIS_URL: a Sentinel URL is redis+sentinel://host:26379,host:26379/service[/db]",
            EXIT_CONFIG,
        ) from None
    master: dict[str, Any] = {"db": db}
    username, _, password = credentials.partition(":")
    if username:
        master["username"] = unquote(username)
    if password:
        master["password"] = unquote(password)
    query = dict(parse_qsl(parts.query))
    guards: dict[str, Any] = {
        k.removeprefix("sentinel_"): v for k, v in query.items() if k.startswith("sentinel_")
    }
    if parts.scheme == "rediss+sentinel":
        tls: dict[str, Any] = {
            "ssl": True,
            **{k: _typed(k, v) for k, v in query.items() if k.startswith("ssl_")},
        }
        master |= tls
        guards |= tls
    return sentinels, service, master, guards


def _typed(name: str, value: str) -> Any:
    """The value of a parameter as redis-py reads it from the URLs that it knows itself."""
    from redis.connection import URL_QUERY_ARGUMENT_PARSERS

    parser: Any = URL_QUERY_ARGUMENT_PARSERS.get(name)
    return value if parser is None else parser(value)


def _refuse() -> NoReturn:
    """The settings let no such URL pass; an option of a link or a storage may be one."""
    raise BootError("a Redis URL cannot be used: is its port a number?", EXIT_CONFIG) from None


def pool(
    url: str, timeout_s: float = 5.0, connect_timeout_s: float | None = None
) -> ConnectionPool:
    """A pool of plain connections for `url`; `pool.make_connection()` gives one that belongs to the
    caller.
    """
    from redis.connection import ConnectionPool

    if url.startswith(SENTINEL_SCHEMES):
        from redis.sentinel import Sentinel, SentinelConnectionPool

        sentinels, service, master, guards = _sentinel_parts(url)
        manager = Sentinel(
            sentinels, sentinel_kwargs={**_bounds(timeout_s, connect_timeout_s), **guards}
        )
        return SentinelConnectionPool(
            service, manager, **master, **_bounds(timeout_s, connect_timeout_s)
        )
    bounds = _bounds(timeout_s, connect_timeout_s)
    if url.startswith("unix:"):
        del bounds["socket_keepalive"], bounds["socket_connect_timeout"]
    try:
        return ConnectionPool.from_url(url, **bounds)
    except ValueError:  # It quotes the URL.
        _refuse()


def client(url: str, timeout_s: float = 5.0) -> redis.Redis:
    """A client for commands and tools. Raises redis.RedisError at the first command when Redis is
    away.
    """
    import redis

    return redis.Redis.from_pool(pool(url, timeout_s))  # closed, it closes its connections too


def async_client(url: str, timeout_s: float | None = 5.0) -> redis.asyncio.Redis:
    """The same for asyncio. timeout_s None is for blocking commands: the caller bounds them."""
    import redis.asyncio as aioredis

    bounds = _bounds(timeout_s or 5.0)
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff

    bounds["retry"] = Retry(NoBackoff(), 0)
    bounds["socket_timeout"] = timeout_s
    if url.startswith(SENTINEL_SCHEMES):
        from redis.asyncio.sentinel import Sentinel

        sentinels, service, master, guards = _sentinel_parts(url)
        # A call to a sentinel is bounded even where the caller's own may wait for ever.
        bounded = bounds | {"socket_timeout": timeout_s or 5.0}
        manager = Sentinel(sentinels, sentinel_kwargs={**bounded, **guards})
        found: aioredis.Redis = manager.master_for(service, **master, **bounds)
        return found
    if url.startswith("unix:"):
        del bounds["socket_keepalive"], bounds["socket_connect_timeout"]
    try:
        return aioredis.Redis.from_url(url, **bounds)
    except ValueError:
        _refuse()

"""Makes connections for Redis URLs: redis://, rediss://, unix://, redis+sentinel:// and
rediss+sentinel://.

    redis+sentinel://user:password@host1:26379,host2:26379/service/0
        ?sentinel_username=u&sentinel_password=p

No connection waits longer than its timeouts, and no connection repeats a command. (redis-py's
default is to repeat every command. retrying_connection.py repeats the commands for which this is
safe.)
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
MAX_CONNECTIONS = 10_000  # redis-py's default is 100, but a coordinator needs one per list
SENTINEL_SCHEMES = ("redis+sentinel:", "rediss+sentinel:")


def _options(timeout_s: float, connect_timeout_s: float | None = None) -> dict[str, Any]:
    import redis
    from redis.backoff import NoBackoff
    from redis.driver_info import DriverInfo
    from redis.retry import Retry

    return {
        "protocol": 2,
        # By itself it would look its version up among all packages that are installed, which takes
        # 3 MB of every process.
        "driver_info": DriverInfo(lib_version=redis.__version__),
        "socket_timeout": timeout_s,
        "socket_connect_timeout": connect_timeout_s or min(timeout_s, 1.0),
        "socket_keepalive": True,
        "retry": Retry(NoBackoff(), 0),
        "retry_on_error": [],
        "max_connections": MAX_CONNECTIONS,
    }


def _sentinel_parts(url: str) -> tuple[list[tuple[str, int]], str, dict[str, Any], dict[str, Any]]:
    """Parse a Sentinel URL.

    Returns:
        (sentinels, service, options for the master, options for the sentinels)

    Raises:
        BootError: it is no Sentinel URL. The error's text does not quote the URL, because the URL
            may contain a password.
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
        # `from None`, because the cause quotes the URL.
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
    sentinel_options: dict[str, Any] = {
        k.removeprefix("sentinel_"): v for k, v in query.items() if k.startswith("sentinel_")
    }
    if parts.scheme == "rediss+sentinel":
        tls: dict[str, Any] = {
            "ssl": True,
            **{k: _typed(k, v) for k, v in query.items() if k.startswith("ssl_")},
        }
        master |= tls
        sentinel_options |= tls
    return sentinels, service, master, sentinel_options


def _typed(name: str, value: str) -> Any:
    """The value of a URL parameter in the type that redis-py gives it in a redis:// URL."""
    from redis.connection import URL_QUERY_ARGUMENT_PARSERS

    parser: Any = URL_QUERY_ARGUMENT_PARSERS.get(name)
    return value if parser is None else parser(value)


def _refuse() -> NoReturn:
    """Raise the error for a URL that redis-py refuses. Such a URL is an option of a link or a
    storage, because the URLs in settings are validated before.
    """
    raise BootError("a Redis URL cannot be used: is its port a number?", EXIT_CONFIG) from None


def pool(
    url: str, timeout_s: float = 5.0, connect_timeout_s: float | None = None
) -> ConnectionPool:
    """A pool of connections to `url`. Its `make_connection()` makes a connection that the caller
    must close.
    """
    from redis.connection import ConnectionPool

    if url.startswith(SENTINEL_SCHEMES):
        from redis.sentinel import Sentinel, SentinelConnectionPool

        sentinels, service, master, sentinel_options = _sentinel_parts(url)
        manager = Sentinel(
            sentinels,
            sentinel_kwargs={**_options(timeout_s, connect_timeout_s), **sentinel_options},
        )
        return SentinelConnectionPool(
            service, manager, **master, **_options(timeout_s, connect_timeout_s)
        )
    options = _options(timeout_s, connect_timeout_s)
    if url.startswith("unix:"):
        del options["socket_keepalive"], options["socket_connect_timeout"]
    try:
        return ConnectionPool.from_url(url, **options)
    except ValueError:  # its text quotes the URL
        _refuse()


def client(url: str, timeout_s: float = 5.0) -> redis.Redis:
    """A client for commands and tools. A command raises redis.RedisError if Redis is away."""
    import redis

    return redis.Redis.from_pool(pool(url, timeout_s))  # its close() closes the pool


def async_client(url: str, timeout_s: float | None = 5.0) -> redis.asyncio.Redis:
    """A client for asyncio. timeout_s None: no timeout, for blocking commands with their own."""
    import redis.asyncio as aioredis

    options = _options(timeout_s or 5.0)
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff

    options["retry"] = Retry(NoBackoff(), 0)
    options["socket_timeout"] = timeout_s
    if url.startswith(SENTINEL_SCHEMES):
        from redis.asyncio.sentinel import Sentinel

        sentinels, service, master, sentinel_options = _sentinel_parts(url)
        # Questions to a sentinel have a timeout even if the caller's own commands have none.
        bounded = options | {"socket_timeout": timeout_s or 5.0}
        manager = Sentinel(sentinels, sentinel_kwargs={**bounded, **sentinel_options})
        found: aioredis.Redis = manager.master_for(service, **master, **options)
        return found
    if url.startswith("unix:"):
        del options["socket_keepalive"], options["socket_connect_timeout"]
    try:
        return aioredis.Redis.from_url(url, **options)
    except ValueError:
        _refuse()

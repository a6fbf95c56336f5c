"""Sends one request to a URL that a caller of the API has named: a job's callback.

1. The host's IP address is checked as in addresses.py; redirects are not followed.
2. Connecting, reading and writing have time limits of their own, and so has the whole request. So
   a receiver that takes a byte a minute does not hold the thread for longer. Each request has a
   connection of its own.
3. If the environment names a proxy (storage.network), the connection goes through the proxy.
4. Messages name the URL without credentials and query.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from conserver.errors import ConserverError
from conserver.outbound import addresses
from conserver.outbound.addresses import named, network_errors, target_of
from conserver.outbound.endpoint import Patience
from storage import network
from storage.network import NetworkSettingsError, Proxy, Trust

if TYPE_CHECKING:
    import ssl

    import httpcore

_PIECE_BYTES = 64 * 1024
_ANSWER_BYTES_MAX = 64 * 1024
REMEDY = "callbacks go there only where CONSERVER_CALLBACK_PRIVATE_ADDRESSES is true"


@dataclass(frozen=True, slots=True)
class Limits:
    """Time limits of a request, in seconds, and whether it may go to private addresses."""

    connect_s: float = 30
    read_s: float = 120
    write_s: float = 120
    pool_s: float = 10
    total_s: float = 600
    allow_private_addresses: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """The receiver's answer: status, headers (names in lower case), the beginning of its text."""

    status: int
    headers: Mapping[str, str]
    text: str


class UnreachableError(ConserverError):
    """No answer came: the receiver, its network or the proxy is in trouble, or too slow."""


def send(
    method: str,
    url: str,
    headers: Mapping[str, str],
    content: bytes,
    limits: Limits,
    patience: Patience,
) -> Answer:
    """Send one request, and return its answer, of any status.

    Raises:
        Rejected: the URL is invalid, or its address is private.
        UnreachableError: no answer came. The receiver may have got the request.
    """
    target = target_of(url, method)
    proxy = None
    try:
        proxy = network.proxy_for(target)
        with _pool(target, proxy, limits, patience) as pool:
            answer = _exchange(pool, method, target, headers, content, limits)
        if proxy is not None and str(answer.status) == network.PROXY_LOGIN:
            raise UnreachableError(f"{method} {named(url)}: {network.wants_login(proxy)}")
        return answer
    except NetworkSettingsError as error:
        raise UnreachableError(f"{method} {named(url)}: {error}") from None
    except network_errors() as error:
        said = network.failure(error, proxy)
        raise UnreachableError(f"{method} {named(url)}: {said}") from None


def _exchange(
    pool: httpcore.ConnectionPool,
    method: str,
    target: str,
    headers: Mapping[str, str],
    content: bytes,
    limits: Limits,
) -> Answer:
    timeouts = {
        "connect": limits.connect_s,
        "read": limits.read_s,
        "write": limits.write_s,
        "pool": limits.pool_s,
    }
    sent = {"user-agent": "conserver", "accept": "*/*", **headers}
    sent["content-length"] = str(len(content))
    pairs = [(name.encode("ascii"), value.encode("latin-1")) for name, value in sent.items()]
    with pool.stream(
        method, target, headers=pairs, content=_pieces(content), extensions={"timeout": timeouts}
    ) as response:
        body = b""
        for chunk in response.iter_stream():
            body += chunk
            if len(body) >= _ANSWER_BYTES_MAX:
                break
        lowered = {
            name.decode("latin-1").lower(): value.decode("latin-1")
            for name, value in response.headers
        }
        return Answer(response.status, lowered, body.decode("utf-8", "replace"))


def _pieces(content: bytes) -> Iterator[bytes]:
    view = memoryview(content)
    for first in range(0, len(view), _PIECE_BYTES):
        yield bytes(view[first : first + _PIECE_BYTES])


def _pool(
    target: str, proxy: Proxy | None, limits: Limits, patience: Patience
) -> httpcore.ConnectionPool:
    """A pool for one connection. Raises Rejected if the target's address is private."""
    import httpcore

    from conserver.outbound.bounded import BoundedBackend  # It imports httpcore.

    trusted = network.trust()
    allow_private = limits.allow_private_addresses or proxy is not None
    backend = BoundedBackend(limits.total_s, patience.check_cancelled, allow_private, REMEDY)
    common: dict[str, Any] = {
        "ssl_context": _tls(trusted),
        "max_connections": 1,
        "network_backend": backend,
    }
    if proxy is None:
        return httpcore.ConnectionPool(**common)
    if not limits.allow_private_addresses:
        addresses.check_host(target, REMEDY)
    return _proxy_pool(proxy, trusted, common)


@functools.cache
def _tls(trusted: Trust) -> ssl.SSLContext:
    """The TLS context. It is made once per process, because reading the system's certificates takes
    tens of milliseconds."""
    return network.tls_context(trusted)


def _proxy_pool(proxy: Proxy, trusted: Trust, common: dict[str, Any]) -> httpcore.ConnectionPool:
    import httpcore

    login = (proxy.username.encode(), proxy.password.encode()) if proxy.username else None
    if proxy.is_socks:
        return httpcore.SOCKSProxy(f"socks5://{proxy.address}", proxy_auth=login, **common)
    if proxy.scheme == "https":
        common["proxy_ssl_context"] = _tls(trusted)
    return httpcore.HTTPProxy(proxy.url, proxy_auth=login, **common)

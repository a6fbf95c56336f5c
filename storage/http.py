"""Sends HTTP requests to one server, through the environment's proxy if there is one.

urllib3 makes the connections (TLS, proxies, SOCKS). storage.network names the proxy and the
certificates. Redirects are not followed, and no answer makes it repeat a request: the caller
decides.
"""

from __future__ import annotations

import contextlib
import http.client
import ssl
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias
from urllib.parse import urlsplit

from urllib3.connection import HTTPConnection, HTTPSConnection, ProxyConfig
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    NameResolutionError,
    NewConnectionError,
    ReadTimeoutError,
)
from urllib3.util import parse_url

from storage.network import (
    DEFAULT_PORTS,
    PROXY_LOGIN,
    Proxy,
    is_login_wanted,
    proxy_for,
    tls_context,
    trust,
    wants_login,
)

__all__ = ["BROKEN", "Answer", "Exchange", "Server", "Unanswered"]

# The exceptions of a failed connection.
BROKEN = (OSError, http.client.HTTPException, HTTPError)

_CONNECT_TIMEOUT_S = 10.0
_READ_BYTES = 65_536
# Errors of a connection that the server has closed while it was idle.
_STALE = (BrokenPipeError, ConnectionResetError, ConnectionAbortedError)


class Unanswered(ConnectionError):
    """No connection was made, so no request was sent. The caller can try another server."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A response, read whole. Header names are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def ok(self) -> bool:
        """Whether the request succeeded (2xx)."""
        return 200 <= self.status < 300

    @property
    def retry_after_s(self) -> float | None:
        """The wait in seconds that the server asks for; None without one."""
        value = self.headers.get("retry-after", "")
        return float(value) if value.isdigit() else None


# A function (connection, method, target, headers, body, deadline) that sends a request and reads
# the answer by the deadline (time.monotonic). It also returns whether the connection can be reused.
Exchange: TypeAlias = Callable[
    [HTTPConnection, str, str, dict[str, str], bytes, float], tuple[Answer, bool]
]


class Server:
    """One web server. Every method may be called from several threads at once."""

    def __init__(
        self, url: str, tls: ssl.SSLContext | None = None, exchange: Exchange | None = None
    ) -> None:
        """Makes no connection yet. Raises ValueError if `url` is not an http or https URL.

        Args:
            url: only its scheme, host and port are used.
            tls: the TLS context for https; by default one for the environment's certificates.
            exchange: sends a request and reads its answer; by default through urllib3.
        """
        parts = urlsplit(url)
        if parts.scheme not in DEFAULT_PORTS or not parts.hostname:
            raise ValueError(f"not an http or https URL: {parts.scheme}://{parts.hostname}")
        self.name = parts.netloc.rpartition("@")[2]
        self._host, self._port = parts.hostname, parts.port or DEFAULT_PORTS[parts.scheme]
        secure = parts.scheme == "https"
        self._tls = (tls or tls_context(trust())) if secure else None
        self._proxy = proxy_for(url)
        # Through an HTTP proxy, the target of a request without TLS must be a full URL.
        forwards = not secure and self._proxy is not None and not self._proxy.is_socks
        self._origin = f"http://{self.name}" if forwards else ""
        self._proxy_headers = _login(self._proxy)
        with_tls = self._proxy is not None and self._proxy.scheme == "https"
        self._proxy_tls = tls_context(trust()) if with_tls else None
        self._exchange = exchange or _exchange
        self._idle: deque[HTTPConnection] = deque()
        self._closed = False

    def request(
        self, method: str, target: str, body: bytes, headers: Mapping[str, str], deadline: float
    ) -> Answer:
        """Sends a request and reads the answer. The request may be sent twice.

        Args:
            headers: names in lower case.
            deadline: the time.monotonic() by which the call ends.

        Raises:
            Unanswered: no connection was made.
            TimeoutError: there was no answer in time.
            OSError and others of BROKEN: the connection broke.
        """
        sent = {"host": self.name, **headers}
        if self._origin:
            target = self._origin + target
            sent.update(self._proxy_headers)
        while True:
            try:
                connection = self._idle.pop()
            except IndexError:
                return self._ask(self._connection(), method, target, sent, body, deadline)
            try:
                return self._ask(connection, method, target, sent, body, deadline)
            except _STALE:
                # Try the next idle connection, and a new one after the last.
                continue

    def connect(self, timeout_s: float) -> None:
        """Opens a connection and keeps it for a request. Raises as `request`."""
        connection = self._connection()
        self._connect(connection, timeout_s)
        self._idle.append(connection)

    def close(self) -> None:
        """Closes idle connections. A connection in use is closed after its answer."""
        self._closed = True
        while self._idle:
            self._idle.pop().close()

    def _ask(
        self,
        connection: HTTPConnection,
        method: str,
        target: str,
        headers: dict[str, str],
        body: bytes,
        deadline: float,
    ) -> Answer:
        try:
            if connection.sock is None:
                left_s = deadline - time.monotonic()
                if left_s <= 0:
                    raise TimeoutError("no time left")
                self._connect(connection, min(left_s, _CONNECT_TIMEOUT_S))
            answer, again = self._exchange(connection, method, target, headers, body, deadline)
        except BaseException:
            connection.close()
            raise
        if again and not self._closed:
            self._idle.append(connection)
        else:
            connection.close()
        if str(answer.status) == PROXY_LOGIN and self._proxy is not None:
            raise Unanswered(wants_login(self._proxy))
        return answer

    def _connect(self, connection: HTTPConnection, timeout_s: float) -> None:
        connection.timeout = timeout_s
        proxy = self._proxy
        # The name of the peer in errors. Through a SOCKS proxy, either of the two may have failed.
        peer = self.name
        if proxy is not None:
            peer = f"{self.name} through {proxy}" if proxy.is_socks else str(proxy)
        try:
            connection.connect()
        except NameResolutionError as error:
            raise Unanswered(f"{peer} has no address: {error.__cause__}") from None
        except NewConnectionError as error:
            raise Unanswered(f"{peer} cannot be reached: {error.__cause__ or error}") from None
        except (TimeoutError, ConnectTimeoutError):
            raise Unanswered(f"{peer} did not connect in {timeout_s:g} s") from None
        except ssl.SSLError:
            connection.close()
            raise
        except OSError as error:
            connection.close()
            if proxy is None:
                raise Unanswered(f"{peer} cannot be reached: {error}") from None
            if is_login_wanted(str(error)):
                raise Unanswered(wants_login(proxy)) from None
            raise Unanswered(f"{proxy} does not connect to {self.name}: {error}") from None

    def _connection(self) -> HTTPConnection:
        """A new connection, not connected yet."""
        proxy = self._proxy
        if proxy is None:
            return _new(self._host, self._port, self._tls)
        if proxy.is_socks:
            from storage.http_socks import connection

            return connection(proxy, self._host, self._port, self._tls)
        proxy_tls = self._proxy_tls
        if self._tls is None:
            return _new(proxy.host, proxy.port, proxy_tls)
        tunnel = HTTPSConnection(
            proxy.host,
            proxy.port,
            ssl_context=self._tls,
            proxy=parse_url(proxy.url),
            proxy_config=ProxyConfig(proxy_tls, False, None, None),
        )
        tunnel.set_tunnel(self._host, self._port, self._proxy_headers, scheme=proxy.scheme)
        return tunnel


def _new(host: str, port: int, tls: ssl.SSLContext | None) -> HTTPConnection:
    if tls is None:
        return HTTPConnection(host, port)
    return HTTPSConnection(host, port, ssl_context=tls)


def _login(proxy: Proxy | None) -> dict[str, str]:
    authorization = proxy.authorization if proxy else None
    return {"proxy-authorization": authorization} if authorization else {}


def _exchange(
    connection: HTTPConnection,
    method: str,
    target: str,
    headers: dict[str, str],
    body: bytes,
    deadline: float,
) -> tuple[Answer, bool]:
    """Sends a request and reads its answer through urllib3; ends by the deadline."""
    _limit(connection, deadline)
    with contextlib.suppress(BrokenPipeError):
        # A server may refuse a large body and close before it has read all; its answer follows.
        connection.request(method, target, body or None, headers, preload_content=False)
    response = connection.getresponse()
    pieces: list[bytes] = []
    try:
        while piece := response.read(_READ_BYTES):
            pieces.append(piece)
            # Without a new limit here, an answer that trickles could take for ever.
            _limit(connection, deadline)
    except ReadTimeoutError:
        raise TimeoutError("the answer did not come whole in time") from None
    answered = {name.lower(): value for name, value in response.headers.items()}
    return Answer(response.status, answered, b"".join(pieces)), not connection.is_closed


def _limit(connection: HTTPConnection, deadline: float) -> None:
    left_s = deadline - time.monotonic()
    if left_s <= 0:
        raise TimeoutError("no time left")
    connection.timeout = left_s
    if connection.sock is not None:
        connection.sock.settimeout(left_s)

"""Sends HTTP requests to one server, through the proxy of the environment where it names one.

urllib3 makes the connections (TLS, proxies, SOCKS) and speaks HTTP over them; storage.network says
which proxy and which certificates. No redirect is followed and no answer is repeated: whoever asks
decides what an answer means.
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

# What a request raises when the connection failed. (urllib3's own errors are among the last.)
BROKEN = (OSError, http.client.HTTPException, HTTPError)

_CONNECT_TIMEOUT_S = 10.0
_READ_BYTES = 65_536
# A server may close an idle connection while the next request is under way to it.
_STALE = (BrokenPipeError, ConnectionResetError, ConnectionAbortedError)


class Unanswered(ConnectionError):
    """No connection came about, so that nothing was asked: another server can be tried."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A response, read whole. Header names are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def ok(self) -> bool:
        """Whether the request was carried out."""
        return 200 <= self.status < 300

    @property
    def retry_after_s(self) -> float | None:
        """In how many seconds the server wants to be asked again, if it says so."""
        value = self.headers.get("retry-after", "")
        return float(value) if value.isdigit() else None


# Sends a request (method, target, headers, body) over a connection and reads the answer until a
# moment of time.monotonic; also tells whether the connection can be used again.
Exchange: TypeAlias = Callable[
    [HTTPConnection, str, str, dict[str, str], bytes, float], tuple[Answer, bool]
]


class Server:
    """One web server. Every method may be called from several threads at once."""

    def __init__(
        self, url: str, tls: ssl.SSLContext | None = None, exchange: Exchange | None = None
    ) -> None:
        """Nothing is connected yet. Raises ValueError for what is no http or https URL.

        Args:
            url: only its scheme, host and port matter.
            tls: for https, whom to trust; by default as the environment says.
            exchange: how to send and read over a connection; by default as urllib3 does.
        """
        parts = urlsplit(url)
        if parts.scheme not in DEFAULT_PORTS or not parts.hostname:
            raise ValueError(f"not an http or https URL: {parts.scheme}://{parts.hostname}")
        self.name = parts.netloc.rpartition("@")[2]
        self._host, self._port = parts.hostname, parts.port or DEFAULT_PORTS[parts.scheme]
        secure = parts.scheme == "https"
        self._tls = (tls or tls_context(trust())) if secure else None
        self._proxy = proxy_for(url)
        # Over a proxy that speaks HTTP, a request without TLS names its server itself.
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
        """Sends a request, which must be one that may be repeated, and reads the answer.

        Args:
            headers: their names in lower case.
            deadline: the moment of time.monotonic by which it ends.

        Raises:
            Unanswered: no connection came about.
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
                # So it is repeated, until a fresh connection has failed.
                continue

    def connect(self, timeout_s: float) -> None:
        """Opens a connection and keeps it for a request. Raises as `request`."""
        connection = self._connection()
        self._connect(connection, timeout_s)
        self._idle.append(connection)

    def close(self) -> None:
        """Closes the connections; those in use close when their answer is read."""
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
        # Who did not answer: over a SOCKS proxy it is not known which of the two.
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
    """Sends and reads as urllib3 does; ends by the deadline."""
    _limit(connection, deadline)
    with contextlib.suppress(BrokenPipeError):
        # A server that refuses a large body closes before it has read all; its answer is there.
        connection.request(method, target, body or None, headers, preload_content=False)
    response = connection.getresponse()
    pieces: list[bytes] = []
    try:
        while piece := response.read(_READ_BYTES):
            pieces.append(piece)
            # A limit for each read does not stop an answer that trickles.
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

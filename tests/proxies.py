"""Small proxies on loopback: HTTP (CONNECT and forwarding, with or without TLS) and SOCKS5.

    with HttpProxy(login="u:p") as proxy:
        proxy.url, proxy.asked        asked: the `host:port` of every connection it was asked for

They connect every host to 127.0.0.1, whatever its name: a name that only a proxy knows shows that
the proxy looked it up.
"""

from __future__ import annotations

import base64
import contextlib
import selectors
import socket
import ssl
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self, cast

_TIMEOUT_S = 20
_CHUNK_BYTES = 65_536
_SOCKS_VERSION, _NO_LOGIN, _LOGIN, _NO_WAY = 5, 0, 2, 0xFF
_NAME, _IPV4, _IPV6 = 3, 1, 4


class Proxy:
    """A listener whose every connection is served by a thread."""

    scheme = ""

    def __init__(self, login: str = "", tls: ssl.SSLContext | None = None) -> None:
        self.login = login
        self.asked: list[str] = []
        self._tls = tls
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port: int = self._listener.getsockname()[1]
        self._threads: list[threading.Thread] = []

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        """Its URL, with the login that it wants."""
        login = f"{self.login}@" if self.login else ""
        return f"{self.scheme}://{login}{self.address}"

    def serve(self, client: socket.socket) -> None:
        """Serves one connection."""
        raise NotImplementedError

    def pass_on(
        self,
        client: socket.socket,
        server: socket.socket,
        change: Callable[[bytes], bytes] = lambda data: data,
    ) -> None:
        """Passes bytes both ways until both ends have closed. One thread does it: if one reads from
        a TLS connection while another writes to it, OpenSSL mixes up its records.

        change: what becomes of the client's bytes.
        """
        other = {client: server, server: client}
        with selectors.DefaultSelector() as waiting:
            for wire in other:
                waiting.register(wire, selectors.EVENT_READ)
            while waiting.get_map():
                # What TLS has read already does not show on the socket.
                ready = [wire for wire in _registered(waiting) if _has_more(wire)]
                if not ready and not (found := waiting.select(_TIMEOUT_S)):
                    return
                for wire in ready or [cast("socket.socket", key.fileobj) for key, _ in found]:
                    data = _received(wire)
                    if data:
                        other[wire].sendall(change(data) if wire is client else data)
                    elif data is not None:
                        waiting.unregister(wire)
                        _shut(other[wire])

    def connect(self, host: str, port: int) -> socket.socket:
        """A connection to that port of this machine."""
        self.asked.append(f"{host}:{port}")
        return socket.create_connection(("127.0.0.1", port), timeout=_TIMEOUT_S)

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _start(self, target: Callable[..., None], *arguments: object) -> threading.Thread:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        thread.start()
        return thread

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self._start(self._serve_one, client)

    def _serve_one(self, client: socket.socket) -> None:
        client.settimeout(_TIMEOUT_S)
        with contextlib.suppress(OSError, EOFError), contextlib.ExitStack() as open_sockets:
            open_sockets.enter_context(client)
            if self._tls is not None:
                # TLS takes the socket over: from here on the new one is to be closed.
                client = open_sockets.enter_context(self._tls.wrap_socket(client, server_side=True))
            self.serve(client)


class HttpProxy(Proxy):
    """CONNECT for https; for http it forwards what names its server in the request line."""

    def __init__(self, login: str = "", tls: ssl.SSLContext | None = None) -> None:
        super().__init__(login, tls)
        self.scheme = "https" if tls else "http"

    def serve(self, client: socket.socket) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            head += _some(client)
        lines = head.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")
        method, target, _ = lines[0].split(" ")
        if not self._is_let_in(lines):
            client.sendall(
                b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n"
                b'Proxy-Authenticate: Basic realm="x"\r\nConnection: close\r\n\r\n'
            )
            return
        place = target if method == "CONNECT" else target.split("/")[2]
        host, _, port = place.rpartition(":")
        with self.connect(host.strip("[]"), int(port)) as server:
            if method == "CONNECT":
                client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            else:
                # The server is told the path alone, as most expect it.
                path = "/" + target.split("/", 3)[3]
                server.sendall(head.replace(target.encode(), path.encode(), 1))
                self._rewrite_rest(client, server, target.encode())
                return
            self.pass_on(client, server)

    def _rewrite_rest(self, client: socket.socket, server: socket.socket, target: bytes) -> None:
        """Passes on with every further request line of this connection rewritten likewise."""
        origin = b"/".join(target.split(b"/")[:3])
        self.pass_on(client, server, lambda data: data.replace(b" " + origin + b"/", b" /"))

    def _is_let_in(self, lines: list[str]) -> bool:
        wanted = f"Basic {base64.b64encode(self.login.encode()).decode()}"
        given = [
            line.partition(":")[2].strip()
            for line in lines
            if line.lower().startswith("proxy-authorization:")
        ]
        return not self.login or given == [wanted]


class SocksProxy(Proxy):
    """SOCKS5, with a login or without."""

    scheme = "socks5h"

    def serve(self, client: socket.socket) -> None:
        _, count = _exactly(client, 2)
        methods = _exactly(client, count)
        wanted = _LOGIN if self.login else _NO_LOGIN
        if wanted not in methods:
            client.sendall(bytes([_SOCKS_VERSION, _NO_WAY]))
            return
        client.sendall(bytes([_SOCKS_VERSION, wanted]))
        if self.login:
            _exactly(client, 1)
            given = ":".join(_exactly(client, _exactly(client, 1)[0]).decode() for _ in range(2))
            client.sendall(bytes([1, given != self.login]))
            if given != self.login:
                return
        *_, kind = _exactly(client, 4)
        if kind == _NAME:
            host = _exactly(client, _exactly(client, 1)[0]).decode()
        else:
            family, length = (socket.AF_INET, 4) if kind == _IPV4 else (socket.AF_INET6, 16)
            host = socket.inet_ntop(family, _exactly(client, length))
        port = int.from_bytes(_exactly(client, 2), "big")
        with self.connect(host, port) as server:
            client.sendall(bytes([_SOCKS_VERSION, 0, 0, _IPV4, 127, 0, 0, 1, 0, 0]))
            self.pass_on(client, server)


def _some(wire: socket.socket) -> bytes:
    data = wire.recv(_CHUNK_BYTES)
    if not data:
        raise EOFError
    return data


def _exactly(wire: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = wire.recv(size - len(data))
        if not piece:
            raise EOFError
        data += piece
    return data


def _registered(waiting: selectors.BaseSelector) -> list[socket.socket]:
    return [cast("socket.socket", key.fileobj) for key in waiting.get_map().values()]


def _has_more(wire: socket.socket) -> bool:
    return isinstance(wire, ssl.SSLSocket) and wire.pending() > 0


def _received(wire: socket.socket) -> bytes | None:
    """What has come; b"" at the end, None if there is only a part of a TLS record."""
    wire.settimeout(0)
    try:
        return wire.recv(_CHUNK_BYTES)
    except (ssl.SSLWantReadError, BlockingIOError):
        return None
    except OSError:
        return b""
    finally:
        wire.settimeout(_TIMEOUT_S)


def _shut(wire: socket.socket) -> None:
    with contextlib.suppress(OSError):
        wire.shutdown(socket.SHUT_WR)

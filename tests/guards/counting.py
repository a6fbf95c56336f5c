"""How the guards count: with Redis's own statistics, and with a proxy that counts round trips.

A guard measures no time. It counts commands, round trips or bytes per item and compares them with
a limit, so that a change which makes an item more expensive fails on any machine, however loaded.
"""

from __future__ import annotations

import re
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit, urlunsplit

_REQUEST = re.compile(rb"(?:^|\n)(GET|PUT|POST|HEAD|DELETE) \S+ HTTP/1\.1\r\n")
_CHUNK_BYTES = 1 << 16


def figure(name: str, value: float, unit: str) -> None:
    """Print a figure: pytest shows it with -s, and when the guard fails."""
    print(f"guard: {name}: {value:.3g} {unit}")  # noqa: T201 - for a person


class Commands:
    """Commands that Redis has executed, by name, including those inside scripts."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def of(self, *names: str) -> int:
        """How many of these commands."""
        return sum(self.counts[name] for name in names)

    @property
    def inside(self) -> int:
        """All commands but the script calls themselves and those of the guard."""
        return sum(self.counts.values()) - self.of("evalsha", "eval", "info", "ping")


def _stats(client: Any) -> Counter[str]:
    found = client.info("commandstats")
    return Counter({name.partition("_")[2]: entry["calls"] for name, entry in found.items()})


@contextmanager
def commands(client: Any) -> Iterator[Commands]:
    """Count what is executed within the block."""
    counted = Commands()
    before = _stats(client)
    yield counted
    counted.counts = _stats(client) - before


class CountingProxy:
    """A TCP proxy in front of a local server.

    turns: round trips, each a message of the client and an answer. connections: how many were made.
    requests: HTTP requests by method.
    """

    def __init__(self, url: str) -> None:
        self._target = urlsplit(url)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._lock = threading.Lock()
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self.turns = 0
        self.connections = 0
        self.requests: Counter[str] = Counter()

    @property
    def url(self) -> str:
        """The target's URL with the proxy's port."""
        account, at, _ = self._target.netloc.rpartition("@")
        port = self._listener.getsockname()[1]
        return urlunsplit(self._target._replace(netloc=f"{account}{at}127.0.0.1:{port}"))

    def reset(self) -> None:
        """Set the counters of round trips and requests to zero."""
        with self._lock:
            self.turns = 0
            self.requests.clear()

    def __enter__(self) -> Self:
        self._spawn(self._accept)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for end in [self._listener, *self._sockets]:
            with suppress(OSError):  # not connected any more
                end.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(5)
        for end in [self._listener, *self._sockets]:
            end.close()

    def _spawn(self, target: Any, *arguments: Any) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self._target.port or 0))
            for end in (client, server):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._sockets += [client, server]
            self.connections += 1
            spoke = threading.Event()  # set while the client waits for an answer
            self._spawn(self._ask, client, server, spoke)
            self._spawn(self._answer, client, server, spoke)

    def _ask(self, client: socket.socket, server: socket.socket, spoke: threading.Event) -> None:
        for data in _chunks(client):
            with self._lock:
                if not spoke.is_set():
                    self.turns += 1
                spoke.set()
                self.requests.update(word.decode() for word in _REQUEST.findall(data))
            try:
                server.sendall(data)
            except OSError:
                break
        _end(server)

    def _answer(self, client: socket.socket, server: socket.socket, spoke: threading.Event) -> None:
        for data in _chunks(server):
            with self._lock:
                spoke.clear()
            try:
                client.sendall(data)
            except OSError:
                break
        _end(client)


def _chunks(source: socket.socket) -> Iterator[bytes]:
    while True:
        try:
            data = source.recv(_CHUNK_BYTES)
        except OSError:
            return
        if not data:
            return
        yield data


def _end(target: socket.socket) -> None:
    try:
        target.shutdown(socket.SHUT_WR)
    except OSError:
        return  # closed already

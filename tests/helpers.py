"""What tests share: waiting with a deadline, free ports, and a TCP proxy that misbehaves on order.

The proxy knows what a network can do to a command: lose it before the server saw it, lose the
answer after the server has carried it out, hold everything, or be slow.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TypeVar
from urllib.parse import urlsplit, urlunsplit

from servers import free_port

__all__ = ["LONG_S", "TcpProxy", "ended", "eventually", "free_port"]

LONG_S = 60.0
"""How long a test waits for what comes at once on an idle machine: others may be busy with it."""

_POLL_S = 0.01
# Those who wait take a fifth of a processor at most from the work that they wait for: after a look
# that took long, such as a search in a storage, the next one comes later.
_REST_PER_LOOK = 4
_POLL_S_MAX = 0.2
_CHUNK_BYTES = 65_536
_CONNECT_TIMEOUT_S = 20
# A word that is looked for can straddle two reads: this much of the last one is looked at again.
_OVERLAP_BYTES = 128

Result = TypeVar("Result")
Moment = Literal["before", "after"]


def open_files() -> set[tuple[int, int, int]]:
    """The descriptors of this process, each with what it refers to (device, inode).

    Compare two sets by difference only: at any moment the collector may close what an earlier test
    has left, and its numbers are used again.
    """
    found = set()
    for path in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # The listing itself used one.
            state = os.fstat(int(path.name))
            found.add((int(path.name), state.st_dev, state.st_ino))
    return found


def eventually(
    predicate: Callable[[], Result], timeout_s: float = LONG_S, *, message: str = ""
) -> Result:
    """Ask again and again until the answer is true, and give it; the last word after `timeout_s`.

    An AssertionError raised by the predicate counts as "not yet", so that it may assert; at the
    end it is raised. Any other exception passes at once.

    Raises AssertionError when the time is over.
    """
    deadline = time.monotonic() + timeout_s
    failure: AssertionError | None = None
    while True:
        asked_s = time.monotonic()
        try:
            answer = predicate()
            if answer:
                return answer
            failure = None
        except AssertionError as error:
            failure = error
        now_s = time.monotonic()
        if now_s >= deadline:
            what = message or getattr(predicate, "__name__", "the predicate")
            raise AssertionError(f"not within {timeout_s:g} s: {what}") from failure
        time.sleep(min(max(_POLL_S, _REST_PER_LOOK * (now_s - asked_s)), _POLL_S_MAX))


@contextlib.contextmanager
def ended(process: subprocess.Popen[Any]) -> Iterator[None]:
    """A process that does not outlive the block: the next test would be blamed for it."""
    try:
        yield
    finally:
        process.kill()
        process.wait()


@dataclass
class _Cut:
    """An order to cut the connections whose commands hold a word, so many times."""

    moment: Moment
    word: bytes
    left: int


@dataclass(eq=False)
class _Link:
    """One client's connection and ours to the server."""

    client: socket.socket
    server: socket.socket
    seen: bytes = b""
    drop_answer: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)

    def close(self) -> None:
        for end in (self.client, self.server):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


class TcpProxy:
    """A proxy on a loopback port before `port` on 127.0.0.1, in threads of its own.

    It passes everything until told otherwise. Orders can be given at any time from any thread
    and hold for connections open already.
    """

    def __init__(self, port: int, *, listen_port: int | None = None) -> None:
        self.target_port = port
        self.port = listen_port or free_port()
        self.connections = 0
        self._links: set[_Link] = set()
        self._cuts: list[_Cut] = []
        self._cut_done = 0
        self._delay_s = 0.0
        self._flows = threading.Event()
        self._flows.set()
        self._lock = threading.Lock()
        self._listener: socket.socket | None = None
        self._threads: list[threading.Thread] = []

    def url(self, target_url: str) -> str:
        """The target's URL with this proxy in its place."""
        parts = urlsplit(target_url)
        account, at, _ = parts.netloc.rpartition("@")
        return urlunsplit(parts._replace(netloc=f"{account}{at}127.0.0.1:{self.port}"))

    def start(self) -> Self:
        """Listen, or listen again after refuse()."""
        listener = socket.create_server(("127.0.0.1", self.port), backlog=128)
        self._listener = listener
        self._spawn(self._accept, listener)
        return self

    def close(self) -> None:
        """End it: nobody is listened to, all connections are cut."""
        self.refuse()
        self._flows.set()
        for thread in self._threads:
            thread.join(timeout=_CONNECT_TIMEOUT_S)

    def refuse(self) -> None:
        """Cut all connections and refuse new ones, as a server that is down would."""
        listener, self._listener = self._listener, None
        if listener is not None:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        self.cut_all()

    def cut_all(self) -> None:
        """Cut all connections that are open now; new ones are welcome."""
        with self._lock:
            links = list(self._links)
        for link in links:
            link.close()

    def cut_before(self, word: bytes, times: int = 1) -> None:
        """Cut instead of forwarding, when a client next sends something that holds `word`.

        The server never sees the command. Case matters; a part of a key will do for a script.
        """
        self._order(_Cut("before", word, times))

    def cut_after(self, word: bytes, times: int = 1) -> None:
        """Forward what holds `word`, wait until the server answers, and cut instead of answering.

        The command has been carried out, and its client cannot know.
        """
        self._order(_Cut("after", word, times))

    def forget_cuts(self) -> None:
        """Take back the orders by word that nothing has met yet."""
        with self._lock:
            self._cuts.clear()

    @property
    def cuts_done(self) -> int:
        """How many cuts ordered by word have been carried out."""
        with self._lock:
            return self._cut_done

    def stall(self) -> None:
        """Hold everything in both directions; connections stay open and new ones are accepted."""
        self._flows.clear()

    def flow(self) -> None:
        """Let go what stall() holds, and be quick again."""
        self._delay_s = 0.0
        self._flows.set()

    def slow(self, delay_s: float) -> None:
        """Hold every piece for `delay_s`, in both directions."""
        self._delay_s = delay_s

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _order(self, cut: _Cut) -> None:
        with self._lock:
            self._cuts.append(cut)

    def _spawn(self, target: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True, name="tcp-proxy")
        self._threads.append(thread)
        thread.start()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(
                    ("127.0.0.1", self.target_port), timeout=_CONNECT_TIMEOUT_S
                )
            except OSError:
                client.close()
                continue
            server.settimeout(None)
            for end in (client, server):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._open(_Link(client, server), listener)

    def _open(self, link: _Link, listener: socket.socket) -> None:
        with self._lock:
            self.connections += 1
            self._links.add(link)
        self._spawn(self._pump_commands, link)
        self._spawn(self._pump_answers, link)
        if self._listener is not listener:
            # refuse() came between accept() and here.
            link.close()

    def _pump_commands(self, link: _Link) -> None:
        try:
            while data := link.client.recv(_CHUNK_BYTES):
                self._hold()
                cut = self._match(link, data)
                if cut == "before":
                    break
                with link.lock:
                    link.drop_answer = link.drop_answer or cut == "after"
                link.server.sendall(data)
        except OSError:
            pass  # One end is gone: that is how connections end here.
        link.close()

    def _pump_answers(self, link: _Link) -> None:
        try:
            while data := link.server.recv(_CHUNK_BYTES):
                with link.lock:
                    if link.drop_answer:
                        break
                self._hold()
                link.client.sendall(data)
        except OSError:
            pass  # As above.
        link.close()
        with self._lock:
            self._links.discard(link)
        link.client.close()
        link.server.close()

    def _hold(self) -> None:
        if self._delay_s:
            time.sleep(self._delay_s)
        self._flows.wait()

    def _match(self, link: _Link, data: bytes) -> Moment | None:
        seen = link.seen + data
        link.seen = seen[-_OVERLAP_BYTES:]
        with self._lock:
            for cut in self._cuts:
                # Not what the overlap alone holds: that has been found the last time.
                if cut.word in seen[max(0, len(seen) - len(data) - len(cut.word) + 1) :]:
                    cut.left -= 1
                    self._cut_done += 1
                    if cut.left == 0:
                        self._cuts.remove(cut)
                    return cut.moment
        return None

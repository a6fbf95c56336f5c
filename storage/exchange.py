"""Sends one HTTP request over a connected socket and reads its answer, with little CPU.

storage.s3 and storage.elasticsearch use it, because they send many requests. It takes 60 µs of CPU;
urllib3 and http.client take 250 (docs/decisions/one-way-out.md). Like http.client, it refuses paths
and headers that could smuggle in a second header or request.
"""

from __future__ import annotations

import socket
import time
from http.client import BadStatusLine, HTTPException, IncompleteRead, LineTooLong

from urllib3.connection import HTTPConnection

from storage.http import Answer

_HEAD_END = b"\r\n\r\n"
_HEAD_LIMIT_BYTES = 65_536
_READ_BYTES = 65_536
# A body up to this size is copied behind its head, so that one system call sends both.
_JOINED_BYTES = 65_536
_NO_BODY = (204, 304)


def lean(
    connection: HTTPConnection,
    method: str,
    target: str,
    headers: dict[str, str],
    body: bytes,
    deadline: float,
) -> tuple[Answer, bool]:
    """Calls `exchange` for a connection of urllib3. It is an Exchange for storage.http."""
    return exchange(connection.sock, method, target, headers, body, deadline)


def exchange(
    wire: socket.socket,
    method: str,
    path: str,
    headers: dict[str, str],
    body: bytes,
    deadline: float,
) -> tuple[Answer, bool]:
    """Sends a request and reads its answer. Also returns whether the connection can be reused.

    Args:
        headers: must contain `host`.
        deadline: the time.monotonic() by which the call ends.

    Raises:
        ConnectionResetError: the server closed the connection without an answer.
        OSError, HTTPException: another failure of the connection.
        ValueError: the path or a header cannot be sent.
    """
    head = _head(method, path, headers, body)
    wire.settimeout(_left_s(deadline))
    if len(body) <= _JOINED_BYTES:
        wire.sendall(head + body)
    else:
        wire.sendall(head)
        wire.sendall(body)
    reader = _Reader(wire, deadline)
    while True:
        version, status, answered = _parsed(reader.until(_HEAD_END))
        if status >= 200:
            break
    lasting = answered.get("connection", "").lower()
    again = lasting != "close" if version == b"HTTP/1.1" else lasting == "keep-alive"
    if method == "HEAD" or status in _NO_BODY:
        content = b""
    elif answered.get("transfer-encoding", "").lower() == "chunked":
        content = _chunks(reader)
    elif "content-length" in answered:
        content = reader.exactly(_size(answered["content-length"], 10))
    else:
        content, again = reader.rest(), False
    return Answer(status, answered, content), again


def _head(method: str, path: str, headers: dict[str, str], body: bytes) -> bytes:
    lines = [f"{method} {path} HTTP/1.1"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    if "content-length" not in headers and (body or method in ("PUT", "POST")):
        lines.append(f"content-length: {len(body)}")
    text = "\r\n".join(lines)
    if text.count("\n") >= len(lines) or text.count("\r") >= len(lines) or path.count(" "):
        raise ValueError("a line end in a header, or a blank in a path")
    return text.encode("latin-1") + _HEAD_END


def _parsed(head: bytes) -> tuple[bytes, int, dict[str, str]]:
    first, *lines = head.decode("latin-1").split("\r\n")
    version, _, rest = first.partition(" ")
    if not version.startswith("HTTP/1.") or not rest[:3].isdigit():
        raise BadStatusLine(first[:100])
    headers: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(":")
        name = name.lower()
        known = headers.get(name)
        headers[name] = value.strip() if known is None else f"{known}, {value.strip()}"
    return version.encode(), int(rest[:3]), headers


def _chunks(reader: _Reader) -> bytes:
    pieces: list[bytes] = []
    while True:
        line = reader.until(b"\r\n").partition(b";")[0]
        size = _size(line.decode("latin-1"), 16)
        if size == 0:
            while reader.until(b"\r\n"):
                pass  # Skip the trailers.
            return b"".join(pieces)
        pieces.append(reader.exactly(size))
        reader.exactly(2)


def _size(text: str, base: int) -> int:
    try:
        size = int(text.strip(), base)
    except ValueError:
        size = -1
    if size < 0:
        raise HTTPException(f"not a length: {text[:50]!r}")
    return size


def _left_s(deadline: float) -> float:
    left_s = deadline - time.monotonic()
    if left_s <= 0:
        raise TimeoutError("no time left")
    return left_s


class _Reader:
    """Reads from a socket into a buffer, up to a deadline."""

    def __init__(self, wire: socket.socket, deadline: float) -> None:
        self._wire = wire
        self._deadline = deadline
        self._received = b""
        self._silent = True

    def until(self, mark: bytes) -> bytes:
        """Returns all bytes before the mark, and drops the mark."""
        while (end := self._received.find(mark)) < 0:
            if len(self._received) > _HEAD_LIMIT_BYTES:
                raise LineTooLong("header")
            if not self._more():
                if self._silent:
                    raise ConnectionResetError("the server closed the connection")
                raise IncompleteRead(self._received)
        taken = self._received[:end]
        self._received = self._received[end + len(mark) :]
        return taken

    def exactly(self, size: int) -> bytes:
        """Returns exactly `size` bytes."""
        if len(self._received) >= size:
            taken, self._received = self._received[:size], self._received[size:]
            return taken
        pieces, missing = [self._received], size - len(self._received)
        while missing > 0:
            self._received = b""
            if not self._more():
                raise IncompleteRead(b"", missing)
            pieces.append(self._received[:missing])
            missing -= len(pieces[-1])
        self._received = self._received[len(pieces[-1]) :]
        return b"".join(pieces)

    def rest(self) -> bytes:
        """Returns all bytes until the server closes the connection."""
        pieces = [self._received]
        self._received = b""
        while self._more():
            pieces.append(self._received)
            self._received = b""
        return b"".join(pieces)

    def _more(self) -> bool:
        """Receives some bytes; False at the end."""
        self._wire.settimeout(_left_s(self._deadline))
        data = self._wire.recv(_READ_BYTES)
        self._silent = self._silent and not data
        self._received += data
        return bool(data)

"""Stand-ins for S3 and Elasticsearch that spend less CPU than any client of theirs.

What is measured is our side: a real server would take the machine from it. They keep what the
clients ask about afterwards (ETags, small objects) and check no signature. `delay_s` holds every
answer back, as a network and a disk would.

Run as a process of its own: `python -m benchmark.standins s3|elasticsearch PORT DELAY_S`.
"""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Callable

# (method, path, head in lower case, body) -> a whole response
Serve = Callable[[bytes, bytes, bytes, bytes], bytes]

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)")
_HEAD_END = b"\r\n\r\n"
_GO_ON = b"HTTP/1.1 100 Continue\r\n\r\n"
_SMALL_BYTES = 128


class Wire(asyncio.Protocol):
    """One connection: requests come one after another, and are answered in order."""

    def __init__(self, serve: Serve, delay_s: float) -> None:
        self._serve = serve
        self._delay_s = delay_s
        self._transport: asyncio.Transport | None = None
        self._received = bytearray()
        self._head = b""
        self._length = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        while self._has_head() and len(self._received) >= self._length:
            body = bytes(self._received[: self._length])
            del self._received[: self._length]
            head, self._head = self._head, b""
            method, path, _ = head.split(b" ", 2)
            self._answer(self._serve(method, path, head, body))

    def _has_head(self) -> bool:
        if self._head:
            return True
        end = self._received.find(_HEAD_END)
        if end < 0:
            return False
        self._head = bytes(self._received[:end]).lower()
        del self._received[: end + len(_HEAD_END)]
        found = _LENGTH.search(self._head)
        self._length = int(found[1]) if found else 0
        if b"\r\nexpect: 100" in self._head and len(self._received) < self._length:
            self._send(_GO_ON)
        return True

    def _answer(self, response: bytes) -> None:
        if self._delay_s:
            asyncio.get_running_loop().call_later(self._delay_s, self._send, response)
        else:
            self._send(response)

    def _send(self, response: bytes) -> None:
        if self._transport is not None:
            self._transport.write(response)


class Objects:
    """A bucket: conditions are honoured, small objects are kept, of large ones only the ETag."""

    def __init__(self) -> None:
        self._kept: dict[bytes, tuple[bytes, bytes]] = {}

    def __call__(self, method: bytes, path: bytes, head: bytes, body: bytes) -> bytes:
        found = self._kept.get(path)
        if method == b"put":
            if found is not None and b"\r\nif-none-match: *" in head:
                return _response(b"412 Precondition Failed")
            if b"\r\nif-match: " in head and (found is None or found[0] not in head):
                return _response(b"412 Precondition Failed")
            etag = b'"%032x"' % (len(self._kept) + 1)
            self._kept[path] = (etag, body if len(body) <= _SMALL_BYTES else b"")
            return _response(b"200 OK", headers=b"ETag: %b\r\n" % etag)
        if path.count(b"/") < 2 or path.endswith(b"/"):
            return _response(b"200 OK")  # the bucket itself
        if found is None:
            return _response(b"404 Not Found")
        etag, small = found
        return _response(b"200 OK", small if method == b"get" else b"", b"ETag: %b\r\n" % etag)


def search_engine(method: bytes, path: bytes, head: bytes, body: bytes) -> bytes:
    """An index that takes every document of a _bulk request."""
    product = b"X-Elastic-Product: Elasticsearch\r\nContent-Type: application/json\r\n"
    if b"_bulk" in path:
        count = body.count(b"\n") // 2
        items = b",".join([b'{"index":{"status":201}}'] * count)
        answer = b'{"took":1,"errors":false,"items":[%b]}' % items
        return _response(b"200 OK", answer, product)
    if method == b"put":
        return _response(b"200 OK", b'{"acknowledged":true}', product)
    return _response(b"404 Not Found", b"{}", product)


def _response(status: bytes, body: bytes = b"", headers: bytes = b"") -> bytes:
    length = b"Content-Length: %d\r\n" % len(body)
    return b"HTTP/1.1 %b\r\n%b%b\r\n%b" % (status, headers, length, body)


async def serve(kind: str, port: int, delay_s: float) -> None:
    """Serve until killed."""
    answer: Serve = Objects() if kind == "s3" else search_engine
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Wire(answer, delay_s), "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1], int(sys.argv[2]), float(sys.argv[3])))

"""uvicorn's HTTP/1.1 protocol with limits on what a client may send, and how slowly.

1. The head must arrive within HEAD_S_MAX and have at most HEAD_BYTES_MAX. (httptools has no limit:
   it would keep an endless header.) A longer head passes if one read of the socket, of 256 KiB at
   most, returns the whole of it. The size limit also holds for the bytes of a body outside its
   chunks: chunk sizes, chunk extensions and trailers. api/bodies.py limits the body itself.
2. If a request is answered before its body is complete, at least REST_BYTES_MIN of the rest must
   arrive in each REST_S_MAX. (uvicorn would wait as long as single bytes arrive. The connection is
   not closed at once, because a client that is still sending would not read the answer.)
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

HEAD_BYTES_MAX = 32 * 1024
HEAD_S_MAX = 10.0
REST_S_MAX = 30.0
REST_BYTES_MIN = 32 * 1024

_REST = b"\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
_TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large" + _REST
_TOO_SLOW = b"HTTP/1.1 408 Request Timeout" + _REST


class BoundedProtocol(HttpToolsProtocol):
    """Closes connections whose request head is too long or too slow, and those that hold back the
    rest of an answered request.

    head_s, rest_s: the limits in seconds.
    """

    head_s = HEAD_S_MAX
    rest_s = REST_S_MAX

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._head_bytes = 0
        self._in_head = True
        self._unused_bytes = 0  # received since the last piece of a body's content
        self._rest_bytes = 0  # of a body, since its request was answered or was last looked at
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client has connected: start the timer for its first head."""
        super().connection_made(transport)
        self._deadline = self.loop.call_later(self.head_s, self._cut, _TOO_SLOW)

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is closed: stop the timer."""
        self._forget_deadline()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Count the bytes against the limits, and parse them."""
        if self._in_head:
            self._head_bytes += len(data)
            if self._deadline is None:  # A further request on a kept-alive connection.
                self._deadline = self.loop.call_later(self.head_s, self._cut, _TOO_SLOW)
        else:
            self._unused_bytes += len(data)
        super().data_received(data)
        long = self._head_bytes if self._in_head else self._unused_bytes
        if long > HEAD_BYTES_MAX:
            self._cut(_TOO_LARGE)

    def on_body(self, body: bytes) -> None:
        """The parser has found a piece of the body's content."""
        self._unused_bytes = 0
        self._rest_bytes += len(body)
        super().on_body(body)

    def on_headers_complete(self) -> None:
        """The head is complete; the body follows."""
        self._forget_deadline()
        self._in_head, self._head_bytes, self._unused_bytes = False, 0, 0
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The request is complete; the head of the next request follows."""
        self._in_head = True
        self._forget_deadline()
        super().on_message_complete()
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is not None and cycle.response_complete and not self.transport.is_closing():
            # The request was answered before. The rest of its body has stopped the timer that
            # closes an idle connection, which uvicorn starts only at an answer.
            self._unset_keepalive_if_required()
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def on_response_complete(self) -> None:
        """The answer is sent. If its request's body is incomplete, start the timer for it."""
        super().on_response_complete()
        cycle: RequestResponseCycle = self.cycle
        if cycle.response_complete and cycle.more_body and not self.transport.is_closing():
            self._await_rest()

    def _await_rest(self) -> None:
        self._rest_bytes = 0
        self._deadline = self.loop.call_later(self.rest_s, self._look_at_rest)

    def _look_at_rest(self) -> None:
        if self._rest_bytes < REST_BYTES_MIN:
            self._cut(b"")
        else:
            self._await_rest()

    def _forget_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _cut(self, answer: bytes) -> None:
        self._forget_deadline()
        if not self.transport.is_closing():
            under_way: RequestResponseCycle | None = self.cycle
            if under_way is None or under_way.response_complete:
                self.transport.write(answer)
            self.transport.close()

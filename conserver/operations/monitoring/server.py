"""Serves /metrics and /metrics/queues over HTTP/1.1 on their own socket, in the coordinator.

The server reads only the request line and the Accept header, and answers one request per
connection. Threads render the pages, so that a large scrape delays no heartbeat. An error while a
page is rendered becomes an HTTP error, and never ends the coordinator.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from typing import NamedTuple

from conserver.errors import ConserverError
from conserver.operations.monitoring.scrape import Scrape
from conserver.telemetry import log

REQUEST_BYTES_MAX = 16 * 1024
REQUEST_TIMEOUT_S = 5.0
ANSWER_TIMEOUT_S = 30.0
THREADS = 2
CONNECTIONS_MAX = 32
"""Further connections are closed at once. A scraper needs one connection every few seconds."""

Page = Callable[[str], Scrape]
"""Renders a page. It is called in a thread, with the Accept header."""


class _Request(NamedTuple):
    method: str
    path: str
    accept: str


class MetricsServer:
    """Serves a table of pages (path -> Page) until cancelled."""

    def __init__(self, listener: socket.socket, pages: Mapping[str, Page]) -> None:
        self._listener = listener
        self._pages = pages
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="metrics")
        self._open = 0
        self._log = log.get_logger()

    async def run(self) -> None:
        """Serve until cancelled. The listening socket stays open for the next coordinator."""
        copy = socket.socket(fileno=socket.dup(self._listener.fileno()))
        copy.setblocking(False)
        try:
            server = await asyncio.start_server(self._serve, sock=copy, limit=REQUEST_BYTES_MAX)
            host, port, *_ = copy.getsockname()
            self._log.info("metrics_listen", host=host, port=port)
            try:
                await asyncio.Event().wait()
            finally:
                # serve_forever and wait_closed would wait here for a slow scraper.
                server.close()
        finally:
            self._threads.shutdown(wait=False, cancel_futures=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open += 1
        try:
            if self._open <= CONNECTIONS_MAX:
                async with asyncio.timeout(REQUEST_TIMEOUT_S):
                    request = await _request(reader)
                async with asyncio.timeout(ANSWER_TIMEOUT_S):
                    writer.write(await self._answer(request))
                    await writer.drain()
        except (TimeoutError, OSError, ValueError, asyncio.IncompleteReadError):
            return  # no answer to a client that sends no HTTP request in time
        finally:
            self._open -= 1
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _answer(self, request: _Request) -> bytes:
        page = self._pages.get(request.path)
        if page is None:
            known = ", ".join(self._pages)
            return _response(HTTPStatus.NOT_FOUND, f"there is {known}\n".encode())
        if request.method not in ("GET", "HEAD"):
            return _response(HTTPStatus.METHOD_NOT_ALLOWED, b"only GET\n")
        loop = asyncio.get_running_loop()
        try:
            body, kind = await loop.run_in_executor(self._threads, page, request.accept)
        except ConserverError as error:
            return _response(HTTPStatus.SERVICE_UNAVAILABLE, f"{error}\n".encode())
        except Exception:  # noqa: BLE001 - our own error must not end the coordinator
            self._log.exception("metrics_failed", path=request.path)
            return _response(HTTPStatus.INTERNAL_SERVER_ERROR, b"the log says what failed\n")
        return _response(HTTPStatus.OK, body, kind, head=request.method == "HEAD")


async def _request(reader: asyncio.StreamReader) -> _Request:
    """Read the head of a request. Raises ValueError if it is too long or no HTTP."""
    try:
        text = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    except asyncio.LimitOverrunError as error:
        raise ValueError("a request of more than a few KiB") from error
    first, *lines = text.split("\r\n")
    method, target, _ = first.split(" ", 2)
    accepts = [line.partition(":") for line in lines]
    accept = ",".join(value.strip() for name, _, value in accepts if name.lower() == "accept")
    return _Request(method, target.partition("?")[0], accept)


def _response(
    status: HTTPStatus,
    body: bytes,
    content_type: str = "text/plain; charset=utf-8",
    *,
    head: bool = False,
) -> bytes:
    lines = (
        f"HTTP/1.1 {status.value} {status.phrase}",
        f"Content-Type: {content_type}",
        f"Content-Length: {len(body)}",
        "Cache-Control: no-store",
        "X-Content-Type-Options: nosniff",
        "Connection: close",
    )
    return "\r\n".join((*lines, "", "")).encode("latin-1") + (b"" if head else body)

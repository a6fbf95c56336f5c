"""A web server in this process that answers as a test says, for what real servers do too seldom.

    with Standin(answer) as server:        answer(Request) -> Answer
        server.url, server.requests

Objects put into an `ObjectStore` are kept as an S3 would, with or without conditions honoured.
"""

from __future__ import annotations

import hashlib
import socket
import ssl
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

_POLL_S = 0.02


@dataclass(frozen=True)
class Request:
    """What a client sent. Header names are in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class Answer:
    """What it is told."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


class Standin:
    """The server; `answer` is called in a thread of each connection."""

    def __init__(
        self,
        answer: Callable[[Request], Answer],
        tls: ssl.SSLContext | None = None,
        host: str = "127.0.0.1",
    ) -> None:
        self.answer = answer
        self.requests: list[Request] = []
        handler = type("Handler", (_Handler,), {"standin": self})
        family = {"address_family": socket.AF_INET6 if ":" in host else socket.AF_INET}
        self._server = type("Server", (_Server,), family)((host, 0), handler)
        self._host = f"[{host}]" if ":" in host else host
        self._server.daemon_threads = True
        self._scheme = "https" if tls else "http"
        if tls:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=[_POLL_S], daemon=True
        )

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"{self._scheme}://{self._host}:{self._server.server_port}"

    def at(self, host: str) -> str:
        """The URL with another name of this machine, or one that only a proxy knows."""
        return f"{self._scheme}://{host}:{self._server.server_port}"

    def count(self, method: str) -> int:
        """How many requests of a method there were."""
        return sum(request.method == method for request in self.requests)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(timeout=60)


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a client that has gone: its test may be over, and another one looks at
        what is printed.
        """
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # A small answer must not wait for the acknowledgement of its head.
    wbufsize = -1
    disable_nagle_algorithm = True
    standin: Standin

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = Request(self.command, self.path, headers, body)
        self.standin.requests.append(request)
        answer = self.standin.answer(request)
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        if self.command != "HEAD":
            self.send_header("content-length", str(len(answer.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _serve  # noqa: N815 (their names)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 (its name)
        """Says nothing: the test looks at `requests`."""


class ObjectStore:
    """An S3 of the simplest kind: no signatures, no listings; conditions only if asked for."""

    def __init__(self, *, conditional: bool) -> None:
        self._conditional = conditional
        self._objects: dict[str, tuple[bytes, dict[str, str]]] = {}
        self._lock = threading.Lock()

    def __call__(self, request: Request) -> Answer:
        """Puts, gives, tells of, or deletes an object."""
        with self._lock:
            if request.path.count("/") < 2 or request.path.endswith("/"):
                return Answer()
            return self._object(request)

    def _object(self, request: Request) -> Answer:
        found = self._objects.get(request.path)
        if request.method == "PUT":
            etag = found and found[1]["etag"]
            if self._conditional and self._fails(request, etag):
                return Answer(412)
            kept = {name: v for name, v in request.headers.items() if name.startswith("x-amz-meta")}
            kept["etag"] = f'"{hashlib.md5(request.body).hexdigest()}"'
            self._objects[request.path] = (request.body, kept)
            return Answer(headers=kept)
        if request.method == "DELETE":
            self._objects.pop(request.path, None)
            return Answer(204)
        return Answer(404) if found is None else Answer(200, *found)

    @staticmethod
    def _fails(request: Request, etag: str | None) -> bool:
        if request.headers.get("if-none-match") == "*":
            return etag is not None
        wanted = request.headers.get("if-match")
        return wanted is not None and wanted != etag

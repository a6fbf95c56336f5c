"""A scripted HTTP server, for links and storages that make requests.

with serving(Reply(503, headers={"Retry-After": "7"}), Reply(200, b"{}")) as server:
    result = run_link("my_crm", vcon, {"url": server.url})
assert [request.path for request in server.requests] == ["/", "/"]
"""

from __future__ import annotations

import contextlib
import ssl
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import orjson


@dataclass
class Request:
    """A request that the server has received; the names of headers are in lower case."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The parsed body."""
        return orjson.loads(self.body)


@dataclass
class Reply:
    """An answer of the server.

    Attributes:
        headers: `{url}` in their values stands for the URL of the server.
        drip_s: if it is above 0, the body is sent byte by byte, with so many seconds in between.
        cut: whether the server closes the connection after half of the body.
    """

    status: int = 200
    body: bytes = b"{}"
    headers: dict[str, str] = field(default_factory=dict)
    drip_s: float = 0.0
    cut: bool = False


class HttpServer:
    """Sends its replies in order, and then repeats the last one.

    Attributes:
        url: the server's URL without a path, with http:// or https://.
        requests: the requests that it has received.
        connections: how many connections clients have opened.
    """

    def __init__(self, *replies: Reply, certificate: Path | None = None) -> None:
        """certificate: a PEM file with certificate and key, for TLS under the name localhost."""
        self.requests: list[Request] = []
        self.connections = 0
        self._replies = list(replies) or [Reply()]
        self._lock = threading.Lock()
        self._closing = threading.Event()
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                super().setup()
                server.connections += 1

            def do_GET(self) -> None:
                server._answer(self)

            do_POST = do_PUT = do_DELETE = do_GET  # noqa: N815 - the names of http.server

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - http.server's
                """Write no log; tests read `requests`."""

        self._http = _Server(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self.port: int = self._http.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        if certificate is not None:
            tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            tls.load_cert_chain(certificate)
            self._http.socket = tls.wrap_socket(self._http.socket, server_side=True)
            self.url = f"https://localhost:{self.port}"
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,))
        self._thread.start()

    def close(self) -> None:
        """Close the port."""
        self._closing.set()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def _answer(self, handler: BaseHTTPRequestHandler) -> None:
        length = int(handler.headers.get("content-length") or 0)
        headers = {name.lower(): value for name, value in handler.headers.items()}
        request = Request(handler.command, handler.path, headers, handler.rfile.read(length))
        with self._lock:
            self.requests.append(request)
            reply = self._replies.pop(0) if len(self._replies) > 1 else self._replies[0]
        handler.send_response(reply.status)
        for name, value in reply.headers.items():
            handler.send_header(name, value.replace("{url}", self.url))
        if "transfer-encoding" not in reply.headers:
            handler.send_header("content-length", str(len(reply.body)))
        handler.end_headers()
        with contextlib.suppress(OSError):  # the client may have closed its end
            self._write_body(handler, reply)

    def _write_body(self, handler: BaseHTTPRequestHandler, reply: Reply) -> None:
        if reply.cut:
            handler.wfile.write(reply.body[: len(reply.body) // 2])
            handler.close_connection = True
        elif reply.drip_s:
            for index in range(len(reply.body)):
                handler.wfile.write(reply.body[index : index + 1])
                if self._closing.wait(reply.drip_s):
                    break
        else:
            handler.wfile.write(reply.body)


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """Print nothing if a client has disconnected, because a test may check the output."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


@contextlib.contextmanager
def serving(*replies: Reply, certificate: Path | None = None) -> Iterator[HttpServer]:
    """An HttpServer that runs during a `with` block."""
    server = HttpServer(*replies, certificate=certificate)
    try:
        yield server
    finally:
        server.close()


def chat_reply(content: Any, status: int = 200, **choice: Any) -> Reply:
    """The answer of a language model (a chat completion): `content` as text, or a value as JSON."""
    text = content if isinstance(content, str) else orjson.dumps(content).decode()
    message = {"role": "assistant", "content": text, **choice.pop("message", {})}
    body = {"choices": [{"index": 0, "message": message, "finish_reason": "stop", **choice}]}
    return Reply(status, orjson.dumps(body), {"content-type": "application/json"})

"""What tests of links share: a context that remembers what it was asked, and a real HTTP server."""

from __future__ import annotations

import contextlib
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import orjson

from conserver.errors import Cancelled
from conserver.vcon.document import Vcon


class Log:
    """Remembers the lines that a link logs."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str, dict[str, Any]]] = []

    def __getattr__(self, level: str) -> Callable[..., None]:
        return lambda event, **fields: self.lines.append((level, event, fields))

    def at(self, level: str) -> list[tuple[str, dict[str, Any]]]:
        """(event, fields) of the lines of a level."""
        return [(event, fields) for found, event, fields in self.lines if found == level]


class Context:
    """A LinkContext for one link on one vCon, outside of any worker."""

    def __init__(self, *, left_s: float | None = None, cancel_after: int | None = None) -> None:
        self.chain, self.link, self.uuid, self.attempt = "chain", "link", "u-1", 1
        self.last_attempt = False
        self.log = Log()
        self.pushed: list[tuple[str, str | None]] = []
        self.expiries: list[int] = []
        self.shown: list[tuple[float, float | None, str]] = []
        self.checkpoints = 0
        self.looks = 0
        self._end = None if left_s is None else time.monotonic() + left_s
        self._cancel_after = cancel_after

    def remaining_s(self) -> float | None:
        return None if self._end is None else max(self._end - time.monotonic(), 0.0)

    def checkpoint(self) -> None:
        self.checkpoints += 1

    def push(self, list_name: str, uuid: str | None = None) -> None:
        self.pushed.append((list_name, uuid))

    def expire(self, seconds: int) -> None:
        self.expiries.append(seconds)

    def progress(self, done: float, total: float | None = None, unit: str = "") -> None:
        self.shown.append((done, total, unit))

    def check_cancelled(self) -> None:
        self.looks += 1
        if self._cancel_after is not None and self.looks > self._cancel_after:
            raise Cancelled("an operator cancelled it")


def vcon(**members: Any) -> Vcon:
    """A vCon with these members."""
    return Vcon.parse(orjson.dumps({"uuid": "u-1", **members}))


@dataclass
class Request:
    """One request that the server got."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return orjson.loads(self.body)


@dataclass
class Reply:
    """One answer it gives; with `drip_s` byte by byte, so far apart; `cut` ends it too early."""

    status: int = 200
    body: bytes = b"{}"
    headers: dict[str, str] = field(default_factory=dict)
    drip_s: float = 0.0
    cut: bool = False


class Server:
    """Gives the replies in order, the last one again and again; remembers the requests."""

    def __init__(self, *replies: Reply, certificate: Path | None = None) -> None:
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

            do_POST = do_PUT = do_GET  # noqa: N815 - their names there

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its name there
                """Nothing is written: the tests look at `requests`."""

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
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
        with contextlib.suppress(OSError):  # The client may have had enough.
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


@contextlib.contextmanager
def serving(*replies: Reply, certificate: Path | None = None) -> Iterator[Server]:
    """A server for the length of a with block; with a certificate it speaks TLS."""
    server = Server(*replies, certificate=certificate)
    try:
        yield server
    finally:
        server.close()


def chat_reply(content: Any, status: int = 200, **choice: Any) -> Reply:
    """A chat completion with this text (or value, as JSON)."""
    text = content if isinstance(content, str) else orjson.dumps(content).decode()
    message = {"role": "assistant", "content": text, **choice.pop("message", {})}
    body = {"choices": [{"index": 0, "message": message, "finish_reason": "stop", **choice}]}
    return Reply(status, orjson.dumps(body), {"content-type": "application/json"})

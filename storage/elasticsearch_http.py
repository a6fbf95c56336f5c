"""Requests to the nodes of one Elasticsearch cluster.

The official client brings four HTTP libraries and what these bring: 25 MB, and 0.2 s at every
start, for the five requests that are made here. What they need of it is in this module: logging in,
several nodes, Elastic Cloud's ids, a certificate trusted by its fingerprint.
"""

from __future__ import annotations

import base64
import binascii
import gzip
import random
import time
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urlencode, urlsplit

import orjson

from storage.http import BROKEN, Server
from storage.http import Answer as HttpAnswer

_JSON, _LINES = "application/json", "application/x-ndjson"
_HTTPS_PORT = "443"


@dataclass(frozen=True, slots=True)
class Answer:
    """A response: its status, and its JSON ({} where it has none)."""

    status: int
    data: Any
    retry_after_s: float | None = None


@dataclass(frozen=True, slots=True)
class Access:
    """How to log in and what to trust. All of it may be absent."""

    api_key: str | None = None
    username: str | None = None
    password: str = field(default="", repr=False)
    ca_file: str | None = None
    fingerprint: str | None = None
    compress: bool = False


class Cluster:
    """The nodes. Every method may be called from several threads at once.

    One node is used until it fails; each client begins with one drawn by lot, so that many of them
    spread over the cluster.
    """

    def __init__(self, urls: list[str], access: Access, timeout_s: float) -> None:
        """Nothing is connected yet. Raises ValueError for what is no http or https URL."""
        self._timeout_s = timeout_s
        self._compress = access.compress
        self._nodes = [_Node(url, access) for url in urls]
        self._current = random.randrange(len(self._nodes))

    def request(
        self,
        method: str,
        path: str,
        params: dict[str, str] | None = None,
        body: bytes = b"",
        lines: bool = False,
    ) -> Answer:
        """Sends a request, which must be one that may be repeated, to one node after another until
        one answers; `lines`: the body is not one JSON value but one per line.

        Raises one of storage.http.BROKEN if none does within the timeout.
        """
        headers = {"accept": _JSON}
        if body:
            headers["content-type"] = _LINES if lines else _JSON
        if body and self._compress:
            headers["content-encoding"] = "gzip"
            body = gzip.compress(body, compresslevel=1)
        if params:
            path = f"{path}?{urlencode(params)}"
        deadline = time.monotonic() + self._timeout_s
        for left in reversed(range(len(self._nodes))):
            current = self._current
            try:
                return _read(self._nodes[current].request(method, path, body, headers, deadline))
            except TimeoutError:
                # It may be at work on it: asking another node would double the load.
                raise
            except BROKEN:
                self._current = (current + 1) % len(self._nodes)
                if not left:
                    raise
        raise AssertionError("a cluster has a node")

    def close(self) -> None:
        """Closes the connections."""
        for node in self._nodes:
            node.close()


class _Node:
    """One node: its connections, its part of each path, its login."""

    def __init__(self, url: str, access: Access) -> None:
        parts = urlsplit(url)
        self._prefix = parts.path.rstrip("/")
        self._server = Server(url, access.ca_file, access.fingerprint)
        self._headers = {"user-agent": "conserver"}
        username = access.username or unquote(parts.username or "")
        password = access.password if access.username else unquote(parts.password or "")
        if access.api_key:
            self._headers["authorization"] = f"ApiKey {access.api_key}"
        elif username:
            encoded = base64.b64encode(f"{username}:{password}".encode()).decode()
            self._headers["authorization"] = f"Basic {encoded}"

    def request(
        self, method: str, path: str, body: bytes, headers: dict[str, str], deadline: float
    ) -> HttpAnswer:
        sent = self._headers | headers
        return self._server.request(method, self._prefix + path, body, sent, deadline)

    def close(self) -> None:
        self._server.close()


def cloud_url(cloud_id: str) -> str:
    """The URL in an id of Elastic Cloud, `NAME:` and base64 of `HOST$CLUSTER$KIBANA`.

    Raises ValueError if it is none.
    """
    try:
        text = base64.b64decode(cloud_id.rpartition(":")[2], validate=True).decode()
    except (binascii.Error, UnicodeDecodeError) as error:
        raise ValueError(f"not an id of Elastic Cloud: {error}") from None
    host, _, rest = text.partition("$")
    name, _, port = host.partition(":")
    cluster = rest.partition("$")[0]
    if not name or not cluster:
        raise ValueError("not an id of Elastic Cloud: it names no host")
    return f"https://{cluster}.{name}:{port or _HTTPS_PORT}"


def _read(answer: HttpAnswer) -> Answer:
    try:
        data = orjson.loads(answer.body) if answer.body else {}
    except orjson.JSONDecodeError:
        # A proxy in between speaks HTML.
        data = {}
    return Answer(answer.status, data, answer.retry_after_s)

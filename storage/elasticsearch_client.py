"""Calls Elasticsearch through its official client.

The client handles cloud ids, logins, sniffing, and the protocol of its major version. This module
adds:

- connections through storage.http: the environment's proxy and certificates, and one deadline for
  the whole call;
- an Answer instead of an exception for every answer of the server;
- a call of the next node if one is away. The client's own retries are off.

Importing this module imports the client, version 8 or 9.
"""

from __future__ import annotations

import base64
import gzip
import inspect
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, NamedTuple

import elastic_transport
import orjson
from elastic_transport import (
    ApiResponse,
    ApiResponseMeta,
    BaseNode,
    HttpHeaders,
    NodeConfig,
)
from elastic_transport.client_utils import DEFAULT, client_meta_version, url_to_node_config
from elasticsearch import ApiError, Elasticsearch, JsonSerializer, UnsupportedProductError

from storage.exchange import lean
from storage.http import BROKEN, Server
from storage.network import tls_context, trust

if TYPE_CHECKING:
    import ssl

    from storage.elasticsearch_options import Options

log = logging.getLogger("storage.elasticsearch")

_UNAUTHORIZED, _FORBIDDEN = 401, 403
_REASON_CHARS = 500
_HINTS = {
    "media_type_header_exception": "; version 8 of the Python package elasticsearch speaks to"
    " servers 8 and 9, version 9 to servers 9 only",
}
_GZIP_LEVEL = 1
# Time limit of the client's request for other nodes at the start, which has no limit of its own.
_TIMEOUT_S = 10.0
# Media types that the client parses. For others it would raise an error without the status.
_READABLE = ("application/json", "application/vnd.elasticsearch+json", "text/")


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer of the server: the status, and its JSON ({} if there is none)."""

    status: int
    data: dict[str, Any]
    retry_after_s: float | None = None

    @property
    def error_type(self) -> str:
        """Elasticsearch's type of the error; "" if there is none."""
        return str(self._error.get("type", ""))

    @property
    def reason(self) -> str:
        """The error as text for people, with the status."""
        error = self._error
        said = f"{error.get('type')}: {error.get('reason')}"[:_REASON_CHARS] if error else ""
        return f"{said} (HTTP status {self.status}{_HINTS.get(self.error_type, '')})".lstrip()

    def error(self, what: str = "") -> OSError:
        """The exception to raise: PermissionError if the login or its rights are refused, else
        ConnectionError. `what` says what could not be done.
        """
        reason = f"{what}: {self.reason}" if what else self.reason
        if self.status == _UNAUTHORIZED:
            return PermissionError(f"Elasticsearch refuses the login: {reason}")
        if self.status == _FORBIDDEN and self.error_type == "security_exception":
            return PermissionError(f"the login lacks a right in Elasticsearch: {reason}")
        return ConnectionError(reason)

    @property
    def _error(self) -> dict[str, Any]:
        error = self.data.get("error")
        return error if isinstance(error, dict) else {}


class Cluster:
    """The nodes of a cluster. Every method may be called from several threads at once."""

    def __init__(self, options: Options) -> None:
        """Makes the client, which connects at the first call.

        Raises ValueError if the client refuses the options.
        """
        self._timeout_s = options.timeout_s
        self._client = _client(options)
        self._node_count = len(self._client.transport.node_pool)
        # The client logs each request at INFO.
        logging.getLogger("elastic_transport.transport").setLevel(logging.WARNING)

    def ask(self, call: Callable[[Elasticsearch], ApiResponse[Any]]) -> Answer:
        """Makes a call, which may be repeated, and returns its answer.

        If the connection to a node fails, the next node is called. After a timeout no other node is
        called, because the first one may still work on the call.

        Raises:
            TimeoutError: there was no answer in time.
            ConnectionError: no node answered, or the server is not Elasticsearch.
        """
        deadline = time.monotonic() + self._timeout_s
        client, left = self._client, self._node_count
        while True:
            left -= 1
            try:
                response = call(client)
                return _answer(response.meta, response.body)
            except UnsupportedProductError:
                message = "the server does not say that it is Elasticsearch (X-Elastic-Product)"
                raise ConnectionError(message) from None
            except ApiError as error:
                return _answer(error.meta, error.body)
            except elastic_transport.ConnectionTimeout as error:
                raise TimeoutError(error.message) from None
            except elastic_transport.TransportError as error:
                left_s = deadline - time.monotonic()
                if not left or left_s <= 0:
                    raise ConnectionError(error.message) from None
                client = self._client.options(request_timeout=left_s)

    def close(self) -> None:
        """Closes the connections."""
        self._client.close()


class _NodeAnswer(NamedTuple):
    """The result of `_Node.perform_request`, in the form that the client expects."""

    meta: ApiResponseMeta
    body: bytes


class _Node(BaseNode):
    """A node that is reached through storage.http."""

    _CLIENT_META_HTTP_CLIENT = ("ur", client_meta_version(version("urllib3")))

    def __init__(self, config: NodeConfig) -> None:
        super().__init__(config)
        self._server = Server(self.base_url, config.ssl_context, lean)
        # Answers are small, so they need no compression.
        self._sent = {name: v for name, v in self.headers.items() if name != "accept-encoding"}
        self._timeout_s = config.request_timeout or _TIMEOUT_S

    def perform_request(  # type: ignore[override] # the client does not export its own class
        self,
        method: str,
        target: str,
        body: bytes | None = None,
        headers: HttpHeaders | None = None,
        request_timeout: Any = DEFAULT,
    ) -> _NodeAnswer:
        """Sends a request and returns its answer. Raises exceptions of elastic_transport."""
        # The client's request for other nodes may come without a time limit.
        timeout_s: float = (
            self._timeout_s if request_timeout in (DEFAULT, None) else request_timeout
        )
        began_s = time.monotonic()
        sent = {**self._sent, **(headers or {})}
        if body and self._http_compress:
            body = gzip.compress(body, compresslevel=_GZIP_LEVEL)
            sent["content-encoding"] = "gzip"
        try:
            answer = self._server.request(
                method, f"{self.path_prefix}{target}", body or b"", sent, began_s + timeout_s
            )
        except TimeoutError as error:
            message = f"{self._server.name} did not answer within {timeout_s:g} s"
            raise elastic_transport.ConnectionTimeout(message, errors=(error,)) from None
        except BROKEN as error:
            raise elastic_transport.ConnectionError(str(error), errors=(error,)) from None
        meta = ApiResponseMeta(
            node=self.config,
            duration=time.monotonic() - began_s,
            http_version="1.1",
            status=answer.status,
            headers=_readable(answer.headers),
        )
        return _NodeAnswer(meta, answer.body)

    def close(self) -> None:
        self._server.close()


class _Json(JsonSerializer):
    """Parses JSON with orjson, because the answer of a bulk request has an entry per document."""

    def json_loads(self, data: bytes) -> Any:
        return orjson.loads(data)


def check_client(options: Options) -> None:
    """Raises ValueError if the installed client does not support the options."""
    if options.server_mode == "serverless" and not _knows_serverless():
        raise ValueError("server_mode: serverless needs version 9.5 of the package elasticsearch")


def _client(options: Options) -> Elasticsearch:
    """The client, with all its retries off."""
    check_client(options)
    given: dict[str, Any] = {}
    if options.username is not None and options.password is not None:
        # Encoded here, because the client refuses a password that is not ASCII.
        login = f"{options.username}:{options.password.get_secret_value()}".encode()
        given["basic_auth"] = base64.b64encode(login).decode()
    if options.api_key is not None:
        given["api_key"] = options.api_key.get_secret_value()
    if options.bearer_token is not None:
        given["bearer_auth"] = options.bearer_token.get_secret_value()
    if options.headers:
        given["headers"] = {k: v.get_secret_value() for k, v in options.headers.items()}
    if options.http_compress is not None:
        given["http_compress"] = options.http_compress
    if options.server_mode == "serverless":
        given["server_mode"] = "serverless"
    for name in ("sniff_on_start", "sniff_before_requests", "sniff_on_node_failure"):
        if getattr(options, name):
            given[name] = True
    if options.sniffs:
        given["sniff_timeout"] = options.sniff_timeout
        if options.sniff_before_requests:
            given["min_delay_between_sniffing"] = options.min_delay_between_sniffing
    if options.cloud_id:
        given |= {"cloud_id": options.cloud_id, "ssl_context": _tls(options)}
    else:
        given["hosts"] = _nodes(options)
    return Elasticsearch(
        **given,
        node_class=_Node,
        request_timeout=options.timeout_s,
        serializers={"application/json": _Json()},
        max_retries=0,
        retry_on_timeout=False,
        retry_on_status=(),
    )


def _nodes(options: Options) -> list[NodeConfig]:
    """The nodes that the option `url` names, each once."""
    tls: ssl.SSLContext | None = None
    found: dict[NodeConfig, None] = {}
    for url in options.urls:
        node = url_to_node_config(url, use_default_ports_for_scheme=True)
        if node.scheme == "https":
            tls = tls or _tls(options)
            node = node.replace(ssl_context=tls)
        found[node] = None
    return list(found)


def _tls(options: Options) -> ssl.SSLContext:
    return tls_context(
        trust(options.ca_certs),
        fingerprint=options.ca_fingerprint,
        client_certificate=options.client_cert,
        client_key=options.client_key,
    )


def _knows_serverless() -> bool:
    return "server_mode" in inspect.signature(Elasticsearch).parameters


def _answer(meta: ApiResponseMeta, body: Any) -> Answer:
    after = meta.headers.get("retry-after") or ""
    data = body if isinstance(body, dict) else {}
    return Answer(meta.status, data, float(after) if after.isdecimal() else None)


def _readable(headers: dict[str, str]) -> HttpHeaders:
    """The headers of an answer, changed so that the client can read them."""
    kept = dict(headers)
    # The client would turn this header into a Python warning on standard error.
    if warning := kept.pop("warning", ""):
        log.info("Elasticsearch warns: %s", warning)
    if not kept.get("content-type", "application/json").startswith(_READABLE):
        kept["content-type"] = "text/plain"
    return HttpHeaders(kept)

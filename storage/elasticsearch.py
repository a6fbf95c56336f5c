"""Stores a vCon as a document in Elasticsearch, made to be searched.

A batch is one bulk request of prepared bytes, with an outcome for every document. The revision is
the document's external version, so that Elasticsearch itself refuses to replace a newer revision.

Only a small, fixed set of fields is indexed (elasticsearch_fields takes them from the vCon), so
that no vCon can conflict with the mapping. The vCon itself is kept beside them in `vcon`, not
indexed. Inline bodies of dialogs and attachments that are longer than `max_body_bytes` are left out
of it: recordings do not belong into a search engine. `get` gives back only what was kept whole
(`complete: true`).

storage.elasticsearch_client makes the requests, through the official client.
"""

from __future__ import annotations

import base64
import importlib
import re
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import orjson
from pydantic import AnyHttpUrl, Field, SecretStr, field_validator, model_validator

from storage import elasticsearch_search, network
from storage.contract import (
    Document,
    Finds,
    Hits,
    Outcome,
    Rejected,
    StorageOptions,
    Stored,
    Unavailable,
    servers_in,
)
from storage.elasticsearch_fields import source
from storage.elasticsearch_index import ensure_index

if TYPE_CHECKING:
    from elasticsearch import Elasticsearch

    from storage.elasticsearch_client import Cluster

# Elasticsearch's own default limit for a request is 100 MB; smaller ones are kinder to its heap.
_REQUEST_LIMIT_BYTES = 10_000_000
_ID_LIMIT_BYTES = 512
# Of the answer only what is read here. An item's position tells which document it is of.
_BULK_ANSWER = "items.*.status,items.*.error.type,items.*.error.reason"
_OK, _ERRORS, _BAD_REQUEST, _NOT_FOUND, _CONFLICT, _GONE = 200, 300, 400, 404, 409, 410
_TOO_LARGE, _TOO_MANY, _NOT_NOW = 413, 429, 503
# Errors of a document, by how their types end. (An index that is closed answers 400 as well.)
_FAULTS_OF_A_DOCUMENT = ("parsing_exception", "parse_exception")
# An illegal argument may be the operator's (a pipeline that is missing, an alias that has no index
# for writing); it is the document's only where Elasticsearch says one of these.
_ILLEGAL_ARGUMENT = "illegal_argument_exception"
_ILLEGAL_IN_A_DOCUMENT = ("immense term", "nesting depth", "id is too long", "ids are too long")
# Of a whole request, for one impossible id in it.
_INVALID = "action_request_validation_exception"
_STORED, _SUPERSEDED = Stored(), Stored(superseded=True)
# A document's place in the batch, and its two lines of a bulk request.
_Item: TypeAlias = tuple[int, bytes]


class Options(StorageOptions):
    """Which cluster and index, and how to log in."""

    url: str | list[str] | None = Field(
        default=None, description="URL of the server, or of several nodes of one cluster."
    )
    cloud_id: str | None = Field(default=None, description="Elastic Cloud's id, instead of a URL.")
    api_key: SecretStr | None = Field(
        default=None, description="API key, in the encoded form that Elasticsearch shows."
    )
    username: str | None = Field(default=None, description="User, where there is no API key.")
    password: SecretStr | None = Field(default=None, description="The user's password.")
    bearer_token: SecretStr | None = Field(
        default=None, description="Token of a service account or of OAuth, instead of the others."
    )
    headers: dict[str, SecretStr] = Field(
        default_factory=dict, description="Further headers of every request, as a gateway may ask."
    )
    ca_certs: str | None = Field(
        default=None,
        description="File or folder with the certificates to trust, instead of the environment's.",
    )
    ca_fingerprint: str | None = Field(
        default=None,
        description="SHA-256 fingerprint of a certificate to trust, of the server or of its CA.",
    )
    client_cert: str | None = Field(
        default=None, description="File with the certificate that we show the server."
    )
    client_key: str | None = Field(
        default=None, description="File with its key, if it is not in the same file."
    )
    server_mode: Literal["stack", "serverless"] = Field(
        default="stack", description="`serverless` for a project of Elastic Cloud Serverless."
    )
    sniff_on_start: bool = Field(
        default=False, description="Ask the first node for all others, when the storage is opened."
    )
    sniff_before_requests: bool = Field(
        default=False, description="Ask for them again from time to time."
    )
    sniff_on_node_failure: bool = Field(
        default=False, description="Ask for them again whenever a node has failed."
    )
    sniff_timeout: float = Field(
        default=1.0, gt=0, description="Seconds that one such question may take."
    )
    min_delay_between_sniffing: float = Field(
        default=60.0, ge=0, description="Seconds between such questions, at least."
    )
    index: str = Field(default="vcons", min_length=1, description="Name of the index, or alias.")
    index_prefix: str = Field(default="", description="Put before the index's name.")
    index_settings: dict[str, Any] = Field(
        default_factory=dict,
        description="Settings for the index when it is made, such as number_of_shards.",
    )
    max_body_bytes: int = Field(
        default=65_536,
        ge=0,
        description="Longer inline bodies of dialogs and attachments are left out.",
    )
    max_vcon_bytes: int = Field(
        default=5_000_000,
        ge=0,
        description="A vCon that is larger even so is indexed, but not kept.",
    )
    http_compress: bool | None = Field(
        default=None,
        description="Compress requests: for slow networks, at the cost of CPU. By default only on"
        " the way to Elastic Cloud.",
    )

    @property
    def urls(self) -> list[str]:
        """The URLs of the nodes that are named."""
        return [self.url] if isinstance(self.url, str) else list(self.url or ())

    @property
    def sniffs(self) -> bool:
        """Whether nodes are looked for that the configuration does not name."""
        return self.sniff_on_start or self.sniff_before_requests or self.sniff_on_node_failure

    @field_validator("url")
    @classmethod
    def _is_url(cls, value: str | list[str] | None) -> str | list[str] | None:
        for url in [value] if isinstance(value, str) else value or ():
            AnyHttpUrl(url)
        return value

    @field_validator("cloud_id")
    @classmethod
    def _is_cloud_id(cls, value: str | None) -> str | None:
        if value is not None:
            _cloud_url(value)
        return value

    @field_validator("ca_fingerprint")
    @classmethod
    def _is_fingerprint(cls, value: str | None) -> str | None:
        if value is not None and not _is_sha256(value):
            raise ValueError(
                "not a SHA-256 fingerprint: 64 hexadecimal digits, perhaps with colons"
            )
        return value

    @model_validator(mode="after")
    def _fits_together(self) -> Options:
        if bool(self.url) == bool(self.cloud_id):
            raise ValueError("either url or cloud_id is needed, and not both")
        if (self.username is None) != (self.password is None):
            raise ValueError("username and password belong together")
        logins = [self.api_key, self.username, self.bearer_token]
        if sum(login is not None for login in logins) > 1:
            raise ValueError("only one of api_key, username and bearer_token can be used")
        if self.cloud_id and self.sniffs:
            raise ValueError("Elastic Cloud has nothing to sniff for: its URL is that of a proxy")
        if self.client_key and not self.client_cert:
            raise ValueError("client_key needs client_cert")
        return self


def prepare(options: Options) -> None:
    """Imports the client before a fork, and checks what can be checked without a connection."""
    client = importlib.import_module("storage.elasticsearch_client")
    client.check_client(options)
    urls = [_cloud_url(options.cloud_id)] if options.cloud_id else options.urls
    network.check(urls, ca_file=options.ca_certs)


class Storage:
    """An index."""

    searches = True

    def __init__(self, name: str, options: Options) -> None:
        self.name = name
        self.place = servers_in(*(options.urls or [_cloud_url(str(options.cloud_id))]))
        self._options = options
        self._index = options.index_prefix.strip() + options.index
        # Less than ours, so that a shard that is away is told apart from a dead node.
        self._shard_timeout = f"{int(options.timeout_s * 500)}ms"
        self._cluster: Cluster | None = None

    def open(self) -> None:
        """Connects and makes, if they are missing, the index and its template."""
        from storage.elasticsearch_client import Cluster

        self.close()
        cluster = Cluster(self._options)
        try:
            ensure_index(cluster, self._index, self._options.index_settings)
        except BaseException:
            cluster.close()
            raise
        self._cluster = cluster

    def close(self) -> None:
        """Closes the connections."""
        cluster, self._cluster = self._cluster, None
        if cluster is not None:
            cluster.close()

    def save_many(self, documents: Sequence[Document]) -> list[Outcome]:
        """Sends one bulk request, or several where it would be too large."""
        outcomes: list[Outcome] = [Unavailable("not tried")] * len(documents)
        for chunk in self._chunks(documents, outcomes):
            self._save(chunk, outcomes)
        return outcomes

    def get(self, uuid: str) -> bytes | None:
        """Gives the vCon, if it was kept whole."""
        found = self._found(uuid, lambda client: client.get(index=self._index, id=uuid))
        if found is None:
            return None
        kept = found["_source"]
        return orjson.dumps(kept["vcon"]) if kept.get("complete") else None

    def delete(self, uuid: str) -> bool:
        """Deletes the document under its own version, so that it can be stored again at once."""
        found = self._found(
            uuid, lambda client: client.get(index=self._index, id=uuid, source=False)
        )
        if found is None:
            return False
        deleted = self._found(
            uuid,
            lambda client: client.delete(
                index=self._index, id=uuid, version=found["_version"], version_type="external_gte"
            ),
        )
        return deleted is not None

    def search(self, text: str, limit: int, cursor: str = "") -> Hits:
        """Finds vCons by words, the newest first."""
        asked = elasticsearch_search.request(text, limit, cursor)
        if asked is None:
            return Hits([])
        answer = self._opened().ask(lambda client: client.search(index=self._index, **asked))
        if answer.status != _OK:
            raise answer.error()
        return elasticsearch_search.read(answer.data, limit)

    @staticmethod
    def check_query(query: object) -> None:
        """Raises ValueError for what is no query of Elasticsearch."""
        elasticsearch_search.check_query(query)

    def find(self, query: str | dict[str, Any], limit: int, cursor: str = "") -> Finds:
        """Finds documents by a query of Elasticsearch, such as {"term": {"tags": "billing"}}."""
        asked = elasticsearch_search.find_request(query, limit, cursor)
        answer = self._opened().ask(lambda client: client.search(index=self._index, **asked))
        if answer.status != _OK:
            raise answer.error()
        return elasticsearch_search.read_finds(answer.data, asked["size"] - 1)

    def ready(self) -> None:
        """Asks whether all primary shards of the index are there."""
        answer = self._opened().ask(lambda client: client.cluster.health(index=self._index))
        if answer.status in (_NOT_FOUND, _GONE) and self._options.server_mode == "serverless":
            # There are no shards to ask about.
            answer = self._opened().ask(lambda client: client.indices.get(index=self._index))
        if answer.status != _OK:
            raise answer.error(f"cannot ask for the index {self._index}")
        if answer.data.get("status") == "red":
            raise ConnectionError(f"the index {self._index} lacks shards")

    def _opened(self) -> Cluster:
        if self._cluster is None:
            raise ConnectionError(f"the storage {self.name} is not open")
        return self._cluster

    def _found(self, uuid: str, call: Callable[[Elasticsearch], Any]) -> dict[str, Any] | None:
        """What is answered about one document; None if there is no such one."""
        cluster = self._opened()
        if not _is_id(uuid):
            return None
        answer = cluster.ask(call)
        missing = answer.data.get("found") is False or answer.data.get("result") == "not_found"
        if answer.status == _NOT_FOUND and missing:
            return None
        if answer.status != _OK:
            raise answer.error()
        return answer.data

    def _chunks(
        self, documents: Sequence[Document], outcomes: list[Outcome]
    ) -> Iterator[list[_Item]]:
        """The documents as lines of bulk requests; what cannot be sent gets its outcome here."""
        chunk: list[_Item] = []
        size_bytes = 0
        for index, document in enumerate(documents):
            if not _is_id(document.uuid):
                outcomes[index] = Rejected("the uuid is empty or too long for an _id")
                continue
            try:
                lines = self._lines(document)
            except ValueError as error:
                outcomes[index] = Rejected(f"not a JSON object: {error}")
                continue
            if chunk and size_bytes + len(lines) > _REQUEST_LIMIT_BYTES:
                yield chunk
                chunk, size_bytes = [], 0
            chunk.append((index, lines))
            size_bytes += len(lines)
        if chunk:
            yield chunk

    def _lines(self, document: Document) -> bytes:
        options = self._options
        head = {
            "index": {
                "_id": document.uuid,
                "version": document.revision,
                "version_type": "external_gte",
            }
        }
        kept = source(document, options.max_body_bytes, options.max_vcon_bytes)
        return b"%b\n%b\n" % (orjson.dumps(head), kept)

    def _save(self, chunk: list[_Item], outcomes: list[Outcome]) -> None:
        """Sends a bulk request; in halves, where it is too large or one id in it is impossible."""
        # The client takes lines that are bytes as they are, and puts them together.
        lines: list[Any] = [lines for _, lines in chunk]
        answer = self._opened().ask(
            lambda client: client.bulk(
                index=self._index,
                operations=lines,
                filter_path=_BULK_ANSWER,
                timeout=self._shard_timeout,
            )
        )
        if answer.status == _OK:
            for (index, _), item in zip(chunk, answer.data["items"], strict=True):
                outcomes[index] = _outcome(item["index"])
        elif answer.status == _TOO_LARGE or answer.error_type == _INVALID:
            if len(chunk) == 1:
                outcomes[chunk[0][0]] = Rejected(answer.reason)
            else:
                half = len(chunk) // 2
                self._save(chunk[:half], outcomes)
                self._save(chunk[half:], outcomes)
        elif answer.status in (_TOO_MANY, _NOT_NOW):
            for index, _ in chunk:
                outcomes[index] = Unavailable(answer.reason, answer.retry_after_s)
        else:
            raise answer.error()


def _is_id(uuid: str) -> bool:
    """Whether Elasticsearch takes a uuid as the document's id. (Without one it makes its own.)"""
    return 0 < len(uuid.encode()) <= _ID_LIMIT_BYTES


def _outcome(item: dict[str, Any]) -> Outcome:
    """What became of one document of a bulk request."""
    status: int = item["status"]
    if status < _ERRORS:
        return _STORED
    if status == _CONFLICT:
        return _SUPERSEDED
    kind: str = item["error"]["type"]
    # Its further lines quote the document.
    reason = str(item["error"].get("reason", "")).partition("\n")[0]
    said = f"{kind}: {reason}"
    if kind == "index_not_found_exception":
        # Opening again makes it.
        raise ConnectionError(said)
    if status == _BAD_REQUEST and kind.endswith(_FAULTS_OF_A_DOCUMENT):
        return Rejected(said)
    if kind == _ILLEGAL_ARGUMENT and any(part in reason for part in _ILLEGAL_IN_A_DOCUMENT):
        return Rejected(said)
    return Unavailable(said)


def _cloud_url(cloud_id: str) -> str:
    """The URL in an id of Elastic Cloud: `NAME:` and base64 of `HOST$CLUSTER$KIBANA`.

    The client reads it again; here it is checked with the options, and named where the proxy is
    looked for. Raises ValueError if it is none.
    """
    try:
        text = base64.b64decode(cloud_id.rpartition(":")[2], validate=True).decode()
    except ValueError as error:  # binascii.Error and UnicodeDecodeError are
        raise ValueError(f"not an id of Elastic Cloud: {error}") from None
    host, _, rest = text.partition("$")
    cluster = rest.partition("$")[0]
    if not host or not cluster:
        raise ValueError("not an id of Elastic Cloud: it names no host")
    return f"https://{cluster}.{host}"


def _is_sha256(text: str) -> bool:
    return re.fullmatch(r"[0-9a-fA-F]{2}(:?[0-9a-fA-F]{2}){31}", text) is not None

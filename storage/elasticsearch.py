"""Elasticsearch: a document per vCon, made to be searched.

A batch is one `_bulk` request, of prepared bytes, with an outcome per document. The revision is the
document's external version, so that Elasticsearch itself refuses what is older than it has.

What is indexed is a small, fixed set of fields that this module takes from the vCon (see
elasticsearch_fields): a vCon can hold anything and yet never fit badly. The vCon itself lies beside
them in `vcon`, kept but not indexed. Recordings do not belong into a search engine: of a dialog or
attachment whose inline body is longer than `max_body_bytes` the body is left out. Only what was
kept whole (`complete: true`) is given back by `get`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias
from urllib.parse import quote

import orjson
from pydantic import Field, SecretStr, model_validator

from storage.contract import (
    Document,
    Outcome,
    Rejected,
    StorageOptions,
    Stored,
    Unavailable,
)
from storage.elasticsearch_fields import source
from storage.elasticsearch_http import Access, Cluster, cloud_url
from storage.elasticsearch_index import ask, ensure_index, error_type, reason

# Elasticsearch's own default limit for a request is 100 MB; smaller ones are kinder to its heap.
_REQUEST_LIMIT_BYTES = 10_000_000
_ID_LIMIT_BYTES = 512
# An answer with no more than we read: the position of an item tells whose it is.
_BULK_ANSWER = "items.*.status,items.*.error.type,items.*.error.reason"
_OK, _ERRORS, _BAD_REQUEST, _NOT_FOUND, _CONFLICT = 200, 300, 400, 404, 409
_TOO_LARGE, _TOO_MANY, _NOT_NOW = 413, 429, 503
# Errors of a document, by how their types end. (An index that is closed answers 400 as well.)
_FAULTS_OF_A_DOCUMENT = ("parsing_exception", "parse_exception", "illegal_argument_exception")
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
    ca_certs: str | None = Field(
        default=None, description="File with the certificates to trust, instead of the system's."
    )
    ca_fingerprint: str | None = Field(
        default=None, description="SHA-256 fingerprint of the certificate to trust, instead."
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
    http_compress: bool = Field(
        default=False, description="Compress requests: for slow networks, at the cost of CPU."
    )

    @model_validator(mode="after")
    def _says_where(self) -> Options:
        if bool(self.url) == bool(self.cloud_id):
            raise ValueError("either url or cloud_id is needed, and not both")
        if self.username is not None and self.password is None:
            raise ValueError("username needs a password")
        if self.cloud_id:
            cloud_url(self.cloud_id)
        return self


def prepare(options: Options) -> None:
    """All is imported already."""


class Storage:
    """An index."""

    def __init__(self, name: str, options: Options) -> None:
        self.name = name
        self._options = options
        self._index = options.index_prefix.strip() + options.index
        self._bulk_params = {
            "filter_path": _BULK_ANSWER,
            # Less than ours, so that a shard that is away is told apart from a dead node.
            "timeout": f"{int(options.timeout_s * 500)}ms",
        }
        self._cluster: Cluster | None = None

    def open(self) -> None:
        """Makes, if they are missing, the index and its template."""
        self.close()
        cluster = _cluster(self._options)
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
        """One bulk request, or several where it would be too large."""
        outcomes: list[Outcome] = [Unavailable("not tried")] * len(documents)
        for chunk in self._chunks(documents, outcomes):
            self._save(chunk, outcomes)
        return outcomes

    def get(self, uuid: str) -> bytes | None:
        """The vCon, if it was kept whole."""
        found = self._request("GET", uuid)
        if found is None:
            return None
        kept = found["_source"]
        return orjson.dumps(kept["vcon"]) if kept.get("complete") else None

    def delete(self, uuid: str) -> bool:
        """Deletes the document, under its own version: so it can be stored again at once."""
        found = self._request("GET", uuid, {"_source": "false"})
        if found is None:
            return False
        version = {"version": str(found["_version"]), "version_type": "external_gte"}
        return self._request("DELETE", uuid, version) is not None

    def ready(self) -> None:
        """Asks whether all shards of the index are there."""
        answer = ask(self._opened(), "GET", f"/_cluster/health/{self._index}")
        if answer.status != _OK or answer.data["status"] == "red":
            raise ConnectionError(f"the index {self._index} lacks shards: {reason(answer)}")

    def _opened(self) -> Cluster:
        if self._cluster is None:
            raise ConnectionError(f"the storage {self.name} is not open")
        return self._cluster

    def _request(
        self, method: str, uuid: str, params: dict[str, str] | None = None
    ) -> dict[str, Any] | None:
        """Asks for one document; None if there is no such one."""
        if not _is_id(uuid):
            return None
        path = f"/{self._index}/_doc/{quote(uuid, safe='')}"
        answer = ask(self._opened(), method, path, params)
        if answer.status == _NOT_FOUND:
            return None
        if answer.status != _OK:
            raise ConnectionError(reason(answer))
        return dict(answer.data)

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
        body = b"".join([lines for _, lines in chunk])
        answer = self._opened().request(
            "POST", f"/{self._index}/_bulk", self._bulk_params, body, lines=True
        )
        status = answer.status
        if status == _OK:
            for (index, _), item in zip(chunk, answer.data["items"], strict=True):
                outcomes[index] = _outcome(item["index"])
        elif status == _TOO_LARGE or error_type(answer) == _INVALID:
            if len(chunk) == 1:
                outcomes[chunk[0][0]] = Rejected(reason(answer))
            else:
                half = len(chunk) // 2
                self._save(chunk[:half], outcomes)
                self._save(chunk[half:], outcomes)
        elif status in (_TOO_MANY, _NOT_NOW):
            for index, _ in chunk:
                outcomes[index] = Unavailable(reason(answer), answer.retry_after_s)
        else:
            raise ConnectionError(reason(answer))


def _cluster(options: Options) -> Cluster:
    if options.cloud_id:
        urls = [cloud_url(options.cloud_id)]
    else:
        urls = [options.url] if isinstance(options.url, str) else list(options.url or ())
    access = Access(
        api_key=options.api_key.get_secret_value() if options.api_key else None,
        username=options.username,
        password=options.password.get_secret_value() if options.password else "",
        ca_file=options.ca_certs,
        fingerprint=options.ca_fingerprint,
        compress=options.http_compress,
    )
    return Cluster(urls, access, options.timeout_s)


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
    said = f"{kind}: {item['error'].get('reason', '')}".partition("\n")[0]
    if kind == "index_not_found_exception":
        # Opening again makes it.
        raise ConnectionError(said)
    if status == _BAD_REQUEST and kind.endswith(_FAULTS_OF_A_DOCUMENT):
        return Rejected(said)
    return Unavailable(said)

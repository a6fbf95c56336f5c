"""Stores a vCon as a document in Elasticsearch, for searches.

A batch is one bulk request of prepared bytes, with an outcome for every document. The revision is
the document's external version, so that Elasticsearch itself refuses to replace a newer revision.

Only a small, fixed set of fields is indexed, so that no vCon can conflict with the mapping;
elasticsearch_fields reads them from the vCon. The member `vcon` holds the vCon itself, without an
index. Inline bodies of dialogs and attachments that are longer than `max_body_bytes` are left out,
because recordings do not belong into a search engine. `get` returns only a vCon that was kept whole
(`complete: true`).

storage.elasticsearch_client makes the requests, through the official client.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import orjson

from storage import elasticsearch_search, network
from storage.contract import (
    Document,
    Finds,
    Hits,
    Outcome,
    Rejected,
    Stored,
    Unavailable,
    servers_in,
)
from storage.elasticsearch_fields import source
from storage.elasticsearch_index import ensure_index
from storage.elasticsearch_options import Options, cloud_url

if TYPE_CHECKING:
    from elasticsearch import Elasticsearch

    from storage.elasticsearch_client import Cluster

__all__ = ["Options", "Storage", "prepare"]

# Elasticsearch's default limit of a request is 100 MB. Smaller requests take less of its heap.
_REQUEST_LIMIT_BYTES = 10_000_000
_ID_LIMIT_BYTES = 512
# The members of a bulk answer that are read here. An item's position names its document.
_BULK_ANSWER = "items.*.status,items.*.error.type,items.*.error.reason"
_OK, _ERRORS, _BAD_REQUEST, _NOT_FOUND, _CONFLICT, _GONE = 200, 300, 400, 404, 409, 410
_TOO_LARGE, _TOO_MANY, _NOT_NOW = 413, 429, 503
# Types of errors that are a document's fault end with one of these. (The status does not tell: a
# closed index answers 400, too.)
_FAULTS_OF_A_DOCUMENT = ("parsing_exception", "parse_exception")
# An illegal argument may be the operator's fault (a missing pipeline, an alias without an index for
# writing). It is the document's fault only if the reason contains one of these texts.
_ILLEGAL_ARGUMENT = "illegal_argument_exception"
_ILLEGAL_IN_A_DOCUMENT = ("immense term", "nesting depth", "id is too long", "ids are too long")
# The error of a whole bulk request if one id in it is impossible.
_INVALID = "action_request_validation_exception"
_STORED, _SUPERSEDED = Stored(), Stored(superseded=True)
# A document's place in the batch, and its two lines of a bulk request.
_Item: TypeAlias = tuple[int, bytes]


def prepare(options: Options) -> None:
    """Imports the client before a fork, and checks options, proxies and certificates."""
    client = importlib.import_module("storage.elasticsearch_client")
    client.check_client(options)
    urls = [cloud_url(options.cloud_id)] if options.cloud_id else options.urls
    network.check(urls, ca_file=options.ca_certs)


class Storage:
    """An index."""

    searches = True

    def __init__(self, name: str, options: Options) -> None:
        self.name = name
        self.place = servers_in(*(options.urls or [cloud_url(str(options.cloud_id))]))
        self._options = options
        self._index = options.index_prefix.strip() + options.index
        # Half of the client's timeout, so that a missing shard is reported before the call ends.
        self._shard_timeout = f"{int(options.timeout_s * 500)}ms"
        self._cluster: Cluster | None = None

    def open(self) -> None:
        """Connects, and creates the index and its template if they are missing."""
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
        """Sends one bulk request, or several if it would be too large."""
        outcomes: list[Outcome] = [Unavailable("not tried")] * len(documents)
        for chunk in self._chunks(documents, outcomes):
            self._save(chunk, outcomes)
        return outcomes

    def get(self, uuid: str) -> bytes | None:
        """The vCon, if it was kept whole; else None."""
        found = self._found(uuid, lambda client: client.get(index=self._index, id=uuid))
        if found is None:
            return None
        kept = found["_source"]
        return orjson.dumps(kept["vcon"]) if kept.get("complete") else None

    def delete(self, uuid: str) -> bool:
        """Deletes the document with its own version, so that it can be stored again at once."""
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
        """Raises ValueError if `query` cannot be a query of Elasticsearch."""
        elasticsearch_search.check_query(query)

    def find(self, query: str | dict[str, Any], limit: int, cursor: str = "") -> Finds:
        """Finds documents by a query of Elasticsearch, such as {"term": {"tags": "billing"}}."""
        asked = elasticsearch_search.find_request(query, limit, cursor)
        answer = self._opened().ask(lambda client: client.search(index=self._index, **asked))
        if answer.status != _OK:
            raise answer.error()
        return elasticsearch_search.read_finds(answer.data, asked["size"] - 1)

    def ready(self) -> None:
        """Raises if the index lacks a primary shard."""
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
        """The answer of a call about one document; None if the document does not exist."""
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
        """The documents as lines, grouped into bulk requests. Sets the outcome of documents that
        cannot be sent.
        """
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
        """Sends a bulk request; in halves if it is too large or an id in it is impossible."""
        # The client joins lines that are bytes, and does not encode them again.
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
    """Whether a uuid can be an _id. (For an empty one, Elasticsearch would make its own.)"""
    return 0 < len(uuid.encode()) <= _ID_LIMIT_BYTES


def _outcome(item: dict[str, Any]) -> Outcome:
    """The outcome of one document, by its item of the bulk answer."""
    status: int = item["status"]
    if status < _ERRORS:
        return _STORED
    if status == _CONFLICT:
        return _SUPERSEDED
    kind: str = item["error"]["type"]
    # Later lines of the reason quote the document.
    reason = str(item["error"].get("reason", "")).partition("\n")[0]
    said = f"{kind}: {reason}"
    if kind == "index_not_found_exception":
        # The caller opens the storage again, which creates the index.
        raise ConnectionError(said)
    if status == _BAD_REQUEST and kind.endswith(_FAULTS_OF_A_DOCUMENT):
        return Rejected(said)
    if kind == _ILLEGAL_ARGUMENT and any(part in reason for part in _ILLEGAL_IN_A_DOCUMENT):
        return Rejected(said)
    return Unavailable(said)

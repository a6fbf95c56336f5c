"""Stores a vCon as a document in MongoDB.

The vCon's members are the document's members, so that queries can use `parties.tel`. Two members
are added: `_id`, the uuid, and `_conserver` with the revision. Times (created_at, the start of a
dialog) stay texts, so that `get` returns them unchanged; vcon-server stores dates instead.

An idle connection may have been closed. Then the call is repeated once; every call here is safe to
repeat. (With a replica set, the client itself repeats the call.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import orjson
from pydantic import Field, SecretStr

from storage.contract import (
    Document,
    Outcome,
    Rejected,
    StorageOptions,
    Stored,
    Unavailable,
    servers_in,
)

if TYPE_CHECKING:
    from bson.raw_bson import RawBSONDocument
    from pymongo import MongoClient, ReplaceOne
    from pymongo.collection import Collection

_Result = TypeVar("_Result")

_OURS = "_conserver"
_DUPLICATE_KEY = 11000
_LIMIT_BYTES = 16 * 1024 * 1024
_REASON_LIMIT_CHARS = 500
_STORED, _SUPERSEDED = Stored(), Stored(superseded=True)
_CONNECT_TIMEOUT_S = 10.0
# Codes of errors that are a document's fault: MongoDB refuses a member's name, the document is
# nested too deeply or too large, or it fails the collection's validation. All other errors may
# pass.
_FAULTS_OF_A_DOCUMENT = frozenset([2, 9, 15, 22, 52, 55, 56, 57, 121, 10334, 17280, 17419, 17420])


class Options(StorageOptions):
    """Which server, database and collection."""

    url: SecretStr = Field(
        default=SecretStr("mongodb://localhost:27017/"),
        description="Connection string: hosts, user, TLS, and MongoDB's own options.",
    )
    database: str = Field(default="conserver", min_length=1, description="Name of the database.")
    collection: str = Field(default="vcons", min_length=1, description="Name of the collection.")


def prepare(options: Options) -> None:
    """Imports the client before a fork. (The client itself starts threads.)"""
    import pymongo  # noqa: F401


class Storage:
    """A collection."""

    def __init__(self, name: str, options: Options) -> None:
        self.name = name
        self.place = servers_in(options.url.get_secret_value())
        self._options = options
        self._client: MongoClient[dict[str, Any]] | None = None

    def open(self) -> None:
        """Connects, and pings the server."""
        from pymongo import MongoClient

        self.close()
        wait_ms = int(self._options.timeout_s * 1000)
        connect_ms = int(min(self._options.timeout_s, _CONNECT_TIMEOUT_S) * 1000)
        client: MongoClient[dict[str, Any]] = MongoClient(
            self._options.url.get_secret_value(),
            appname="conserver",
            connectTimeoutMS=connect_ms,
            serverSelectionTimeoutMS=connect_ms,
            socketTimeoutMS=wait_ms,
            # One connection for save_many, and one for a thread that calls get or delete.
            maxPoolSize=2,
        )
        try:
            client.admin.command("ping")
        except BaseException:
            client.close()
            raise
        self._client = client

    def close(self) -> None:
        """Closes the connections."""
        client, self._client = self._client, None
        if client is not None:
            client.close()

    def save_many(self, documents: Sequence[Document]) -> list[Outcome]:
        """Saves all documents in one unordered bulk write."""
        from bson.errors import BSONError

        outcomes: list[Outcome] = [_STORED] * len(documents)
        places: list[int] = []
        writes: list[ReplaceOne[RawBSONDocument]] = []
        for index, document in enumerate(documents):
            try:
                writes.append(_write(document))
            except (ValueError, OverflowError, RecursionError, BSONError) as error:
                outcomes[index] = Rejected(str(error))
            else:
                places.append(index)
        if writes:
            failures = _repeated(lambda: list(_failures(self._collection(), writes)))
            for position, outcome in failures:
                outcomes[places[position]] = outcome
        return outcomes

    def get(self, uuid: str) -> bytes | None:
        """Returns the document as JSON, without `_id` and `_conserver`."""
        without = {"_id": False, _OURS: False}
        found = _repeated(lambda: self._collection().find_one({"_id": uuid}, without))
        return None if found is None else orjson.dumps(found)

    def delete(self, uuid: str) -> bool:
        """Deletes the document."""
        done = _repeated(lambda: self._collection().delete_one({"_id": uuid}))
        return done.deleted_count > 0

    def ready(self) -> None:
        """Pings the server."""
        self._collection().database.command("ping")

    def _collection(self) -> Collection[dict[str, Any]]:
        if self._client is None:
            raise ConnectionError(f"the storage {self.name} is not open")
        return self._client[self._options.database][self._options.collection]


def _repeated(call: Callable[[], _Result]) -> _Result:
    """Makes a call. If the connection was closed, repeats the call once."""
    from pymongo.errors import AutoReconnect, NetworkTimeout

    try:
        return call()
    except NetworkTimeout:
        raise
    except AutoReconnect:
        return call()


def _write(document: Document) -> ReplaceOne[RawBSONDocument]:
    """The write of a document: it replaces an older revision, or inserts.

    If the collection has a newer revision, the filter does not match, and the insert fails with a
    duplicate _id.
    """
    import bson
    from bson.raw_bson import RawBSONDocument
    from pymongo import ReplaceOne

    data = document.data
    if "_id" in data or _OURS in data:
        raise ValueError(f"the vCon has a member _id or {_OURS}, which is the collection's own")
    # Encode here, so that an error of BSON concerns this document and not the whole batch.
    encoded = bson.encode({"_id": document.uuid, **data, _OURS: {"revision": document.revision}})
    if len(encoded) > _LIMIT_BYTES:
        raise ValueError(f"larger than MongoDB takes: {len(encoded)} bytes")
    older = {"_id": document.uuid, f"{_OURS}.revision": {"$not": {"$gt": document.revision}}}
    return ReplaceOne(older, RawBSONDocument(encoded), upsert=True)


def _failures(
    collection: Collection[Any], writes: list[ReplaceOne[RawBSONDocument]], first: int = 0
) -> Iterator[tuple[int, Outcome]]:
    """Runs the writes; yields the position and the outcome of each failed one.

    `first` is the position of writes[0] in the batch.
    """
    from pymongo.errors import BulkWriteError, OperationFailure

    try:
        collection.bulk_write(writes, ordered=False)
    except BulkWriteError as error:
        if error.details.get("writeConcernErrors"):
            # Too few servers have confirmed: no write of the batch is known to be safe.
            raise
        for failure in error.details["writeErrors"]:
            yield first + failure["index"], _outcome(failure)
    except OperationFailure as error:
        # MongoDB refused the whole batch because of one document.
        if error.code not in _FAULTS_OF_A_DOCUMENT:
            raise
        if len(writes) == 1:
            yield first, Rejected(str(error)[:_REASON_LIMIT_CHARS])
        else:
            half = len(writes) // 2
            yield from _failures(collection, writes[:half], first)
            yield from _failures(collection, writes[half:], first + half)


def _outcome(failure: dict[str, Any]) -> Outcome:
    code = failure["code"]
    if code == _DUPLICATE_KEY and "_id" in failure.get("keyPattern", {"_id": 1}):
        return _SUPERSEDED
    reason = f"{failure['errmsg'][:_REASON_LIMIT_CHARS]} (code {code})"
    return Rejected(reason) if code in _FAULTS_OF_A_DOCUMENT else Unavailable(reason)

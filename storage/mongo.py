"""MongoDB: a document per vCon.

The vCon's members are the document's members, so that `parties.tel` can be asked for as it stands.
Beside them are `_id`, the uuid, and `_conserver` with the revision. The times at which vcon-server
stores dates (created_at, the dialogs' start) are texts here, as in the vCon: they come back as they
were.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import orjson
from pydantic import Field, SecretStr

from storage.contract import Document, Outcome, Rejected, Stored, StorageOptions, Unavailable

if TYPE_CHECKING:
    from pymongo import MongoClient, UpdateOne
    from pymongo.collection import Collection

_OURS = "_conserver"
_DUPLICATE_KEY = 11000
_CONNECT_TIMEOUT_S = 10.0
# Of a document: it fails its collection's validation, has a name MongoDB does not take, is nested
# too deeply, or is too large. Everything else may pass.
_FAULTS_OF_A_DOCUMENT = frozenset([2, 9, 15, 52, 55, 56, 57, 121, 10334, 17280, 17419, 17420])


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
        self._options = options
        self._client: MongoClient[dict[str, Any]] | None = None

    def open(self) -> None:
        """Connects and asks for an answer."""
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
            # The writer is one thread; get and delete may be another.
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
        """One unordered bulk write, with an outcome for each."""
        outcomes: list[Outcome] = [Stored()] * len(documents)
        places: list[int] = []
        writes: list[UpdateOne] = []
        for index, document in enumerate(documents):
            try:
                writes.append(_write(document))
            except _unfit() as error:
                outcomes[index] = Rejected(str(error))
            else:
                places.append(index)
        if writes:
            for position, outcome in _failures(self._collection(), writes):
                outcomes[places[position]] = outcome
        return outcomes

    def get(self, uuid: str) -> bytes | None:
        """The document as JSON, without what is ours."""
        found = self._collection().find_one({"_id": uuid}, {"_id": False, _OURS: False})
        return None if found is None else orjson.dumps(found)

    def delete(self, uuid: str) -> bool:
        """Deletes the document."""
        return self._collection().delete_one({"_id": uuid}).deleted_count > 0

    def ready(self) -> None:
        """Asks the server."""
        self._collection().database.command("ping")

    def _collection(self) -> Collection[dict[str, Any]]:
        if self._client is None:
            raise ConnectionError(f"the storage {self.name} is not open")
        return self._client[self._options.database][self._options.collection]

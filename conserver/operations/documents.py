"""Reads a vCon by its uuid from Redis or a storage; stores it in Redis; deletes it everywhere."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self, TypeVar, cast

from conserver.config.validation import suggest
from conserver.errors import InvalidArgumentError, OperationError
from conserver.operations import audit
from conserver.operations.connection import Client
from conserver.plugins import loader
from conserver.queue import keys
from conserver.telemetry.redact import redact_text
from storage.contract import Findable, Searchable, place_of, with_place

if TYPE_CHECKING:
    from conserver.config.model import Config
    from storage.contract import Finds, Hits, Storage

REDIS = "redis"  # the name of Redis as a source

Answer = TypeVar("Answer")

_TRIES = 50
_FAR_MS = 50 * 365 * 86_400_000
"""A document with a later expiry belongs to an unfinished item: the scripts set 2200-01-01."""


@dataclass(frozen=True, slots=True)
class InRedis:
    """The value of vcon:<uuid> in Redis.

    Attributes:
        text: the document; None if there is none.
        kind: the type of the key; "none" if it does not exist.
    """

    text: bytes | None
    kind: str

    @property
    def strange(self) -> bool:
        """Whether the key has another type than a document may have."""
        return self.text is None and self.kind != "none"


@dataclass(frozen=True, slots=True)
class Found:
    """The result of a search for a document.

    Attributes:
        text: the document; None if no source has it.
        source: the source that has it: "redis", or a storage's name.
        silent: storage that could not be asked -> its error.
        in_redis: Redis's value of vcon:<uuid>; None if Redis was not asked.
    """

    text: bytes | None = None
    source: str = ""
    silent: dict[str, str] = field(default_factory=dict)
    in_redis: InRedis | None = None


def check_source(config: Config, source: str, config_file: str) -> None:
    """Raise InvalidArgumentError if `source` is neither "", "redis" nor a storage's name."""
    if source not in ("", REDIS, *config.storages):
        hint = suggest(source, [REDIS, *config.storages])
        text = f"there is no storage `{source}` in {config_file} ({hint})"
        raise InvalidArgumentError("source", text)


def read(client: Client, uuid: str) -> InRedis:
    """Read the document from Redis: a string, or the text of a RedisJSON value."""
    key = keys.document(uuid)
    kind: str = client.type(key).decode()
    text: bytes | None = None
    if kind == "string":
        text = client.get(key)
    elif kind == "ReJSON-RL":
        text = client.execute_command("JSON.GET", key)
    return InRedis(text, kind)


def store(
    client: Client,
    uuid: str,
    text: bytes,
    *,
    expiry_s: int,
    check: Callable[[bytes | None], None] = lambda _: None,
) -> bool:
    """Store a document in Redis. An earlier document is replaced if `check` accepts that.

    Args:
        expiry_s: when the new document expires (0: never). If the earlier document has no expiry,
            an item with it may be queued: then the new document gets no expiry, either.
        check: called with the earlier document, or None; its exception is passed on. The document
            cannot change between this call and the write.

    Returns:
        Whether there was an earlier document.

    Raises:
        OperationError: "conflict": the key has the wrong type, or other clients keep changing it.
    """
    from redis.exceptions import WatchError

    key = keys.document(uuid)
    for _ in range(_TRIES):
        with client.pipeline() as pipe:
            pipe.watch(key)
            before = read(pipe, uuid)
            if before.strange:
                raise OperationError(f"{key} is a {before.kind} in Redis", "conflict")
            check(before.text)
            kept = before.text is not None and not expires(pipe.pttl(key))
            pipe.multi()
            pipe.set(key, text, ex=None if kept else expiry_s or None)
            try:
                pipe.execute()
            except WatchError:
                continue
            return before.text is not None
    raise OperationError(f"{key} is changed by others all the time; try again", "conflict")


def expires(left_ms: int) -> bool:
    """Whether a document with this PTTL (in ms) expires soon, so that no unfinished item has it."""
    return 0 <= left_ms < _FAR_MS


@dataclass(frozen=True, slots=True)
class Deleted:
    """The result of a deletion.

    places: "redis" and the storages that had the document. failed: storage that could not be asked
    -> its error.
    """

    places: list[str]
    failed: dict[str, str]


def delete(client: Client, storages: StorageReader, uuid: str, *, actor: str) -> Deleted:
    """Delete a vCon from Redis and from every storage.

    Items of the vCon that wait become dead letters when they run: cancel them first.
    """
    places, failed = [], {}
    if client.delete(keys.document(uuid)):
        places.append(REDIS)
    client.delete(keys.revision(uuid))
    for name in storages.names:
        try:
            if storages.delete(name, uuid):
                places.append(name)
        except Exception as error:  # noqa: BLE001 - a client of any library may raise anything.
            failed[name] = redact_text(str(error))
    if places:
        audit.record(client, actor, "delete", {"uuid": uuid, "places": places}, len(places))
    return Deleted(places, failed)


def get(client: Client | None, storages: StorageReader, uuid: str, source: str = "") -> Found:
    """Read a document from Redis, or from the first storage that has it.

    Args:
        client: may be None if `source` is a storage.
        source: "redis" or a storage's name to read only there; "" for all.
    """
    in_redis = read(client, uuid) if client is not None and source in ("", REDIS) else None
    if in_redis is not None and in_redis.text is not None:
        return Found(in_redis.text, REDIS, {}, in_redis)
    if source == REDIS:
        return Found(in_redis=in_redis)
    silent: dict[str, str] = {}
    for name in [source] if source else storages.names:
        try:
            text = storages.get(name, uuid)
        except Exception as error:  # noqa: BLE001 - a client of any library may raise anything.
            silent[name] = storages.said(name, error)
            continue
        if text is not None:
            return Found(text, name, silent, in_redis)
    return Found(None, "", silent, in_redis)


class StorageReader:
    """Reads documents from the storages of a configuration, and deletes them. Thread-safe.

    It opens a storage at the first call for it. The storage stays open until a call fails, or until
    `close`.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._locks = {name: threading.Lock() for name in config.storages}
        self._open: dict[str, Storage] = {}
        self._searches: dict[str, bool] = {}
        self._places: dict[str, str] = {}

    @property
    def names(self) -> Sequence[str]:
        """The storages, in the order of the configuration."""
        return list(self._locks)

    def get(self, name: str, uuid: str) -> bytes | None:
        """Read the document from one storage; None if it has none. Passes the storage's exceptions
        on.
        """
        return self._ask(name, lambda storage: storage.get(uuid))

    def said(self, name: str, error: Exception) -> str:
        """The text of a storage's exception, with the storage's address, without secrets."""
        return redact_text(with_place(str(error), self._places.get(name, "")))

    def delete(self, name: str, uuid: str) -> bool:
        """Delete the document from one storage. Returns whether the storage had it. Passes the
        storage's exceptions on.
        """
        return self._ask(name, lambda storage: storage.delete(uuid))

    def searches(self, name: str) -> bool:
        """Whether a storage can search for words. This does not open the storage."""
        if name not in self._searches:
            storage = loader.load_storage(name, self._config.storages[name]).make()
            self._searches[name] = isinstance(storage, Searchable) and storage.searches
        return self._searches[name]

    def search(self, name: str, text: str, limit: int, cursor: str) -> Hits:
        """Search one storage (see storage.contract.Searchable). Passes its exceptions on."""
        return self._ask(
            name, lambda storage: cast("Searchable", storage).search(text, limit, cursor)
        )

    def find(self, name: str, query: str | dict[str, Any], limit: int, cursor: str) -> Finds:
        """Query one storage (see storage.contract.Findable). Passes its exceptions on; raises
        ValueError if the storage has no query language.
        """

        def ask(storage: Storage) -> Finds:
            if not isinstance(storage, Findable):
                raise ValueError("this storage has no language for queries")
            return storage.find(query, limit, cursor)

        return self._ask(name, ask)

    def close(self) -> None:
        """Close all storages. The next call for a storage opens it again."""
        for name, lock in self._locks.items():
            with lock:
                self._close(name)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _ask(self, name: str, question: Callable[[Storage], Answer]) -> Answer:
        with self._locks[name]:
            try:
                return question(self._opened(name))
            except BaseException:
                self._close(name)
                raise

    def _opened(self, name: str) -> Storage:
        if name not in self._open:
            loaded = loader.load_storage(name, self._config.storages[name])
            loaded.prepare()
            # Store it before `open`, so that a storage whose `open` fails is closed, too.
            self._open[name] = loaded.make()
            self._places[name] = place_of(self._open[name])
            self._open[name].open()
        return self._open[name]

    def _close(self, name: str) -> None:
        storage = self._open.pop(name, None)
        if storage is not None:
            storage.close()

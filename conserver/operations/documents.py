"""One vCon by its uuid: from Redis, else from the first storage that has it; stored, deleted."""

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

REDIS = "redis"  # as a source

Answer = TypeVar("Answer")

_TRIES = 50
_FAR_MS = 50 * 365 * 86_400_000
"""A later expiry is the mark of the queue's scripts on a document that is worked on."""


@dataclass(frozen=True, slots=True)
class InRedis:
    """What Redis holds as the document of a vCon.

    Attributes:
        text: None where there is none.
        kind: the type of the key, "none" where there is none.
    """

    text: bytes | None
    kind: str

    @property
    def strange(self) -> bool:
        """Whether the key holds something that is no document."""
        return self.text is None and self.kind != "none"


@dataclass(frozen=True, slots=True)
class Found:
    """A vCon, and where it was looked for.

    Attributes:
        text: None where no source has it.
        source: which one has it.
        silent: storages that could not be asked, each with its error.
        in_redis: what Redis holds, where Redis was asked.
    """

    text: bytes | None = None
    source: str = ""
    silent: dict[str, str] = field(default_factory=dict)
    in_redis: InRedis | None = None


def check_source(config: Config, source: str, config_file: str) -> None:
    """Raises InvalidArgumentError where `source` is neither "", "redis" nor a storage's name."""
    if source not in ("", REDIS, *config.storages):
        hint = suggest(source, [REDIS, *config.storages])
        text = f"there is no storage `{source}` in {config_file} ({hint})"
        raise InvalidArgumentError("source", text)


def read(client: Client, uuid: str) -> InRedis:
    """The document in Redis: a string, or a RedisJSON value as text."""
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
    """Store a document in Redis in place of what is there, if `check` accepts that.

    Args:
        expiry_s: how long one is kept that nobody has queued (0: for ever). One that is there
            without an expiry may be waiting in a queue: it goes on without.
        check: is called with the document that is replaced, or None; what it raises is raised.
            Nothing changes between that and the storing.

    Returns:
        Whether there was one.

    Raises:
        OperationError: "conflict": the key is no document, or others change it all the time.
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
    """Whether a document with this PTTL is one that nobody has queued and nobody works on."""
    return 0 <= left_ms < _FAR_MS


@dataclass(frozen=True, slots=True)
class Deleted:
    """Where a vCon was deleted. failed: storages that could not be asked, each with its error."""

    places: list[str]
    failed: dict[str, str]


def delete(client: Client, storages: StorageReader, uuid: str, *, actor: str) -> Deleted:
    """Delete a vCon from Redis and from every storage.

    Submissions of it that wait in a queue become dead letters when they are run: cancel them first.
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
    """The document from Redis, or from the first storage that has it.

    Args:
        client: may be None where `source` is a storage.
        source: "redis" or a storage's name looks only there, "" everywhere.
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
    """Reads from the storages of a configuration, and deletes. Any thread may call it.

    A storage is opened when it is read first, and stays open until it fails or `close` is called.
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
        """The document from one storage; None where it has none. Raises what the storage raises."""
        return self._ask(name, lambda storage: storage.get(uuid))

    def said(self, name: str, error: Exception) -> str:
        """What one storage has raised, with the place where it is, and without secrets."""
        return redact_text(with_place(str(error), self._places.get(name, "")))

    def delete(self, name: str, uuid: str) -> bool:
        """Delete the document from one storage; whether it had one. Raises what that raises."""
        return self._ask(name, lambda storage: storage.delete(uuid))

    def searches(self, name: str) -> bool:
        """Whether a storage keeps an index of words. It is not opened for that."""
        if name not in self._searches:
            storage = loader.load_storage(name, self._config.storages[name]).make()
            self._searches[name] = isinstance(storage, Searchable) and storage.searches
        return self._searches[name]

    def search(self, name: str, text: str, limit: int, cursor: str) -> Hits:
        """What one storage finds (see storage.contract.Searchable). Raises what that raises."""
        return self._ask(
            name, lambda storage: cast("Searchable", storage).search(text, limit, cursor)
        )

    def find(self, name: str, query: str | dict[str, Any], limit: int, cursor: str) -> Finds:
        """What one storage finds (see storage.contract.Findable). Raises what that raises."""

        def ask(storage: Storage) -> Finds:
            if not isinstance(storage, Findable):
                raise ValueError("this storage has no language for queries")
            return storage.find(query, limit, cursor)

        return self._ask(name, ask)

    def close(self) -> None:
        """Close all storages; the next `get` opens its storage again."""
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
            # Before it is opened: a storage that fails at that is closed as well.
            self._open[name] = loaded.make()
            self._places[name] = place_of(self._open[name])
            self._open[name].open()
        return self._open[name]

    def _close(self, name: str) -> None:
        storage = self._open.pop(name, None)
        if storage is not None:
            storage.close()

"""Deletes documents from Redis that every storage has, before they expire.

After the end of its item a document stays in Redis for VCON_REDIS_EXPIRY. If Redis gets full
because that time is long, a document may be deleted at once, under three conditions:

1. The document has an expiry, so no unfinished item has it.
2. No list (egress lists included) and no dead letter names its vCon.
3. Each storage of the configuration has the document, and at least one of them has the same version
   as Redis. Otherwise a producer may have changed the document, and may be about to push it.
"""

from __future__ import annotations

from collections.abc import Collection, Generator, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

import orjson

from conserver.errors import OperationError
from conserver.operations import audit, documents, items
from conserver.operations.connection import Client
from conserver.operations.documents import StorageReader
from conserver.queue import keys, script
from conserver.queue.script import Call

_PAGE = 1000


@dataclass(frozen=True, slots=True)
class Forgetting:
    """The progress of `forget_stored`, in documents.

    Attributes:
        looked_at: documents that were checked.
        forgotten: documents that were deleted (in a dry run: that would be deleted).
        awaited: documents that stay because a list or a dead letter names them.
        unstored: documents that stay because a storage does not have them.
    """

    looked_at: int = 0
    forgotten: int = 0
    awaited: int = 0
    unstored: int = 0


def forget(uuids: Iterable[str]) -> Call:
    """The call of forget.lua: lets documents that have an expiry expire at once. It answers how
    many.
    """
    pairs = [(keys.revision(uuid), keys.document(uuid)) for uuid in uuids]
    return Call("forget", [key for pair in pairs for key in pair], [])


def forget_stored(
    client: Client,
    storages: StorageReader,
    names: Collection[str],
    *,
    dry_run: bool = False,
    actor: str,
) -> Generator[Forgetting, None, None]:
    """Delete the documents that meet the three conditions; yield the progress.

    Args:
        names: all lists: the lists of the configuration, known lists, and egress lists.

    Raises:
        OperationError: the configuration has no storage, or a storage cannot be asked.
    """
    if not storages.names:
        raise OperationError("the configuration has no storage, so nothing is stored", "conflict")
    looked_at = forgotten = awaited = unstored = 0
    try:
        for page in _pages(client):
            looked_at += len(page)
            stored = [uuid for uuid in page if _is_stored(client, storages, uuid)]
            unstored += len(page) - len(stored)
            # As late as possible. A vCon that is pushed after this look may lose its document, as
            # it may with any other expiry.
            named = _named(client, names) if stored else frozenset()
            free = [uuid for uuid in stored if uuid not in named]
            awaited += len(stored) - len(free)
            if free:
                forgotten += len(free) if dry_run else script.run(client, forget(free))
            yield Forgetting(looked_at, forgotten, awaited, unstored)
    finally:
        if forgotten and not dry_run:
            audit.record(client, actor, "forget", {"storages": list(storages.names)}, forgotten)
    yield Forgetting(looked_at, forgotten, awaited, unstored)


def _pages(client: Client) -> Iterator[list[str]]:
    """The uuids of documents that have an expiry, page by page."""
    prefix = keys.document("")
    scanned = client.scan_iter(match=f"{prefix}*", count=1000)
    while page := list(islice(scanned, _PAGE)):
        pipe = client.pipeline(transaction=False)
        for key in page:
            pipe.pttl(key)
        yield [
            key.decode("utf-8", "replace").removeprefix(prefix)
            for key, left_ms in zip(page, pipe.execute(), strict=True)
            if documents.expires(left_ms)
        ]


def _named(client: Client, names: Collection[str]) -> frozenset[str]:
    """The uuids that an element of these lists, a running item or a dead letter names."""
    return frozenset(entry.uuid for entry in items.everything(client, names))


def _is_stored(client: Client, storages: StorageReader, uuid: str) -> bool:
    """Whether every storage has the document, and one of them in the same version as Redis."""
    stored: list[bytes] = []
    for name in storages.names:
        try:
            found = storages.get(name, uuid)
        except Exception as error:  # noqa: BLE001 - a client of any library may raise anything.
            text = f"storage {name} cannot be asked: {storages.said(name, error)}"
            raise OperationError(text, "unavailable") from None
        if found is None:
            return False
        stored.append(found)
    now = documents.read(client, uuid).text
    return now is not None and any(_says_the_same(one, now) for one in stored)


def _says_the_same(one: bytes, other: bytes) -> bool:
    """Whether two documents are equal as JSON, because a storage may format JSON differently."""
    try:
        return one == other or bool(orjson.loads(one) == orjson.loads(other))
    except orjson.JSONDecodeError:
        return False

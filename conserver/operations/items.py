"""Finds a vCon in the queues, and cancels it.

A search reads key after key while items move between keys. So it misses an item that moves to a key
that has been read already. Code that concludes something from the absence of an item must therefore
search again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from conserver.operations import audit
from conserver.operations.connection import Client
from conserver.queue import cancellation, elements, keys, lookup, record
from conserver.queue.names import name_of, name_of_element

_NO_KEY = -2  # the PTTL of a key that is not there

Where = Literal["queued", "returned", "suspects", "parked", "running", "dead"]


@dataclass(frozen=True, slots=True)
class Entry:
    """One item of a vCon, where a search found it.

    uuid: the item's name (queue/names.py), mostly the vCon's uuid. where, key: the place and the
    key in which it is. text: the element of that key.
    """

    uuid: str
    list: str
    where: Where
    key: str
    text: bytes

    @property
    def document(self) -> bytes:
        """The document, if the payload is a whole document; b"" if the payload is a uuid."""
        payload = record.parse(self.text).payload if self.text[:1] == b"\x01" else self.text
        return payload if payload[:1] == b"{" else b""


@dataclass(frozen=True, slots=True)
class Cancelled:
    """How many items of a vCon were cancelled, by the place where they were.

    A `running` item ends before its next link; all other items have been removed.
    """

    uuid: str
    queued: int
    returned: int
    parked: int
    running: int

    @property
    def total(self) -> int:
        """How many items were cancelled in all."""
        return self.queued + self.returned + self.parked + self.running


def find(client: Client, names: Iterable[str], uuids: Collection[str]) -> list[Entry]:
    """All items of these vCons in the lists `names`: waiting, running, and dead letters.

    It reads whole lists, in short calls; so all their elements go over the network.
    """
    wanted, names = set(uuids), list(names)
    found = [entry for name in names for entry in _waiting(client, name) if entry.uuid in wanted]
    found += [entry for entry in _running(client) if entry.uuid in wanted]
    for name in names:
        found += [entry for entry in _dead(client, name) if entry.uuid in wanted]
    return found


def everything(client: Client, names: Collection[str]) -> Iterator[Entry]:
    """All waiting items, parked items and dead letters of these lists, then the running items of
    all lists.
    """
    for name in names:
        yield from _waiting(client, name)
        yield from _dead(client, name)
    yield from _running(client)


def running(client: Client, name: str) -> list[Entry]:
    """The items of one list that workers hold. It reads the records of all running items."""
    return [entry for entry in _running(client) if entry.list == name]


def dead(client: Client, names: Iterable[str]) -> Counter[str]:
    """uuid -> how many dead letters it has in these lists."""
    return Counter(entry.uuid for name in names for entry in _dead(client, name))


def cancel(
    client: Client, uuid: str, *, actor: str, configured: Collection[str] = (), keep_s: int = 0
) -> Cancelled:
    """Cancel all items of a vCon that wait or run. Dead letters stay; they can be purged.

    Args:
        configured: lists to search besides the lists that were ever claimed from.
        keep_s: see `let_expire`.
    """
    found = cancellation.cancel(client, uuid, configured)
    # The second call finds items that moved during the first.
    again = cancellation.cancel(client, uuid, configured)
    cancelled = Cancelled(
        uuid=uuid,
        queued=found.queued + again.queued,
        returned=found.returned + again.returned,
        parked=found.parked + again.parked,
        running=max(found.running, again.running),
    )
    if cancelled.total:
        audit.record(client, actor, "cancel", {"uuid": uuid}, cancelled.total)
        let_expire(client, [uuid], keep_s, configured)
    return cancelled


def let_expire(
    client: Client, uuids: Collection[str], keep_s: int, configured: Collection[str] = ()
) -> None:
    """Let the documents of cancelled vCons expire after `keep_s` (0: never). A document normally
    gets its expiry at the end of its item; a cancelled item has no such end.

    A document stays without expiry if another item of its vCon waits, runs or is a dead letter. If
    the vCon is pushed again later, the claim removes the expiry.
    """
    from conserver.operations.documents import expires  # It imports the storages.

    if not keep_s or not uuids:
        return
    pipe = client.pipeline(transaction=False)
    for uuid in uuids:
        pipe.pttl(keys.document(uuid))
    lefts_ms: list[int] = pipe.execute()
    endless = {
        uuid
        for uuid, left_ms in zip(uuids, lefts_ms, strict=True)
        if left_ms != _NO_KEY and not expires(left_ms)
    }
    if not endless:
        return
    names = dict.fromkeys([*lookup.known_lists(client), *configured])
    for uuid in endless - {entry.uuid for entry in find(client, names, endless)}:
        pipe.expire(keys.document(uuid), keep_s)
    pipe.execute()


def _waiting(client: Client, name: str) -> Iterator[Entry]:
    places: tuple[tuple[Where, str], ...] = (
        ("queued", name),
        ("returned", keys.returned(name)),
        ("suspects", keys.suspects(name)),
    )
    for where, key in places:
        for text in elements.in_list(client, key):
            yield Entry(name_of_element(text), name, where, key, text)
    key = keys.parked(name)
    for text in elements.in_sorted_set(client, key):
        yield Entry(name_of_element(text), name, "parked", key, text)


def _running(client: Client) -> Iterator[Entry]:
    for consumer in lookup.consumers(client):
        key = keys.inflight(consumer)
        for _token, text in elements.in_hash(client, key):
            try:
                held = record.parse(text)
            except ValueError:  # Another program put it there.
                continue
            yield Entry(name_of(held.payload), held.list, "running", key, text)


def _dead(client: Client, name: str) -> Iterator[Entry]:
    key = keys.dead_letters(name)
    for text in elements.in_list(client, key):
        yield Entry(name_of_element(text), name, "dead", key, text)

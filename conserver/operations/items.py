"""Where a vCon is in the queues, and cancelling it.

Looking takes several steps while items move between keys. An item can move to a key that has been
read already and be missed by one look, so code that concludes something from an absence looks
again.
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
    """One copy of an item: its list, its place, the key it is in, and the text of the element.

    uuid: its name (queue/names.py), which mostly is the uuid of its vCon.
    """

    uuid: str
    list: str
    where: Where
    key: str
    text: bytes

    @property
    def document(self) -> bytes:
        """The document, if it was pushed whole and is here still; b"" if a uuid was pushed."""
        payload = record.parse(self.text).payload if self.text[:1] == b"\x01" else self.text
        return payload if payload[:1] == b"{" else b""


@dataclass(frozen=True, slots=True)
class Cancelled:
    """How many copies of a vCon were cancelled, by where they were.

    Those that were `running` end at their next link edge; all others have been removed.
    """

    uuid: str
    queued: int
    returned: int
    parked: int
    running: int

    @property
    def total(self) -> int:
        """The sum over all places."""
        return self.queued + self.returned + self.parked + self.running


def find(client: Client, names: Iterable[str], uuids: Collection[str]) -> list[Entry]:
    """Every copy of these vCons that waits, runs or is dead, of the lists `names`.

    Reads whole lists: each call is short for Redis, and all elements go over the network.
    """
    wanted, names = set(uuids), list(names)
    found = [entry for name in names for entry in _waiting(client, name) if entry.uuid in wanted]
    found += [entry for entry in _running(client) if entry.uuid in wanted]
    for name in names:
        found += [entry for entry in _dead(client, name) if entry.uuid in wanted]
    return found


def everything(client: Client, names: Collection[str]) -> Iterator[Entry]:
    """Every item of these lists, wherever it is, and dead letters."""
    for name in names:
        yield from _waiting(client, name)
        yield from _dead(client, name)
    yield from _running(client)


def running(client: Client, name: str) -> list[Entry]:
    """The items of one list that workers hold; reads the records of all."""
    return [entry for entry in _running(client) if entry.list == name]


def dead(client: Client, names: Iterable[str]) -> Counter[str]:
    """How many dead letters there are of each uuid."""
    return Counter(entry.uuid for name in names for entry in _dead(client, name))


def cancel(
    client: Client, uuid: str, *, actor: str, configured: Collection[str] = (), keep_s: int = 0
) -> Cancelled:
    """Cancels every copy of a vCon that waits or runs. Dead letters stay: they can be purged.

    Args:
        configured: lists to look at besides those that were ever claimed from.
        keep_s: see `let_expire`.
    """
    found = cancellation.cancel(client, uuid, configured)
    # A copy that moved during the first look is found by the second.
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
    """Keep the documents of vCons that were cancelled for so long (0: for ever): no item of them is
    left whose end would let them expire.

    Not where another copy of one waits, runs or is dead. A claim keeps one that is pushed again.
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

"""Cancelling a vCon: its waiting copies are removed, a running one stops at its next link edge.

Nothing is remembered of the uuid: a later push of it is a new item. A running item is named by its
token in conserver:cancelled:<consumer>, where its worker looks every second.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from conserver.errors import Rejected
from conserver.queue import calls, elements, script
from conserver.queue.record import parse
from conserver.vcon.document import Vcon

if TYPE_CHECKING:
    import redis


@dataclass(slots=True)
class CancelResult:
    """How many copies of a uuid were found, and where."""

    queued: int = 0
    returned: int = 0
    parked: int = 0
    running: int = 0

    @property
    def total(self) -> int:
        """All of them."""
        return self.queued + self.returned + self.parked + self.running


def cancel(client: redis.Redis, uuid: str) -> CancelResult:
    """Cancel every copy of a vCon that waits or runs. Dead letters are left: see `deadletters`."""
    found = CancelResult()

    def is_it(element: bytes) -> bool:
        return _uuid_of(element) == uuid

    for raw in sorted(cast("set[bytes]", client.smembers(calls.LISTS))):
        name = raw.decode()
        # In the order in which an item goes on, so that it is met even if it moves meanwhile.
        found.parked += _remove(client, f"conserver:parked:{name}", is_it)
        found.queued += _remove(client, name, is_it)
        for kind in ("returned", "suspects"):
            found.returned += _remove(client, f"conserver:{kind}:{name}", is_it)
    for key, consumer in _consumers(client):
        for token, record in elements.in_hash(client, key):
            if is_it(record):
                call = calls.cancel(key, token, f"conserver:cancelled:{consumer}")
                found.running += int(script.run(client, call))
    return found


def _uuid_of(element: bytes) -> str:
    """Which vCon an element stands for: a record or a bare payload, a uuid or a whole document."""
    try:
        payload = parse(element).payload if element[:1] == b"\x01" else element
    except ValueError:  # Somebody else put it there.
        return ""
    if payload[:1] != b"{":
        return payload.decode("utf-8", "replace")
    try:
        return Vcon.parse(payload).uuid
    except Rejected:
        return ""


def _remove(client: redis.Redis, key: str, is_it: Callable[[bytes], bool]) -> int:
    """Remove every element of a list or sorted set that `is_it`. Returns how many went."""
    is_sorted = client.type(key) == b"zset"
    read = elements.in_sorted_set if is_sorted else elements.in_list
    # All are found before the first one goes: what takes its place must not be passed over.
    copies = [element for element in read(client, key) if is_it(element)]
    return sum(int(script.run(client, calls.cancel(key, copy))) for copy in copies)


def _consumers(client: redis.Redis) -> Iterator[tuple[str, str]]:
    """The in-flight hashes of every living host: (key, consumer)."""
    for host in cast("set[bytes]", client.smembers(calls.HOSTS)):
        for field in cast("list[bytes]", client.hkeys(calls.host_key(host.decode()))):
            kind, _, consumer = field.decode().partition(":")
            if kind == "consumer":
                yield calls.inflight_key(consumer), consumer

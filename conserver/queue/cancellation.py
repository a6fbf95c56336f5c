"""Cancels a vCon: removes its waiting items, and stops a running item before its next link.

For a running item, it adds the token to conserver:cancelled:<consumer>, which that consumer's
worker reads every second. Redis does not remember the uuid: if it is pushed again later, that is a
new item.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from conserver.queue import elements, keys, lookup, operator_calls, script
from conserver.queue.names import name_of_element

if TYPE_CHECKING:
    import redis


@dataclass(slots=True)
class CancelResult:
    """How many items of a vCon were cancelled, by the place where they were."""

    queued: int = 0
    returned: int = 0
    parked: int = 0
    running: int = 0

    @property
    def total(self) -> int:
        """How many items were cancelled in all."""
        return self.queued + self.returned + self.parked + self.running


def cancel(client: redis.Redis, uuid: str, configured: Iterable[str] = ()) -> CancelResult:
    """Cancel all items of a vCon that wait or run. Dead letters stay: see dead_letters.py.

    An item that moves during the call may be missed; a second call finds it.

    Args:
        configured: lists to search besides the lists that were ever claimed from.
    """
    names = dict.fromkeys([*lookup.known_lists(client), *configured])
    return _cancel(client, names, lambda element: name_of_element(element) == uuid)


def cancel_job(client: redis.Redis, name: str, job: str) -> CancelResult:
    """Cancel the item of a job, which was pushed on the list `name`."""
    return _cancel(client, [name], lambda element: lookup.job_of(element) == job)


def _cancel(
    client: redis.Redis, names: Iterable[str], is_copy: Callable[[bytes], bool]
) -> CancelResult:
    found = CancelResult()
    for name in names:
        # In the order in which items move, so that an item that moves meanwhile is found later.
        found.parked += _remove(client, keys.parked(name), is_copy)
        found.queued += _remove(client, name, is_copy)
        for key in (keys.returned(name), keys.suspects(name)):
            found.returned += _remove(client, key, is_copy)
    for consumer in lookup.consumers(client):
        key = keys.inflight(consumer)
        for token, record in elements.in_hash(client, key):
            if is_copy(record):
                call = operator_calls.cancel(key, token, keys.cancelled(consumer))
                found.running += int(script.run(client, call))
    return found


def _remove(client: redis.Redis, key: str, is_copy: Callable[[bytes], bool]) -> int:
    """Remove the vCon's items from a list or sorted set. Returns how many were removed."""
    is_sorted = client.type(key) == b"zset"
    read = elements.in_sorted_set if is_sorted else elements.in_list
    # Read all pages before the first removal, because a removal shifts the pages after it.
    copies = [element for element in read(client, key) if is_copy(element)]
    return sum(int(script.run(client, operator_calls.cancel(key, copy))) for copy in copies)

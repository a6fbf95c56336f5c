"""Cancels a vCon: removes its waiting copies, and stops a running one at its next link edge.

The uuid itself is not remembered: a later push of it is a new item. The token of a running item is
put into conserver:cancelled:<consumer>, which that consumer reads every second.
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
    """How many copies of a vCon were cancelled, by where they were."""

    queued: int = 0
    returned: int = 0
    parked: int = 0
    running: int = 0

    @property
    def total(self) -> int:
        """The sum over all places."""
        return self.queued + self.returned + self.parked + self.running


def cancel(client: redis.Redis, uuid: str, configured: Iterable[str] = ()) -> CancelResult:
    """Cancel every copy of a vCon that waits or runs. Its dead letters stay: see dead_letters.py.

    A copy that moves while this looks may be missed; a second call finds it.

    Args:
        configured: lists to look at besides those that were ever claimed from.
    """
    names = dict.fromkeys([*lookup.known_lists(client), *configured])
    return _cancel(client, names, lambda element: name_of_element(element) == uuid)


def cancel_job(client: redis.Redis, name: str, job: str) -> CancelResult:
    """The same for the item of a job, which was pushed on the list `name`."""
    return _cancel(client, [name], lambda element: lookup.job_of(element) == job)


def _cancel(
    client: redis.Redis, names: Iterable[str], is_copy: Callable[[bytes], bool]
) -> CancelResult:
    found = CancelResult()
    for name in names:
        # In the order in which an item moves on, so that one that moves meanwhile is met later.
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
    """Remove the copies from a list or sorted set. Returns how many were removed."""
    is_sorted = client.type(key) == b"zset"
    read = elements.in_sorted_set if is_sorted else elements.in_list
    # All are read before the first one is removed, because a removal shifts the pages behind it.
    copies = [element for element in read(client, key) if is_copy(element)]
    return sum(int(script.run(client, operator_calls.cancel(key, copy))) for copy in copies)

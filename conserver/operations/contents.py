"""Shows the items of one list: running items, those that are claimed next, and parked ones.

The caller says how many waiting and parked items are read at most.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from conserver.operations import hosts, items
from conserver.operations.connection import Client
from conserver.operations.parked import cause_of
from conserver.queue import keys, lookup, record
from conserver.queue.names import name_of_element
from conserver.queue.record import Progress

Where = Literal["suspects", "returned", "queued", "parked"]


@dataclass(frozen=True, slots=True)
class Content:
    """One item that waits.

    Attributes:
        uuid: the item's name (queue/names.py).
        attempts: how many runs were unsuccessful. links: the links that are done.
        owed: the storages that must still be written; None until all links are done.
        error: of the latest unsuccessful run; "" for none.
        due_at: when a parked item is due, in Unix seconds; 0 for other items.
        cause: what a parked item waits for, see parked.Cause; "" for other items.
        size_bytes: of the element.
    """

    uuid: str
    job: str
    where: Where
    attempts: int
    links: Sequence[str]
    owed: Sequence[str] | None
    error: str
    due_at: float
    cause: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Running:
    """One item that a worker holds; see hosts.holder."""

    uuid: str
    job: str
    host: str
    worker: int
    link: str
    since_s: float


def first(client: Client, name: str, count: int = 20) -> list[Content]:
    """The items that are claimed next, in this order: suspects (each waits for a worker that holds
    nothing), returned items, then the elements of the ingress list.

    count: at most so many; 0: all.
    """
    places: tuple[tuple[Where, str], ...] = (
        ("suspects", keys.suspects(name)),
        ("returned", keys.returned(name)),
        ("queued", name),
    )
    pipe = client.pipeline(transaction=False)
    for _, key in places:
        pipe.lrange(key, 0, count - 1)
    found: list[Content] = []
    for (where, _), answer in zip(places, pipe.execute(raise_on_error=False), strict=True):
        if isinstance(answer, list):
            found += [_content(element, where) for element in answer]
    return found[: count or None]


def parked(client: Client, name: str, count: int = 20) -> list[Content]:
    """The parked items that are due first. count: at most so many; 0: all.

    Raises redis.ResponseError if the key has the wrong type.
    """
    pairs = client.zrange(keys.parked(name), 0, count - 1, withscores=True)
    return [_content(element, "parked", score / 1000) for element, score in pairs]


def running(client: Client, name: str, living: Sequence[hosts.Host]) -> list[Running]:
    """The items of a list that workers hold, the longest-running first."""
    found = []
    for entry in items.running(client, name):
        consumer = entry.key.removeprefix(keys.inflight(""))
        held = hosts.holder(living, consumer, entry.uuid)
        found.append(Running(entry.uuid, lookup.job_of(entry.text), *held))
    return sorted(found, key=lambda one: one.since_s, reverse=True)


def _content(element: bytes, where: Where, due_at: float = 0.0) -> Content:
    progress = Progress()
    if element[:1] == b"\x01":
        try:
            progress = Progress.load(record.parse(element).state)
        except ValueError:  # Another program put it there.
            progress = Progress()
    return Content(
        uuid=name_of_element(element),
        job=lookup.job_of(element),
        where=where,
        attempts=progress.attempts,
        links=progress.links,
        owed=progress.owed,
        error=progress.error,
        due_at=due_at,
        cause=cause_of(element) if where == "parked" else "",
        size_bytes=len(element),
    )

"""What is in a list: what runs, what comes next, what is parked, and why.

Of what waits and what is parked it looks at a bounded part.
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
        uuid: "" where the element stands for no vCon.
        links: those that are done. owed: storages to be written; None until the links are done.
        error: of the latest attempt that came to nothing; "" for none.
        due_at: of a parked item, in Unix seconds; 0 for others.
        cause: what a parked item waits for, see parked.Cause; "" for others.
        size: of the element, in bytes.
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
    size: int


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
    """What is claimed next: what has come back, then what producers have pushed. Suspects, which
    wait for a worker that holds nothing, come first. count: at most so many; 0: all.
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
    """What is due first; count as for `first`.

    Raises redis.ResponseError where the key has another type.
    """
    pairs = client.zrange(keys.parked(name), 0, count - 1, withscores=True)
    return [_content(element, "parked", score / 1000) for element, score in pairs]


def running(client: Client, name: str, living: Sequence[hosts.Host]) -> list[Running]:
    """What workers hold of a list, the one that has run for the longest time first."""
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
        size=len(element),
    )

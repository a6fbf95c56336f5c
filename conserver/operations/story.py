"""What happened to a vCon's items: where they are now, their jobs, and every attempt at them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from conserver.operations import dead_letters, hosts, items, jobs
from conserver.operations.connection import Client
from conserver.operations.dead_letters import DeadLetter, Filter
from conserver.operations.items import Where
from conserver.queue import keys, lookup, stories
from conserver.queue.jobs import Job
from conserver.queue.record import AGAIN, THROTTLED, Progress, parse
from conserver.queue.stories import Attempt, Event

__all__ = ["Attempt", "Event", "Place", "Story", "read"]

JOBS_LOOKED_AT = 1000
"""Of the newest jobs: whether one of them is about the vCon."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where one item of the vCon is.

    Attributes:
        job: "" for none.
        links: those that are done, as of the last checkpoint.
        owed: storages that it is still to be written to; None until all links are done.
        attempts: how many runs came to nothing.
        error: of the last of them.
        host, worker: where it runs: the host's name, and the number of the worker in it.
        link, since_s: which link runs there, and for how long. "" and 0.0 where it is not known.
        due_at: of a parked one, in Unix seconds; 0.0 for others.
        rates: whose slots a parked one waits for, such as `link:transcribe`.
        throttled: the link whose server wants no calls before due_at; "" for none.
    """

    list: str
    where: Where
    job: str = ""
    links: Sequence[str] = ()
    owed: Sequence[str] | None = None
    attempts: int = 0
    error: str = ""
    host: str = ""
    worker: int = 0
    link: str = ""
    since_s: float = 0.0
    due_at: float = 0.0
    rates: Sequence[str] = ()
    throttled: str = ""


@dataclass(frozen=True, slots=True)
class Story:
    """Everything that Redis knows of a vCon's items.

    Attributes:
        places: where they are; nothing once all have ended.
        jobs: their jobs, the newest first, as long as they are kept.
        attempts: at all of them, the oldest first; see CONSERVER_STORIES for which are kept.
        hosts: the names of the living hosts by id, for the attempts.
    """

    uuid: str
    places: Sequence[Place] = ()
    jobs: Sequence[Job] = ()
    attempts: Sequence[Attempt] = ()
    hosts: Mapping[str, str] = field(default_factory=dict)


def read(client: Client, names: Iterable[str], uuid: str, job: str = "") -> Story:
    """The story of a vCon, within the lists `names`. job: one that is known to be about it.

    Reads whole lists, as items.find does: it is for people.
    """
    served = set(names)
    living = hosts.read(client)
    entries = items.find(client, served, [uuid])
    places = [
        _place(client, entry, living)
        for entry in entries
        if entry.list in served and entry.where != "dead"
    ]
    if len(entries) > len(places):  # The letter says more than the element of the list.
        meant = Filter(names=tuple(sorted(served)), uuids=(uuid,))
        places += [_dead(letter) for letter in dead_letters.select(client, meant)]
    told = stories.load(client.zrange(keys.story(uuid), 0, -1)) if _has_story(client, uuid) else []
    attempts = [one for one in told if one.list_name in served]
    known = dict.fromkeys([job, *(one.job for one in attempts), *(one.job for one in places)])
    known.update(dict.fromkeys(_newest_of(client, uuid)))
    found = [one for one in jobs.find(client, [name for name in known if name]) if one is not None]
    return Story(
        uuid,
        places,
        sorted(
            (one for one in found if one.uuid == uuid and one.list in served),
            key=lambda one: one.created_at,
            reverse=True,
        ),
        attempts,
        {host.id: host.name for host in living},
    )


def _has_story(client: Client, uuid: str) -> bool:
    return bool(client.type(keys.story(uuid)) == b"zset")


def _newest_of(client: Client, uuid: str) -> list[str]:
    """Those of the newest jobs that are about a vCon."""
    if client.type(keys.JOBS) != b"zset":
        return []
    names: list[bytes] = client.zrevrange(keys.JOBS, 0, JOBS_LOOKED_AT - 1)
    pipe = client.pipeline(transaction=False)
    for name in names:
        pipe.hget(keys.job(name.decode()), "uuid")
    wanted = uuid.encode()
    answers = pipe.execute(raise_on_error=False)
    return [name.decode() for name, answer in zip(names, answers, strict=True) if answer == wanted]


def _place(client: Client, entry: items.Entry, living: Sequence[hosts.Host]) -> Place:
    job = lookup.job_of(entry.text)
    if entry.text[:1] != b"\x01":
        return Place(entry.list, entry.where, job)
    try:
        record = parse(entry.text)
        progress = Progress.load(record.state)
    except ValueError:
        return Place(entry.list, entry.where, job)
    consumer = entry.key.removeprefix(keys.inflight("")) if entry.where == "running" else ""
    due_ms = client.zscore(entry.key, entry.text) if entry.where == "parked" else None
    slots = progress.rate_slots
    return Place(
        entry.list,
        entry.where,
        job,
        progress.links,
        progress.owed,
        progress.attempts,
        progress.error,
        *hosts.holder(living, consumer, entry.uuid),
        due_at=(due_ms or 0.0) / 1000,
        rates=[one.removeprefix(AGAIN) for one in slots if not one.startswith(THROTTLED)],
        throttled=next(
            (one.removeprefix(THROTTLED) for one in slots if one.startswith(THROTTLED)), ""
        ),
    )


def _dead(letter: DeadLetter) -> Place:
    progress = letter.progress
    return Place(
        letter.list,
        "dead",
        str(letter.why.get("token", "")).partition("#")[2],
        progress.links,
        progress.owed,
        progress.attempts,
        dead_letters.described(letter),
    )

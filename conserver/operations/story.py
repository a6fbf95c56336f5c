"""Reads the story of a vCon: where its items are now, their jobs, and every attempt at them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from conserver.operations import dead_letters, hosts, items, jobs
from conserver.operations.connection import Client
from conserver.operations.dead_letters import DeadLetter, Filter
from conserver.operations.items import Where
from conserver.queue import keys, lookup, stories
from conserver.queue.jobs import Job
from conserver.queue.record import AGAIN, THROTTLED, Progress, parse
from conserver.queue.stories import Attempt, Event

__all__ = ["Attempt", "Event", "Place", "Story", "as_data", "read"]

JOBS_LOOKED_AT = 1000
"""How many of the newest jobs are searched for jobs of the vCon."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where one item of the vCon is.

    Attributes:
        job: the item's job; "" for none.
        links: the links that were done at the last checkpoint.
        owed: the storages that must still be written; None until all links are done.
        attempts: how many runs were unsuccessful.
        error: of the last unsuccessful run.
        host, worker: if the item is running: the host's name, and the worker's slot.
        link, since_s: the link that runs, and for how long; "" and 0.0 if unknown.
        due_at: when a parked item is due, in Unix seconds; 0.0 for other items.
        rates: the rates, such as `link:transcribe`, for whose slots a parked item waits.
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
        places: where the items are; empty if all have ended.
        jobs: the items' jobs that have not expired, the newest first.
        attempts: the attempts at all items, the oldest first. CONSERVER_STORIES decides which
            attempts are kept.
        hosts: id -> name of the living hosts, to show the names in attempts.
    """

    uuid: str
    places: Sequence[Place] = ()
    jobs: Sequence[Job] = ()
    attempts: Sequence[Attempt] = ()
    hosts: Mapping[str, str] = field(default_factory=dict)


def as_data(one: Story) -> dict[str, Any]:
    """A story as data for the output of commands: times are seconds since 1970."""
    found = asdict(one)
    for attempt in found["attempts"]:
        attempt["claimed_at"] = attempt.pop("claimed_ms") / 1000
    return found


def read(client: Client, names: Iterable[str], uuid: str, job: str = "") -> Story:
    """Read the story of a vCon, within the lists `names`.

    job: a job of the vCon, if the caller knows one. It reads whole lists, as items.find does, so it
    is too slow for the hot path.
    """
    served = set(names)
    living = hosts.read(client)
    entries = items.find(client, served, [uuid])
    places = [
        _place(client, entry, living)
        for entry in entries
        if entry.list in served and entry.where != "dead"
    ]
    if len(entries) > len(places):  # there are dead letters; a letter has more than its list entry
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
    """The ids of the newest jobs that belong to a vCon."""
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

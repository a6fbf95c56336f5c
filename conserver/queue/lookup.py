"""Finds the known lists, hosts and consumers, keys of the wrong type, and the job of an element.

operations/, cancellation.py and dead_letters.py use it; workers do not.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from conserver.queue import keys
from conserver.queue.record import parse, split_job
from conserver.queue.wrong_type import kind_of

if TYPE_CHECKING:
    import redis

_CONSUMER = b"consumer:"  # prefix of the registrations in a host's hash
REMEDY = "rename or delete it"  # what to do about a key of the wrong type


@dataclass(frozen=True, slots=True)
class WrongKey:
    """A key of the wrong type. found, wanted: the type that it has, and that it must have."""

    key: str
    found: str
    wanted: str

    @property
    def fault(self) -> str:
        """The problem, as one clause."""
        return f"{self.key} is a {self.found} and must be a {self.wanted}"

    def __str__(self) -> str:
        return f"{self.fault}: {REMEDY}"


def known_lists(client: redis.Redis) -> list[str]:
    """The names of all lists that any worker has ever claimed from, sorted."""
    return _members(client, keys.LISTS)


def hosts(client: redis.Redis) -> list[str]:
    """The ids of all registered hosts: living hosts, and dead ones that are not reaped yet."""
    return _members(client, keys.HOSTS)


def consumers(client: redis.Redis) -> list[str]:
    """The consumers of all hosts, with those whose registration is void: they may hold items."""
    found: list[str] = []
    for host in hosts(client):
        fields = cast("list[bytes]", client.hkeys(keys.host(host)))
        found += [
            field.removeprefix(_CONSUMER).decode()
            for field in fields
            if field.startswith(_CONSUMER)
        ]
    return found


def job_of(element: bytes) -> str:
    """The job to which an element of a list or zset belongs; "" for none."""
    if element[:1] != b"\x01":
        return split_job(element)[1]
    try:
        return parse(element).job
    except ValueError:  # Another program put it there.
        return ""


def wrong_keys(client: redis.Redis) -> list[WrongKey]:
    """Check the types of all keys in use that can be named. Returns the keys of the wrong type.

    This is needed because Redis does not say for which key a command failed.
    """
    pipe = client.pipeline(transaction=False)
    known = list(_known_keys(client))
    for key in known:
        pipe.type(key)
    return [
        WrongKey(key, found.decode(), kind_of(key))
        for key, found in zip(known, pipe.execute(), strict=True)
        if found not in (b"none", kind_of(key).encode())
    ]


def _known_keys(client: redis.Redis) -> Iterator[str]:
    yield from (keys.LISTS, keys.HOSTS, keys.CONTROL, keys.AUDIT, keys.WAITING)
    if client.type(keys.HOSTS) == b"set":
        yield from (keys.host(host) for host in hosts(client))
    if client.type(keys.LISTS) != b"set":
        return
    for name in known_lists(client):
        yield from (name, keys.dead_letters(name), keys.returned(name), keys.suspects(name))
        yield from (keys.parked(name), keys.dead(name))


def _members(client: redis.Redis, key: str) -> list[str]:
    return sorted(member.decode() for member in cast("set[bytes]", client.smembers(key)))

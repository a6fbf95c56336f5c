"""What the queue knows of itself: its lists, hosts and consumers, and keys of the wrong type.

It also tells which job an element of a list belongs to. Operations, cancellation and dead letters
use it to look at everything; workers never need it.
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

_CONSUMER = b"consumer:"  # How the fields of a host's hash begin that register a consumer.
REMEDY = "rename or delete it"  # what to do about a key of the wrong type


@dataclass(frozen=True, slots=True)
class WrongKey:
    """A key that holds another type than it must."""

    key: str
    found: str
    wanted: str

    @property
    def fault(self) -> str:
        """What is wrong with it, in one clause."""
        return f"{self.key} is a {self.found} and must be a {self.wanted}"

    def __str__(self) -> str:
        return f"{self.fault}: {REMEDY}"


def known_lists(client: redis.Redis) -> list[str]:
    """Every list that any worker has ever claimed from, by name."""
    return _members(client, keys.LISTS)


def hosts(client: redis.Redis) -> list[str]:
    """The id of every registered host, living or not reaped yet."""
    return _members(client, keys.HOSTS)


def consumers(client: redis.Redis) -> list[str]:
    """Every registered consumer of every host. Void ones are included: they may hold items."""
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
    """The job that an element belongs to; "" where there is none."""
    if element[:1] != b"\x01":
        return split_job(element)[1]
    try:
        return parse(element).job
    except ValueError:  # Another program put it there.
        return ""


def wrong_keys(client: redis.Redis) -> list[WrongKey]:
    """The keys that have the wrong type, of all that can be known to be in use.

    Redis itself does not say which key a command failed for.
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

"""What is where in Redis, for commands that show it. It only reads.

The daemon never uses this: it looks at many keys, in several steps, while items move between them.
An item can evade one look (it goes back to a place that has been looked at already), so whoever
concludes something from an absence looks again.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any, Literal

import orjson

from conserver.commands.base import Client
from conserver.queue import calls, record

_CHUNK = 500
_PAUSED = "paused:"

Where = Literal["queued", "returned", "suspects", "parked", "running", "dead"]


@dataclass(frozen=True, slots=True)
class Depth:
    """How much there is of one list, by place. None where a key is not what it should be."""

    queued: int | None
    returned: int | None
    suspects: int | None
    parked: int | None
    dead: int | None


@dataclass(frozen=True, slots=True)
class Entry:
    """One copy of an item: its list, its place, and the exact text that is kept there."""

    uuid: str
    list: str
    where: Where
    key: str
    text: bytes


def known_lists(client: Client) -> list[str]:
    """Every list that was ever claimed from."""

    return sorted(name.decode() for name in client.smembers(calls.LISTS))


def paused_lists(client: Client) -> list[str]:
    """The lists that nobody takes from at the moment, by an operator's word."""
    fields: list[bytes] = client.hkeys(calls.CONTROL)
    found = (field.decode() for field in fields)
    return sorted(field.removeprefix(_PAUSED) for field in found if field.startswith(_PAUSED))


def paused_field(name: str) -> str:
    """The field of conserver:control that pauses a list."""
    return f"{_PAUSED}{name}"


def depths(client: Client, names: Iterable[str]) -> dict[str, Depth]:
    """How much there is of each list, asked for in one round trip."""
    names = list(names)
    pipe = client.pipeline(transaction=False)
    for name in names:
        pipe.llen(name)
        pipe.llen(f"conserver:returned:{name}")
        pipe.llen(f"conserver:suspects:{name}")
        pipe.zcard(f"conserver:parked:{name}")
        pipe.llen(f"DLQ:{name}")
    counts = [n if isinstance(n, int) else None for n in pipe.execute(raise_on_error=False)]
    return {name: Depth(*counts[5 * i : 5 * i + 5]) for i, name in enumerate(names)}


def consumers(client: Client) -> list[str]:
    """Every registered consumer of every host, void ones included: they may hold items still."""
    hosts: Collection[bytes] = client.smembers(calls.HOSTS)
    found: list[str] = []
    for host in sorted(hosts):
        fields: list[bytes] = client.hkeys(calls.host_key(host.decode()))
        found += [name[9:].decode() for name in fields if name.startswith(b"consumer:")]
    return found


def in_flight(client: Client) -> int:
    """How many items are held by any consumer."""
    pipe = client.pipeline(transaction=False)
    for consumer in consumers(client):
        pipe.hlen(calls.inflight_key(consumer))
    return sum(pipe.execute())


def find(client: Client, names: Iterable[str], uuids: Collection[str]) -> list[Entry]:
    """Every copy of these vCons that waits, runs or is dead, of any list in `names`.

    A look at whole lists: it costs Redis little per call and the network their length.
    """
    wanted = set(uuids)
    found = [entry for name in names for entry in _waiting(client, name) if entry.uuid in wanted]
    for consumer in consumers(client):
        key = calls.inflight_key(consumer)
        values: list[bytes] = client.hvals(key)
        for text in values:
            held = record.parse(text)
            uuid = _uuid_of(held.payload)
            if uuid in wanted:
                found.append(Entry(uuid, held.list, "running", key, text))
    for name in names:
        key = f"DLQ:{name}"
        found += [
            Entry(uuid, name, "dead", key, text)
            for text in _list_texts(client, key)
            if (uuid := _uuid_of(text)) in wanted
        ]
    return found


def _waiting(client: Client, name: str) -> Iterator[Entry]:
    places: tuple[tuple[Where, str], ...] = (
        ("queued", name),
        ("returned", f"conserver:returned:{name}"),
        ("suspects", f"conserver:suspects:{name}"),
    )
    for where, key in places:
        for text in _list_texts(client, key):
            yield Entry(_uuid_of(_payload(text)), name, where, key, text)
    key = f"conserver:parked:{name}"
    for text, _due in client.zscan_iter(key, count=_CHUNK):
        yield Entry(_uuid_of(_payload(text)), name, "parked", key, text)


def _list_texts(client: Client, key: str) -> Iterator[bytes]:
    """The texts of a list in chunks; none where the key holds something else."""
    if client.type(key) != b"list":
        return
    start = 0
    while True:
        texts: list[bytes] = client.lrange(key, start, start + _CHUNK - 1)
        yield from texts
        if len(texts) < _CHUNK:
            return
        start += _CHUNK


def _payload(text: bytes) -> bytes:
    return record.parse(text).payload if text[:1] == b"\x01" else text


def _uuid_of(payload: bytes) -> str:
    """The uuid that a payload is, or that the document in it has; empty where there is none."""
    if payload[:1] != b"{":
        return payload.decode("utf-8", "replace")
    try:
        document: Any = orjson.loads(payload)
    except orjson.JSONDecodeError:
        return ""
    return str(document.get("uuid") or "")


def all_names(client: Client, configured: Iterable[str]) -> list[str]:
    """The lists of the configuration in its order, then all others that were ever claimed from."""
    return list(dict.fromkeys(chain(configured, known_lists(client))))

"""What is where in Redis, for commands that show it. It only reads.

The daemon never uses this: it looks at many keys, in several steps, while items move between them.
An item can evade one look (it goes back to a place that has been looked at already), so whoever
concludes something from an absence looks again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any, Literal

import orjson

from conserver.cli.base import Client
from conserver.queue import calls, elements, record
from conserver.queue.record import Progress

_PAUSED = "paused:"
_PARKED_SAMPLE = 200

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
class Parked:
    """What the parked items of a list wait for, by the `sampled` ones that are due first.

    Attributes:
        storages: how many of them are owed to each storage.
        retries: how many wait for another attempt of a link.
        due_in_s: when the first is due; negative where it is already.
    """

    sampled: int
    storages: dict[str, int]
    retries: int
    due_in_s: float


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


def parked(client: Client, names: Iterable[str]) -> dict[str, Parked]:
    """What the parked items of these lists wait for; lists that have none are left out."""
    names = list(names)
    pipe = client.pipeline(transaction=False)
    pipe.time()
    for name in names:
        pipe.zrange(f"conserver:parked:{name}", 0, 0, withscores=True)
    (seconds, micros), *firsts = pipe.execute()
    now_ms = seconds * 1000 + micros / 1000
    found: dict[str, Parked] = {}
    for name, first in zip(names, firsts, strict=True):
        if not first:
            continue  # Most lists have none: they cost no round trip of their own.
        texts = elements.in_sorted_set(client, f"conserver:parked:{name}")
        owed = [_owed(text) for text in islice(texts, _PARKED_SAMPLE)]
        if not owed:
            continue  # They have gone since.
        storages = Counter(storage for one in owed for storage in one)
        retries = sum(1 for one in owed if not one)
        due_in_s = round((first[0][1] - now_ms) / 1000, 1)
        found[name] = Parked(len(owed), dict(storages.most_common()), retries, due_in_s)
    return found


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
        for _token, text in elements.in_hash(client, key):
            uuid = _uuid_of(_payload(text))
            # A uuid without a record somebody else has put there.
            if uuid in wanted and text[:1] == b"\x01":
                found.append(Entry(uuid, record.parse(text).list, "running", key, text))
    for name in names:
        key = f"DLQ:{name}"
        found += [
            Entry(uuid, name, "dead", key, text)
            for text in elements.in_list(client, key)
            if (uuid := _uuid_of(text)) in wanted
        ]
    return found


def dead(client: Client, names: Iterable[str]) -> Counter[str]:
    """How many dead letters there are of each uuid."""
    keys = [f"DLQ:{name}" for name in names]
    return Counter(_uuid_of(text) for key in keys for text in elements.in_list(client, key))


def _owed(text: bytes) -> list[str]:
    """The storages that a parked record owes; none where it is no record."""
    try:
        return Progress.load(record.parse(text).state).owed or []
    except ValueError:  # Somebody else put it there; a look must not fail on it.
        return []


def _waiting(client: Client, name: str) -> Iterator[Entry]:
    places: tuple[tuple[Where, str], ...] = (
        ("queued", name),
        ("returned", f"conserver:returned:{name}"),
        ("suspects", f"conserver:suspects:{name}"),
    )
    for where, key in places:
        for text in elements.in_list(client, key):
            yield Entry(_uuid_of(_payload(text)), name, where, key, text)
    key = f"conserver:parked:{name}"
    for text in elements.in_sorted_set(client, key):
        yield Entry(_uuid_of(_payload(text)), name, "parked", key, text)


def _payload(text: bytes) -> bytes:
    try:
        return record.parse(text).payload
    except ValueError:  # What a producer pushed is its payload as it stands.
        return text


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

"""Lists, replays and purges dead letters.

A dead letter is a payload in DLQ:<list> and a member of conserver:dead:<list>: the reason as one
line of JSON, then the record. The member is missing if another tool pushed the payload, or if the
reason has expired (sweep.lua). The functions here read in pages and move one letter per call, so
that they can handle lists of millions.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any

import orjson

from conserver.queue import elements, keys, lookup, operator_calls, script
from conserver.queue.names import name_of
from conserver.queue.record import Progress, parse
from conserver.vcon.ids import usable_uuid

if TYPE_CHECKING:
    import redis


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One dead letter.

    `why` has reason ("failed", "rejected", "unavailable", "poison", "time_limit", "oversized"),
    error, link or storage, traceback, attempts, deliveries (counted deaths), uuid, time_ms; `why`
    is empty for a payload without a record. `member` is the letter's member of
    conserver:dead:<list>; b"" if the letter has none. `payload` is a uuid or a document.
    """

    list: str
    payload: bytes
    member: bytes = b""
    why: dict[str, Any] = field(default_factory=dict)
    progress: Progress = field(default_factory=Progress)

    @property
    def name(self) -> str:
        """The letter's name in logs and commands: the uuid, or else the name by names.py."""
        uuid = self.why.get("uuid")
        return uuid if isinstance(uuid, str) and usable_uuid(uuid) else name_of(self.payload)


def lists(client: redis.Redis) -> list[str]:
    """All lists with dead letters, among the lists that any worker has ever claimed from."""
    return [name for name in lookup.known_lists(client) if depth(client, name)]


def depth(client: redis.Redis, name: str) -> int:
    """How many dead letters a list has; 0 if the key has another type."""
    key = keys.dead_letters(name)
    return int(client.llen(key)) if client.type(key) == b"list" else 0


def scan(client: redis.Redis, name: str, *, newest: bool = False) -> Iterator[DeadLetter]:
    """All dead letters of a list: first those with a reason, oldest or newest first, then bare
    payloads.

    A letter that is added or removed during the scan may be missed or yielded twice. `requeue` and
    `purge` check again whether the letter exists.
    """
    began_ms = _now_ms(client.time())
    with_reason: Counter[bytes] = Counter()
    for member in elements.in_sorted_set(client, keys.dead(name), highest=newest):
        letter = _read(client, name, member)
        if letter is not None:
            with_reason[letter.payload] += 1
            yield letter
    for payload in _bare(client, name, with_reason, began_ms):
        yield DeadLetter(name, payload)


def _bare(
    client: redis.Redis, name: str, with_reason: Counter[bytes], since_ms: int
) -> Iterator[bytes]:
    """The payloads that have no reason.

    A letter may have been added after `scan` read the reasons. So this function reads the reasons
    of new letters before it yields a payload; otherwise `requeue` would lose the record of such a
    letter.

    Args:
        with_reason: payload -> how many letters with a reason have this payload.
        since_ms: when `scan` began to read the reasons, by Redis's clock.
    """
    recent: set[bytes] = set()
    payloads = elements.in_list(client, keys.dead_letters(name))
    while some := list(islice(payloads, elements.MOST)):
        unknown = []
        for payload in some:
            if with_reason[payload]:
                with_reason[payload] -= 1
            else:
                unknown.append(payload)
        if not unknown:
            continue
        pipe = client.pipeline(transaction=False)
        pipe.time()
        pipe.zrangebyscore(keys.dead(name), since_ms, "+inf")
        now, members = pipe.execute()
        since_ms = _now_ms(now)
        recent |= {one.payload for member in members if (one := _read(client, name, member))}
        yield from (payload for payload in unknown if payload not in recent)


def _now_ms(time: tuple[int, int]) -> int:
    seconds, micros = time
    return seconds * 1000 + micros // 1000


def requeue(client: redis.Redis, letter: DeadLetter) -> str:
    """Return a letter to the queue. Finished links do not run again; the attempts start at 0.

    Returns:
        "returned"; "queued" if the letter had no record; "swept" if another tool had replayed it,
        so that only its reason was removed; or "gone" if it does not exist.
    """
    progress = letter.progress
    progress.attempts, progress.failures, progress.error, progress.runs = 0, 0, "", {}
    call = operator_calls.replay(letter.list, letter.member, letter.payload, progress.dump())
    answer: bytes = script.run(client, call)
    return answer.decode()


def purge(client: redis.Redis, letter: DeadLetter) -> bool:
    """Delete a letter with its reason. Returns whether the letter existed."""
    call = operator_calls.purge(letter.list, letter.member, letter.payload)
    return bool(script.run(client, call))


def _read(client: redis.Redis, name: str, member: bytes) -> DeadLetter | None:
    line, _, record = member.partition(b"\n")
    try:
        why, claimed = orjson.loads(line), parse(record)
    except (ValueError, TypeError, AttributeError):
        return None  # Another program wrote it.
    try:
        progress = Progress.load(claimed.state)
    except ValueError:  # Somebody has edited it. A replay begins anew.
        progress = Progress()
    if not isinstance(why, dict):
        return None
    payload = claimed.payload
    if payload[:1] == b"\x02":
        found = _find(client, name, payload[1:].decode())
        if found is None:
            return None  # Another tool has replayed it.
        payload = found
    return DeadLetter(name, payload, member, why, progress)


def _find(client: redis.Redis, name: str, sha1: str) -> bytes | None:
    """The payload with this SHA-1; None if it is not in the list. The record of a large payload has
    only the SHA-1.
    """
    for payload in elements.in_list(client, keys.dead_letters(name)):
        if hashlib.sha1(payload, usedforsecurity=False).hexdigest() == sha1:
            return payload
    return None

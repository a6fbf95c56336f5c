"""Lists, replays and purges dead letters.

A dead letter is a payload in DLQ:<list> and a member of conserver:dead:<list>, which holds the
reason as one line of JSON and then the record. The member is missing where another tool pushed the
payload or the reason was swept. Everything here reads in pages and moves one letter per call, so
that lists of millions can be handled.
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
    error, link or storage, traceback, attempts, deliveries, uuid, time_ms; it is empty for a
    payload without a record. `member` is the letter's entry in conserver:dead:<list>, b"" where
    there is none. `payload` is a uuid or a document.
    """

    list: str
    payload: bytes
    member: bytes = b""
    why: dict[str, Any] = field(default_factory=dict)
    progress: Progress = field(default_factory=Progress)

    @property
    def name(self) -> str:
        """Its name for people: the uuid if it has one, else see names.py."""
        uuid = self.why.get("uuid")
        return uuid if isinstance(uuid, str) and usable_uuid(uuid) else name_of(self.payload)


def lists(client: redis.Redis) -> list[str]:
    """Every list that has dead letters, of those that any worker has ever claimed from."""
    return [name for name in lookup.known_lists(client) if depth(client, name)]


def depth(client: redis.Redis, name: str) -> int:
    """How many dead letters a list has; 0 where the key holds another type."""
    key = keys.dead_letters(name)
    return int(client.llen(key)) if client.type(key) == b"list" else 0


def scan(client: redis.Redis, name: str, *, newest: bool = False) -> Iterator[DeadLetter]:
    """All dead letters of a list: first those with a reason, oldest or newest first, then bare
    payloads.

    Letters that are added or removed meanwhile may be missed or yielded twice. `requeue` and
    `purge` check again whether a letter is still there.
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

    A letter that came after the reasons were read has one, too: without a look at it, what died a
    moment ago would be moved as if nothing were known of it.

    Args:
        with_reason: how often each payload was met with its reason.
        since_ms: when their reading began, by Redis's clock.
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
    """Send a letter to work again. Its links that are done stay done; its attempts start at 0.

    Returns:
        "returned"; "queued" where it had no record; "swept" where another tool had replayed it, and
        only its reason was left to remove; or "gone".
    """
    progress = letter.progress
    progress.attempts, progress.failures, progress.error, progress.runs = 0, 0, "", {}
    call = operator_calls.replay(letter.list, letter.member, letter.payload, progress.dump())
    answer: bytes = script.run(client, call)
    return answer.decode()


def purge(client: redis.Redis, letter: DeadLetter) -> bool:
    """Delete a letter with its reason. Returns whether it was still there."""
    call = operator_calls.purge(letter.list, letter.member, letter.payload)
    return bool(script.run(client, call))


def _read(client: redis.Redis, name: str, member: bytes) -> DeadLetter | None:
    line, _, record = member.partition(b"\n")
    try:
        why, claimed = orjson.loads(line), parse(record)
        progress = Progress.load(claimed.state)
    except (ValueError, TypeError, AttributeError):
        return None  # Another program wrote it.
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
    """The payload with this digest. The record of a large payload holds the digest only."""
    for payload in elements.in_list(client, keys.dead_letters(name)):
        if hashlib.sha1(payload, usedforsecurity=False).hexdigest() == sha1:
            return payload
    return None

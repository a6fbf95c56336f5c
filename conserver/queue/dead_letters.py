"""Dead letters as people and tools see them: listed with their reasons, replayed, purged.

A dead letter is a payload in DLQ:<list> and, unless another tool put it there or its reason was
swept, a member of conserver:dead:<list>: why, as one line of JSON, then the record. Everything here
reads in pages and moves one letter per call, so that a list of millions stays workable.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import orjson

from conserver.queue import calls, elements, script
from conserver.queue.record import Progress, parse

if TYPE_CHECKING:
    import redis


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One dead letter.

    `why` has reason ("failed", "rejected", "unavailable", "poison", "time_limit", "oversized"),
    error, link or storage, traceback, attempts, deliveries, uuid, time_ms; it is empty for a
    payload without a record. `member` is the entry of conserver:dead, b"" without one. `payload`
    is a uuid or a document.
    """

    list: str
    payload: bytes
    member: bytes = b""
    why: dict[str, Any] = field(default_factory=dict)
    progress: Progress = field(default_factory=Progress)

    @property
    def name(self) -> str:
        """Its uuid, or the beginning of what was pushed."""
        text = str(self.why.get("uuid") or "") or self.payload[:60].decode("utf-8", "replace")
        return text.replace("\n", " ")


def lists(client: redis.Redis) -> list[str]:
    """Every list that has dead letters, of those that Conserver has ever served."""
    found = cast("set[bytes]", client.smembers(calls.LISTS))
    names = sorted(name.decode() for name in found)
    return [name for name in names if depth(client, name)]


def depth(client: redis.Redis, name: str) -> int:
    """How many dead letters a list has; 0 where the key holds something else."""
    if client.type(f"DLQ:{name}") != b"list":
        return 0
    return int(client.llen(f"DLQ:{name}"))


def scan(client: redis.Redis, name: str) -> Iterator[DeadLetter]:
    """All dead letters of a list, those with a reason first, oldest first; then bare payloads.

    Letters that come or go meanwhile may be missed or be seen once too often: each call that moves
    one checks again.
    """
    told: Counter[bytes] = Counter()
    for member in elements.in_sorted_set(client, f"conserver:dead:{name}"):
        letter = _read(client, name, member)
        if letter is not None:
            told[letter.payload] += 1
            yield letter
    for payload in elements.in_list(client, f"DLQ:{name}"):
        if told[payload]:
            told[payload] -= 1
        else:
            yield DeadLetter(name, payload)


def requeue(client: redis.Redis, letter: DeadLetter) -> str:
    """Send it to work again with what was done for it; attempts start from nothing.

    Returns:
        "returned", "queued" (it had no record), "swept" (another tool had replayed it: its reason
        was removed) or "gone".
    """
    progress = letter.progress
    progress.attempts, progress.failures, progress.error, progress.runs = 0, 0, "", {}
    call = calls.replay(letter.list, letter.member, letter.payload, progress.dump())
    answer: bytes = script.run(client, call)
    return answer.decode()


def purge(client: redis.Redis, letter: DeadLetter) -> bool:
    """Forget it. Whether it was still there."""
    return bool(script.run(client, calls.purge(letter.list, letter.member, letter.payload)))


def _read(client: redis.Redis, name: str, member: bytes) -> DeadLetter | None:
    line, _, record = member.partition(b"\n")
    try:
        why, claimed = orjson.loads(line), parse(record)
        progress = Progress.load(claimed.state)
    except (ValueError, TypeError, AttributeError):
        return None  # nothing that we have written: somebody's own entry
    if not isinstance(why, dict):
        return None
    payload = claimed.payload
    if payload[:1] == b"\x02":
        found = _find(client, name, payload[1:].decode())
        if found is None:
            return None  # another tool has replayed it
        payload = found
    return DeadLetter(name, payload, member, why, progress)


def _find(client: redis.Redis, name: str, sha1: str) -> bytes | None:
    """The large payload with this digest; its record does not carry it a second time."""
    for payload in elements.in_list(client, f"DLQ:{name}"):
        if hashlib.sha1(payload, usedforsecurity=False).hexdigest() == sha1:
            return payload
    return None

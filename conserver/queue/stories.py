"""Stories: what the attempts at an item were, and when, for people who look at one item.

One member per attempt in conserver:story:<uuid>, a sorted set by the time of the claim: a JSON
array of the fields of Attempt. It is written when the attempt has ended, beside a call that is made
anyway, and it is a hint: a worker that is killed leaves none of its attempt, and nothing reads it
but those who show it. It is bounded (ATTEMPTS_MAX, EVENTS_MAX, TEXT_CHARS) and expires.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import astuple, dataclass, field
from typing import Any

import orjson

from conserver.queue import keys

ATTEMPTS_MAX = 32
EVENTS_MAX = 64
TEXT_CHARS = 500


@dataclass(slots=True)
class Event:
    """Something in an attempt; times are in ms since its claim.

    kind: link, checkpoint, storage, or the end: completed, filtered, cancelled, parked, failed,
    released, lost. name: of the link or storage; of an end, the list that the item went to. text:
    what was said about it: an error, what it waits for.
    """

    kind: str
    name: str
    from_ms: int
    to_ms: int
    text: str = ""
    good: bool = True


@dataclass(slots=True)
class Attempt:
    """One attempt at an item: from the claim by a consumer to where the item left it.

    number: the epoch of the claim; it rises. deaths: how many workers had died of it by then.
    """

    token: str
    number: int
    job: str
    list_name: str
    chain: str
    host: str
    consumer: str
    claimed_ms: int
    deaths: int = 0
    suspect: bool = False
    events: list[Event] = field(default_factory=list)

    def dump(self) -> bytes:
        """As the member of the sorted set."""
        return orjson.dumps(astuple(self))


def load(members: Iterable[bytes]) -> list[Attempt]:
    """The attempts in a story, the oldest first. What is none of ours is left out.

    An attempt that was told twice (its end had to be decided again) is there once, as told last.
    """
    found: dict[tuple[str, int], Attempt] = {}
    for member in members:
        try:
            *values, events = orjson.loads(member)
            attempt = Attempt(*values)
            attempt.events = [Event(*event) for event in events]
        except (ValueError, TypeError):
            continue
        known = found.get((attempt.token, attempt.number))
        if known is None or known.events[-1:] == [] or _ended(known) <= _ended(attempt):
            found[attempt.token, attempt.number] = attempt
    return sorted(found.values(), key=lambda attempt: (attempt.claimed_ms, attempt.number))


def commands(uuid: str, attempt: Attempt, keep_s: int) -> list[tuple[Any, ...]]:
    """The commands that add an attempt to a story. To repeat them does no harm."""
    key = keys.story(uuid)
    return [
        ("ZADD", key, attempt.claimed_ms, attempt.dump()),
        ("ZREMRANGEBYRANK", key, 0, -1 - ATTEMPTS_MAX),
        ("EXPIRE", key, keep_s),
    ]


def _ended(attempt: Attempt) -> int:
    return attempt.events[-1].to_ms if attempt.events else 0

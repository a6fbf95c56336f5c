"""Stories: the attempts at an item with their times, for `conserver where` and the dashboard.

conserver:story:<uuid> is a sorted set by the time of the claim. Each member is one attempt: a JSON
array of the fields of Attempt. The worker writes it at the attempt's end, in the same packet as
another call. A killed worker writes nothing of its attempts, so a story may be incomplete; only the
display depends on it. Stories are bounded (ATTEMPTS_MAX, EVENTS_MAX, TEXT_CHARS) and expire.
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
    """One event of an attempt. Times are in ms since the claim.

    kind: link, checkpoint, storage, or the end: completed, filtered, cancelled, parked, failed,
    released, lost. name: of the link or storage; for an end, the list to which the item went. text:
    the error, or the thing that the item waits for.
    """

    kind: str
    name: str
    from_ms: int
    to_ms: int
    text: str = ""
    good: bool = True


@dataclass(slots=True)
class Attempt:
    """One attempt at an item: from its claim by a consumer until the item left that consumer.

    number: the epoch of the claim; later attempts have higher ones. deaths: the counted deaths of
    the item at that time.
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
        """The attempt as a member of the sorted set."""
        return orjson.dumps(astuple(self))


def load(members: Iterable[bytes]) -> list[Attempt]:
    """Parse the attempts of a story, the oldest first. Members that are no attempts are left out.

    A worker may have written an attempt twice, because it had to decide the end again. Such an
    attempt is returned once, as it was written last.
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
    """The Redis commands that add an attempt to a story. Repeating them is harmless."""
    key = keys.story(uuid)
    return [
        ("ZADD", key, attempt.claimed_ms, attempt.dump()),
        ("ZREMRANGEBYRANK", key, 0, -1 - ATTEMPTS_MAX),
        ("EXPIRE", key, keep_s),
    ]


def _ended(attempt: Attempt) -> int:
    return attempt.events[-1].to_ms if attempt.events else 0

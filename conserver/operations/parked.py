"""Finds what parked items wait for: a retry, a storage, a rate, a server, or a later time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from conserver.operations.connection import Client
from conserver.operations.error_kinds import kind_of
from conserver.queue import elements, keys, record
from conserver.queue.record import AGAIN, THROTTLED, Progress
from conserver.telemetry.redact import redact_text

Cause = Literal["retry", "storage", "rate", "throttled", "later"]
"""What a parked item waits for. `later`: it was submitted for a later time."""

_PARKED_SAMPLE = 200


@dataclass(frozen=True, slots=True)
class Waits:
    """What the parked items of a list wait for. Only the items that are due first are counted.

    Attributes:
        sampled: how many items were counted.
        storages: storage -> how many items must still be written to it.
        retries: how many items wait for another attempt of a link.
        due_in_s: seconds until the first item is due; negative if it is due already.
        rates: rate, such as `link:transcribe` -> how many items wait for a slot of it.
        throttled: link -> how many items wait until the link's server takes calls again.
        later: how many items were submitted for a later time.
        failed: how many of the `retries` have failed before.
        error: the most frequent error of the failed items, without uuids; see error_kinds.
    """

    sampled: int
    storages: dict[str, int]
    retries: int
    due_in_s: float
    rates: dict[str, int] = field(default_factory=dict)
    throttled: dict[str, int] = field(default_factory=dict)
    later: int = 0
    failed: int = 0
    error: str = ""


def waits(client: Client, wanted: Iterable[str]) -> dict[str, Waits]:
    """list -> what its parked items wait for. Lists without parked items are left out.

    It takes fewer than ten round trips for any number of lists.
    """
    wanted = list(wanted)
    pipe = client.pipeline(transaction=False)
    pipe.time()
    for name in wanted:
        pipe.zrange(keys.parked(name), 0, 0, withscores=True)
    (seconds, micros), *firsts = pipe.execute()
    now_ms = seconds * 1000 + micros / 1000
    due_in_s = {
        name: round((first[0][1] - now_ms) / 1000, 1)
        for name, first in zip(wanted, firsts, strict=True)
        if first
    }
    states: dict[str, list[Progress | None]] = {keys.parked(name): [] for name in due_in_s}
    for key, page in elements.in_sorted_sets(client, list(states), _PARKED_SAMPLE):
        states[key] += map(state_of, page)
    # The parked items of a list may have left since the first command: then it is left out.
    return {
        name: _counted(states[keys.parked(name)], due_s)
        for name, due_s in due_in_s.items()
        if states[keys.parked(name)]
    }


def _counted(sample: Sequence[Progress | None], due_in_s: float) -> Waits:
    states = [one for one in sample if one is not None]
    storages = Counter(storage for one in states for storage in one.owed or ())
    slots = Counter(slot.removeprefix(AGAIN) for one in states for slot in one.rate_slots)
    throttled = {
        slot.removeprefix(THROTTLED): count
        for slot, count in slots.most_common()
        if slot.startswith(THROTTLED)
    }
    retries = [one for one in states if not one.owed and not one.rate_slots]
    errors = Counter(kind_of(one.error, "") for one in retries if one.error)
    [(error, _)] = errors.most_common(1) or [("", 0)]
    return Waits(
        len(sample),
        dict(storages.most_common()),
        len(retries),
        due_in_s,
        {slot: count for slot, count in slots.most_common() if not slot.startswith(THROTTLED)},
        throttled,
        len(sample) - len(states),
        errors.total(),
        redact_text(error),
    )


def state_of(text: bytes) -> Progress | None:
    """The progress of a waiting item; an empty one if the text is no record. None for an item that
    was submitted for a later time and was never claimed.
    """
    try:
        parsed = record.parse(text)
        return Progress.load(parsed.state) if parsed.epoch else None
    except ValueError:  # a bare payload, or an element of another program
        return Progress()


def cause_of(text: bytes) -> Cause:
    """What a parked item waits for. If storages must still be written, it waits only for those."""
    state = state_of(text)
    if state is None:
        return "later"
    if state.owed:
        return "storage"
    if state.rate_slots:
        return "throttled" if state.rate_slots[0].startswith(THROTTLED) else "rate"
    return "retry"

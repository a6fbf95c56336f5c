"""Follows submitted vCons until each has ended or is dead.

It polls Redis and needs neither the workers' help nor keys of its own: an item that is in no place
of the queue any more has ended. How it ended only the log tells: an item that was stored and passed
on, a filtered one and a cancelled one leave the queue alike. A vCon may have dead letters from
before, so only a new letter says anything about this submission.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Generator, Mapping, Sequence
from dataclasses import replace
from itertools import chain

from conserver.errors import Rejected
from conserver.operations import dead_letters, documents, items, lists
from conserver.operations.connection import Client
from conserver.operations.dead_letters import Filter
from conserver.operations.submit import Submitted
from conserver.vcon.document import Vcon

_LOOK_S = 0.25
# One look can miss an item that moves from place to place meanwhile; so many in a row do not.
_ABSENCES = 3


def dead_before(client: Client, name: str) -> Counter[str]:
    """How many dead letters each uuid has, on this list and all others."""
    return items.dead(client, lists.names(client, [name]))


def follow(
    client: Client,
    name: str,
    submitted: Sequence[Submitted],
    before: Mapping[str, int],
    *,
    timeout_s: float,
) -> Generator[tuple[int, Submitted], None, None]:
    """Looks for the documents until they are in no place any more, or newly dead.

    Yields the position of each in `submitted`, and what became of it; at the end of the time, those
    that still wait or run. Refused ones are passed over.

    Args:
        before: the dead letters that there were before the submission, see `dead_before`.
    """
    began_s = time.monotonic()
    pending: dict[str, list[int]] = {}
    for position, one in enumerate(submitted):
        if one.uuid:
            pending.setdefault(one.uuid, []).append(position)
    absences: dict[str, list[float]] = {}
    while pending and time.monotonic() - began_s < timeout_s:
        names = lists.names(client, [name])
        entries = items.find(client, names, pending.keys())
        looked_s = time.monotonic() - began_s
        alive = {entry.uuid for entry in entries if entry.where != "dead"}
        dead = Counter(entry.uuid for entry in entries if entry.where == "dead")
        for uuid in alive:
            absences.pop(uuid, None)
        for uuid in set(pending) - alive:
            absent_s = absences.setdefault(uuid, [])
            absent_s.append(looked_s)
            died = dead[uuid] > before.get(uuid, 0)
            if died or len(absent_s) >= _ABSENCES:
                why = _why_dead(client, names, uuid) if died else ""
                outcome = "dead" if died else "ended"
                for position in pending.pop(uuid):
                    yield position, _ended(client, submitted[position], outcome, absent_s[0], why)
        if pending:
            time.sleep(_LOOK_S)
    for position in chain(*pending.values()):
        yield position, replace(submitted[position], outcome="waiting")


def _why_dead(client: Client, names: Sequence[str], uuid: str) -> str:
    """What the newest dead letter of a vCon says."""
    letters = dead_letters.select(client, Filter(names=tuple(names), uuids=(uuid,)))
    last = max(letters, key=lambda letter: letter.why.get("time_ms", 0), default=None)
    return dead_letters.described(last) if last is not None else ""


def _ended(
    client: Client, one: Submitted, outcome: str, duration_s: float, detail: str
) -> Submitted:
    """The document with its end, and with what it holds in Redis by now."""
    ended = replace(one, outcome=outcome, detail=detail, duration_s=round(duration_s, 2))
    text = documents.read(client, one.uuid).text
    if text is None:
        return ended
    try:
        vcon = Vcon.parse(text)
    except Rejected as refusal:
        return replace(ended, detail=refusal.reason)
    analyses = [str(entry.get("type", "")) for entry in vcon.analysis]
    return replace(ended, analyses=analyses, tags=vcon.tags)

"""What becomes of submitted vCons: each is followed until it has ended or is dead.

Nobody is asked and nothing is left behind: an item is where the census finds it, and what is
nowhere any more has ended. How it ended only the log knows: an item that is stored and passed on, a
filtered one and a cancelled one leave the queues alike. A vCon may have been a dead letter before,
so only a letter that came since says anything.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from conserver.cli import census
from conserver.cli.base import Client
from conserver.cli.documents import read_document
from conserver.cli.letters import Filter, described, select
from conserver.errors import Rejected
from conserver.vcon.document import Vcon

_LOOK_S = 0.25
# An item can evade one look while it moves from place to place; it does not evade so many in a row.
_ABSENCES = 3


@dataclass(slots=True)
class Submitted:
    """One document and what became of it: `refused`, `submitted`, `ended`, `dead` or `waiting`.

    duration_s: how long it took from the last submission until a look did not find it any more.
    """

    source: str
    uuid: str = ""
    outcome: str = "submitted"
    detail: str = ""
    duration_s: float | None = None
    analyses: list[str] = field(default_factory=list)
    tags: dict[str, str] = field(default_factory=dict)


def dead_letters(client: Client, name: str) -> Counter[str]:
    """How many dead letters each vCon has, in this list and all others."""
    return census.dead(client, census.all_names(client, [name]))


def follow(
    client: Client,
    name: str,
    results: Sequence[Submitted],
    dead_before: Mapping[str, int],
    timeout_s: float,
    step: Callable[[int], None],
) -> None:
    """Looks for the submitted ones until they are nowhere any more, or newly dead.

    Args:
        dead_before: the dead letters there were before they were submitted.
        step: told how many have come to their end.
    """
    began_s = time.monotonic()
    pending: dict[str, list[Submitted]] = {}
    for result in results:
        if result.uuid:
            pending.setdefault(result.uuid, []).append(result)
    absences: dict[str, list[float]] = {}
    while pending and time.monotonic() - began_s < timeout_s:
        names = census.all_names(client, [name])
        entries = census.find(client, names, pending.keys())
        looked_s = time.monotonic() - began_s
        alive = {entry.uuid for entry in entries if entry.where != "dead"}
        dead = Counter(entry.uuid for entry in entries if entry.where == "dead")
        for uuid in alive:
            absences.pop(uuid, None)
        for uuid in set(pending) - alive:
            absent_s = absences.setdefault(uuid, [])
            absent_s.append(looked_s)
            died = dead[uuid] > dead_before.get(uuid, 0)
            if died or len(absent_s) >= _ABSENCES:
                why = _why_dead(client, names, uuid) if died else ""
                for result in pending.pop(uuid):
                    _end(client, result, "dead" if died else "ended", absent_s[0], why)
                    step(1)
        if pending:
            time.sleep(_LOOK_S)
    for waiting in pending.values():
        for result in waiting:
            result.outcome = "waiting"


def _end(client: Client, result: Submitted, outcome: str, duration_s: float, detail: str) -> None:
    result.outcome, result.detail = outcome, detail
    result.duration_s = round(duration_s, 2)
    _describe(client, result)


def _why_dead(client: Client, names: Sequence[str], uuid: str) -> str:
    """What its last dead letter says: those before it have been told already."""
    letters = list(select(client, Filter(names=tuple(names), uuids=(uuid,))))
    last = max(letters, key=lambda letter: letter.why.get("time_ms", 0), default=None)
    return described(last) if last is not None else ""


def _describe(client: Client, result: Submitted) -> None:
    """Adds what the document in Redis has by now."""
    text = read_document(client, result.uuid)
    if text is None:
        return
    try:
        vcon = Vcon.parse(text)
    except Rejected as refusal:
        result.detail = refusal.reason
        return
    result.analyses = [str(entry.get("type", "")) for entry in vcon.analysis]
    result.tags = vcon.tags

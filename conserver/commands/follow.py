"""What becomes of submitted vCons: each is followed until it is done or dead.

Nobody is asked and nothing is left behind: an item is where the census finds it, and what is
nowhere any more is done. A vCon may have been a dead letter before, so only a letter that came
since says anything.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from conserver.commands import census
from conserver.commands.base import Client
from conserver.commands.documents import read_document
from conserver.commands.letters import Filter, described, select
from conserver.errors import Rejected
from conserver.vcon import Vcon

_LOOK_S = 0.25
# An item can evade one look while it moves from place to place; it does not evade so many in a row.
_ABSENCES = 3


@dataclass(slots=True)
class Submitted:
    """One document and what became of it: `refused`, `submitted`, `done`, `dead` or `waiting`."""

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
    absences: Counter[str] = Counter()
    while pending and time.monotonic() - began_s < timeout_s:
        time.sleep(_LOOK_S)
        names = census.all_names(client, [name])
        entries = census.find(client, names, pending.keys())
        alive = {entry.uuid for entry in entries if entry.where != "dead"}
        dead = Counter(entry.uuid for entry in entries if entry.where == "dead")
        for uuid in set(pending) - alive:
            absences[uuid] += 1
            died = dead[uuid] > dead_before.get(uuid, 0)
            if died or absences[uuid] >= _ABSENCES:
                for result in pending.pop(uuid):
                    result.outcome = "dead" if died else "done"
                    result.duration_s = round(time.monotonic() - began_s, 2)
                    result.detail = _why_dead(client, names, uuid) if died else ""
                    _describe(client, result)
                    step(1)
        for uuid in alive:
            absences[uuid] = 0
    for waiting in pending.values():
        for result in waiting:
            result.outcome = "waiting"


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

"""What is wrong right now, in words: what, for how long, and how much waits for it.

It is concluded from an overview alone, so it costs nothing more. Worst first.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from conserver.operations.hosts import Host
from conserver.operations.overview import ListState, Overview

LONG_WAIT_S = 600.0
"""An item of a list that is served and not paused does not wait for so long where all is well."""

SHAKY_RESTARTS = 3

Severity = Literal["critical", "warning"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that somebody should know.

    Attributes:
        subject: what it is about, such as "storage pg"; text goes on: "has been away for ...".
        list: the list that it is about; "" if it is about none.
        since: Unix seconds; None if nobody knows.
    """

    severity: Severity
    subject: str
    text: str
    list: str = ""
    since: float | None = None


def attention(found: Overview, parked_cap: int = 0) -> list[Finding]:
    """What is wrong, the worst first.

    Args:
        parked_cap: of the settings: with so many parked items a list gives out no new ones; 0:
            not known.
    """
    findings = [
        *_hosts(found),
        *_storages(found),
        *(finding for one in found.lists for finding in _list(found, one, parked_cap)),
        *(finding for host in found.hosts if host.beats for finding in _children(host)),
    ]
    return sorted(findings, key=lambda finding: finding.severity != "critical")


def for_how_long(seconds: float) -> str:
    """A duration in words."""
    for least_s, unit_s, unit in ((172_800, 86_400, "days"), (7200, 3600, "h"), (120, 60, "min")):
        if seconds >= least_s:
            return f"{seconds / unit_s:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"


def items(count: int) -> str:
    """`1 item`, `4,310 items`."""
    return f"{count:,} item" + ("" if count == 1 else "s")


def _hosts(found: Overview) -> Iterator[Finding]:
    waiting = sum(_waiting(one) for one in found.lists)
    if not any(host.consumes for host in found.hosts):
        what = f"{items(waiting)} wait{'s' if waiting == 1 else ''}" if waiting else "nothing waits"
        why = "none is running" if not found.hosts else "none of those that are known takes items"
        yield Finding("critical" if waiting else "warning", "No host", f"works: {why}; {what}")
    for host in found.hosts:
        if not host.beats and host.beat_at_s:  # One that never has is starting.
            ago = for_how_long(host.beat_age_s)
            text = f"has not been heard of for {ago}; another host returns its items"
            yield Finding("critical", f"Host {host.name}", text, since=host.beat_at_s)
        reload = host.supervisor.get("reload") or {}
        if host.beats and reload.get("refused"):
            ago = for_how_long(found.at - reload["at"])
            text = f"has refused the configuration {ago} ago, and goes on with the one before"
            yield Finding("warning", f"Host {host.name}", text, since=reload["at"])


def _storages(found: Overview) -> Iterator[Finding]:
    for one in found.breakers:
        if not one.open:
            continue
        waits, exact = _owed(found, one.storage)
        how_long = f" for {for_how_long(found.at - one.since)}" if one.since else ""
        part = "" if one.open == one.workers else f" to {one.open} of {one.workers} workers"
        tail = ""
        if waits:
            tail = f": {'' if exact else 'about '}{items(waits)} wait{'s' * (waits == 1)} for it"
        reason = f" ({one.reason})" if one.reason else ""
        text = f"has been away{part}{how_long}{reason}{tail}"
        yield Finding("critical", f"Storage {one.storage}", text, since=one.since)


def _owed(found: Overview, storage: str) -> tuple[int, bool]:
    """How many parked items wait for a storage, and whether all of them were counted."""
    total, exact = 0.0, True
    for one in found.lists:
        if one.waits is None or not one.parked or not one.waits.sampled:
            continue
        share = one.waits.storages.get(storage, 0)
        if one.parked > one.waits.sampled:
            exact = exact and not share
            total += share * one.parked / one.waits.sampled
        else:
            total += share
    return round(total), exact


def _list(found: Overview, one: ListState, parked_cap: int) -> Iterator[Finding]:
    name, subject, waiting = one.name, f"List {one.name}", _waiting(one)
    if None in (one.queued, one.returned, one.suspects, one.parked, one.dead):
        text = "has a key of another type, so it is not served; `conserver doctor` names the key"
        yield Finding("critical", subject, text, name)
    if one.paused and waiting:
        how_long = f" for {for_how_long(found.at - one.paused_since)}" if one.paused_since else ""
        yield Finding(
            "warning",
            subject,
            f"has been paused{how_long}: {items(waiting)} wait{'s' * (waiting == 1)}",
            name,
            one.paused_since,
        )
    elif waiting and not one.served:
        text = f"is served by no host: {items(waiting)} wait{'s' * (waiting == 1)}"
        yield Finding("critical", subject, text, name)
    elif waiting and (one.oldest_age_s or 0) > LONG_WAIT_S:
        text = f"has an item that has waited for {for_how_long(one.oldest_age_s or 0)}"
        yield Finding("warning", subject, f"{text}, of {waiting:,}", name)
    if one.suspects:
        text = f"has {items(one.suspects)} that may have killed a worker; each runs alone"
        yield Finding("warning", subject, text, name)
    if parked_cap and (one.parked or 0) >= parked_cap:
        text = f"has {items(one.parked or 0)} parked, and takes no new ones until some are done"
        yield Finding("critical", subject, text, name)
    if one.dead:
        text = f"has {one.dead:,} dead letter{'s' * (one.dead != 1)}"
        yield Finding("warning", subject, text, name)


def _children(host: Host) -> Iterator[Finding]:
    for kind, children in (("Worker", host.workers), ("Transcriber", host.transcribers)):
        for child in children:
            restarts = int(child.get("restarts") or 0)
            if child.get("state") != "waiting" or restarts < SHAKY_RESTARTS:
                continue
            why = f": it {child['ended']}" if child.get("ended") else ""
            text = f"keeps ending, {restarts} times by now{why}"
            yield Finding("critical", f"{kind} {child.get('slot')} of {host.name}", text)


def _waiting(one: ListState) -> int:
    return (one.queued or 0) + (one.returned or 0) + (one.suspects or 0)

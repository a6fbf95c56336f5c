"""Finds what is wrong at this moment. Each finding is a sentence with the remedy, the worst first.

A finding says what is wrong, for how long, how many items wait for it, and what to do. All findings
follow from an Overview, so no further call of Redis is needed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from conserver.operations.hosts import Host
from conserver.operations.overview import ListState, Overview
from conserver.operations.words import for_how_long, items, items_wait, one_line
from conserver.queue import keys

LONG_WAIT_S = 600.0
"""An item that waits longer than this, in a list that is served and not paused, is a finding."""

LONG_RUN_S = 900.0
"""An item that is in a link for longer than this is a finding."""

MANY_RETRIES = 10
"""So many failed items of one list that wait for another attempt are a finding."""

SHAKY_RESTARTS = 3

LOSS_TOLD_S = 86400.0
"""For so long a loss of data in Redis is a finding."""

Severity = Literal["critical", "warning"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that somebody should know.

    Attributes:
        subject, text: together one sentence, such as "Storage pg" and "has been away for 5 min".
        list: the list that has the problem; "" for none.
        since: when the problem began, in Unix seconds; None if unknown.
        advice: what to do now. Commands are in backticks.
    """

    severity: Severity
    subject: str
    text: str
    list: str = ""
    since: float | None = None
    advice: str = ""


def attention(found: Overview, parked_cap: int = 0) -> list[Finding]:
    """All findings, the worst first.

    Args:
        parked_cap: the setting; workers claim no new items from a list with so many parked items.
            0: unknown.
    """
    living = [host for host in found.hosts if host.beats]
    findings = [
        *_redis(found),
        *_hosts(found),
        *_storages(found),
        *(finding for host in living for finding in _children(host)),
        *(finding for host in living for finding in _long_runs(found, host)),
        *(finding for one in found.lists for finding in _list(found, one, parked_cap)),
    ]
    return sorted(findings, key=lambda finding: finding.severity != "critical")


def _redis(found: Overview) -> Iterator[Finding]:
    for one in found.risks:
        severity: Severity = "critical" if one.level == "wrong" else "warning"
        yield Finding(severity, f"Redis {one.subject}", f"is {one.text}", advice=one.advice)
    losses = [host for host in found.hosts if found.at - host.lost.get("at", 0) < LOSS_TOLD_S]
    if losses:
        # Each host counts the items of its own lists.
        host = max(losses, key=lambda one: (sum(one.lost["known"].values()), one.lost["at"]))
        at, how = host.lost["at"], host.lost["how"]
        known = ", ".join(
            f"{count:,} {place.replace('_', ' ')}" for place, count in host.lost["known"].items()
        )
        counted = f"; before, host {host.name} counted {known}" if known else ""
        text = f"lost data {for_how_long(found.at - at)} ago: {how}{counted}"
        advice = "push again what producers still have; storing twice does no harm"
        yield Finding("critical", "Redis", text, since=at, advice=advice)


def _hosts(found: Overview) -> Iterator[Finding]:
    waiting = sum(_waiting(one) for one in found.lists)
    if not any(host.consumes for host in found.hosts):
        what = items_wait(waiting) if waiting else "nothing waits"
        why = "none is running" if not found.hosts else "none of those that are known takes items"
        yield Finding(
            "critical" if waiting else "warning",
            "No host",
            f"works: {why}; {what}",
            advice="start one (`conserver run`); `conserver health` on its machine says why one "
            "that runs takes nothing",
        )
    for host in found.hosts:
        if not host.beats and host.beat_at:  # a host without a first beat is starting
            ago = for_how_long(host.beat_age_s)
            text = f"has not been heard of for {ago}; another host returns its items"
            advice = "look at that machine, and at its way to Redis"
            yield Finding("critical", f"Host {host.name}", text, "", host.beat_at, advice)
        reload = host.supervisor.get("reload") or {}
        if host.beats and reload.get("refused"):
            ago = for_how_long(found.at - reload["at"])
            text = f"has refused the configuration {ago} ago, and goes on with the one before"
            yield Finding(
                "warning",
                f"Host {host.name}",
                f"{text}: {one_line(str(reload['refused']), 300)}",
                since=reload["at"],
                advice="mend its file (`conserver check` there names every fault), then `conserver "
                "reload`",
            )


def _storages(found: Overview) -> Iterator[Finding]:
    for one in found.breakers:
        if not one.open:
            continue
        waits, exact = _owed(found, one.storage)
        how_long = f" for {for_how_long(found.at - one.since)}" if one.since else ""
        of_workers = f"{one.open} of {one.workers} workers"
        part = "" if one.open == one.workers else f", as seen by {of_workers}"
        tail = f": {'' if exact else 'about '}{items_wait(waits)} for it" if waits else ""
        reason = f" ({one_line(one.reason)})" if one.reason else ""
        text = f"has been away{how_long}{part}{reason}{tail}"
        advice = (
            "mend it: the items wait, and are written to it when it answers; they become dead "
            "letters only after `give_up_s` (a day)"
        )
        yield Finding("critical", f"Storage {one.storage}", text, "", one.since, advice)


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
    name, subject = one.name, f"List {one.name}"
    if None in (one.queued, one.returned, one.suspects, one.parked, one.dead):
        text = "has a key of another type, so it is not served; `conserver doctor` names the key"
        yield Finding("critical", subject, text, name, advice="rename or delete that key")
    yield from _flow(found, one)
    if one.suspects:
        text = f"has {items(one.suspects)} that may have killed a worker; each runs alone"
        if _waiting(one) == one.suspects and (one.oldest_age_s or 0) > LONG_WAIT_S:
            how_long = for_how_long(one.oldest_age_s or 0)
            text += f", and one has waited for {how_long} for a worker that holds nothing else"
        advice = (
            "nothing at first: each waits for a worker that holds nothing else, and is "
            "dead-lettered if it kills more of them"
        )
        yield Finding("warning", subject, text, name, advice=advice)
    if parked_cap and (one.parked or 0) >= parked_cap:
        text = f"has {items(one.parked or 0)} parked, and takes no new ones until some are done"
        advice = f"mend what they wait for: `conserver list {name}`"
        yield Finding("critical", subject, text, name, advice=advice)
    if one.waits and one.waits.failed >= MANY_RETRIES:
        looked_at = one.waits.sampled
        part = f" of the {looked_at} that are due first" * (looked_at < (one.parked or 0))
        text = f"has items that fail and are tried again, {one.waits.failed}{part}"
        advice = f"mend that; `conserver pause {name}` saves their attempts meanwhile"
        error = one_line(one.waits.error, 160)
        yield Finding("warning", subject, f"{text}: {error}", name, advice=advice)
    if one.dead:
        text = f"has {one.dead:,} dead letter{'s' * (one.dead != 1)}"
        advice = (
            f"`conserver dlq list --list {name} --count` says why; once that is mended, "
            f"`conserver dlq requeue --list {name}`"
        )
        yield Finding("warning", subject, text, name, advice=advice)


def _flow(found: Overview, one: ListState) -> Iterator[Finding]:
    """Findings about items of a list that no worker claims, or that wait for long.

    `conserver drain` pauses the list of callbacks, too. If it stays paused when other lists are
    resumed, that is a finding before the first callback waits.
    """
    name, subject, waiting = one.name, f"List {one.name}", _waiting(one)
    resumed = one.served and not all(other.paused for other in found.lists)
    if one.paused and (waiting or (name == keys.NOTIFICATIONS and resumed)):
        since = one.paused_since or None
        how_long = f" for {for_how_long(found.at - since)}" if since else ""
        who = f" by {one.paused_by}" if one.paused_by else ""
        so = ", so that no callbacks are sent" * (name == keys.NOTIFICATIONS)
        text = f"has been paused{how_long}{who}{so}: {items_wait(waiting)}"
        yield Finding("warning", subject, text, name, since, f"`conserver resume {name}`")
    elif waiting and not one.served:
        text = f"is served by no host: {items_wait(waiting)}"
        advice = "give a chain this list, or start the host whose configuration has it"
        yield Finding("critical", subject, text, name, advice=advice)
    elif waiting > (one.suspects or 0) and (one.oldest_age_s or 0) > LONG_WAIT_S:
        text = f"has an item that has waited for {for_how_long(one.oldest_age_s or 0)}"
        advice = (
            "more workers or hosts if all are busy; `conserver status` says with what, and "
            "docs/operations.md how lists share workers"
        )
        yield Finding("warning", subject, f"{text}, of {waiting:,}", name, advice=advice)


def _children(host: Host) -> Iterator[Finding]:
    for kind, children in (("Worker", host.workers), ("Transcriber", host.transcribers)):
        for child in children:
            restarts = int(child.get("restarts") or 0)
            if child.get("state") != "waiting" or restarts < SHAKY_RESTARTS:
                continue
            why = f": it {child['ended']}" if child.get("ended") else ""
            text = f"keeps ending, {restarts} times by now{why}"
            advice = f"see `child_died` and what stands before it in the log of {host.name}"
            name = f"{kind} {child.get('slot')} of {host.name}"
            yield Finding("critical", name, text, advice=advice)


def _long_runs(found: Overview, host: Host) -> Iterator[Finding]:
    """Findings about workers that have been in one link for very long. Nothing ends such a link if
    it has no hard_timeout_s.

    A finding is critical if every worker of every host is in such a link.
    """
    stuck = {id(worker) for other in found.hosts if other.beats for worker in _stuck(other)}
    workers = sum(len(other.workers) for other in found.hosts if other.beats)
    for worker in _stuck(host):
        item = _longest(worker)
        link, uuid = item.get("link", ""), item.get("uuid", "")
        how_long = for_how_long(_age_s(item, host))
        text = f"has been in the link {link} for {how_long} with {uuid}"
        if worker.get("held", 1) > 1:
            text += f", and holds {worker['held'] - 1} more"
        advice = (
            f"if that is too long: `conserver cancel {uuid}`, and `kill -9 {worker.get('pid')}` on "
            f"{host.name} if the link does not end; `hard_timeout_s` of the link does it by itself"
        )
        severity: Severity = "critical" if len(stuck) == workers else "warning"
        subject = f"Worker {worker.get('slot')} of {host.name}"
        yield Finding(severity, subject, text, since=None, advice=advice)


def _stuck(host: Host) -> list[dict[str, Any]]:
    return [one for one in host.workers if _age_s(_longest(one), host) > LONG_RUN_S]


def _longest(worker: dict[str, Any]) -> dict[str, Any]:
    """The item that has been in a link for the longest time; {} for none."""
    running = [item for item in worker.get("items", ()) if item.get("phase") == "running"]
    return max(running, key=lambda item: float(item.get("since_s") or 0), default={})


def _age_s(item: dict[str, Any], host: Host) -> float:
    """For how long an item has run: its time at the host's last beat, and the age of that beat."""
    return float(item.get("since_s") or 0) + host.beat_age_s if item else 0.0


def _waiting(one: ListState) -> int:
    return (one.queued or 0) + (one.returned or 0) + (one.suspects or 0)

"""/ui/: present problems, then all lists, storages, hosts and transcribers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from conserver.http.api.visible import visible
from conserver.http.dashboard import pasts
from conserver.http.dashboard.pages import Pages, Values, Visit
from conserver.operations import history, overview
from conserver.operations.attention import Finding, attention
from conserver.operations.overview import Overview

pages = Pages()


@dataclass(frozen=True, slots=True)
class Pace:
    """The rate of a list's chain over the last minute. None: not known."""

    per_s: float | None
    drained_in_s: float | None
    p50_s: float | None
    p95_s: float | None


FINDINGS_SHOWN = 12


@pages.live("/", "overview.html", nav="Overview")
def show(visit: Visit) -> Values:
    """The overview."""
    found = seen(visit)
    searched = visit.query.get("q", "").strip().lower()
    shown = [one for one in found.lists if searched in one.name.lower()]
    findings = attention(found, visit.context.settings.parked_cap)
    return {
        "found": found,
        "lists": shown,
        "searched": searched,
        "findings": findings[:FINDINGS_SHOWN],
        "more": len(findings) - FINDINGS_SHOWN,
        "hours": hours(visit, found),
        "paces": paces(visit, found),
        "windows_per_s": visit.dashboard.windows_rate.look(found.hosts),
        "totals": _totals(found),
        **pasts.values(visit, ""),
    }


def seen(visit: Visit) -> Overview:
    """The state of all lists and hosts that the visitor may see. Redis is read at most once a
    second, for all visitors together.
    """
    dashboard = visit.dashboard

    def read() -> Overview:
        with visit.client() as client:
            return overview.overview(client, list(visit.context.config.ingress), dashboard.rate)

    found = dashboard.snapshots.get("overview", 0.9, read)
    if not visit.token.lists:
        return found
    return replace(
        found,
        lists=[one for one in found.lists if visit.token.may_use(one.name)],
        hosts=visible(found.hosts, visit.token, visit.context.config),
    )


def findings_of(visit: Visit, name: str) -> list[Finding]:
    """The problems of one list."""
    found = attention(seen(visit), visit.context.settings.parked_cap)
    return [one for one in found if one.list == name]


def hours(visit: Visit, found: Overview) -> Mapping[str, history.Line]:
    """The number of waiting items of each list over the last hour, with a point per ten seconds."""
    names = [one.name for one in found.lists]

    def read() -> Mapping[str, history.Line]:
        with visit.client() as client:
            return history.last_hour(client, names)

    return visit.dashboard.snapshots.get(("hours", *names), 10, read)


def paces(visit: Visit, found: Overview) -> Mapping[str, Pace]:
    """The rate of each list's chain, and when its waiting items will be done at this rate."""
    chains = visit.context.config.ingress
    waiting: Counter[str] = Counter()
    moving = {one.name for one in found.lists if one.served and not one.paused}
    for one in found.lists:
        if one.name in moving:
            waiting[chains.get(one.name, "")] += (one.queued or 0) + (one.returned or 0)
    names = [one.name for one in found.lists]

    def read() -> Mapping[str, tuple[float | None, ...]]:
        with visit.client() as client:
            return history.recent(client, names, ("done_per_s", "p50_s", "p95_s"))

    rates = visit.dashboard.snapshots.get(("paces", *names), 5, read)
    told: dict[str, Pace] = {}
    for name, (per_s, p50_s, p95_s) in rates.items():
        left = waiting[chains[name]] if name in chains and name in moving else 0
        told[name] = Pace(per_s, left / per_s if per_s and left else None, p50_s, p95_s)
    return told


def _totals(found: Overview) -> Mapping[str, Any]:
    hosts = [host for host in found.hosts if host.beats]
    workers = [worker for host in hosts for worker in host.workers]
    return {
        "waiting": sum(
            (one.queued or 0) + (one.returned or 0) + (one.suspects or 0) for one in found.lists
        ),
        "parked": sum(one.parked or 0 for one in found.lists),
        "dead": sum(one.dead or 0 for one in found.lists),
        "hosts": len(hosts),
        "workers": len(workers),
        "busy": sum(1 for worker in workers if worker.get("held")),
    }

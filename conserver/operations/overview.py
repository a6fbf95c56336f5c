"""The data of `conserver status`: the items in each list, the hosts, and the rate of work."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from conserver.operations import doctor, history, hosts, lists, parked
from conserver.operations.connection import Client
from conserver.operations.doctor import Verdict
from conserver.operations.hosts import Breaker, Host, Throughput
from conserver.operations.lists import Depth
from conserver.operations.parked import Waits
from conserver.queue import keys
from conserver.queue.history import ALL_LISTS


@dataclass(frozen=True, slots=True)
class ListState:
    """One list: its depths (see lists.Depth), its pause, and whether a host serves it.

    Attributes:
        oldest_age_s: for how long the oldest item has waited for a worker; see lists.ages.
        paused_since: Unix seconds, 0 if unknown; None if the list is not paused.
        paused_by: the actor, as in the audit; "" if unknown.
        served: whether a living host serves the list.
        waits: what the parked items of the list wait for; None if no item is parked.
    """

    name: str
    queued: int | None
    returned: int | None
    suspects: int | None
    parked: int | None
    dead: int | None
    oldest_age_s: float | None
    paused: bool
    paused_since: float | None
    served: bool
    waits: Waits | None
    paused_by: str = ""


@dataclass(frozen=True, slots=True)
class Overview:
    """The state of all lists and hosts.

    Attributes:
        at: when this was read, in seconds since the epoch.
        in_flight: how many items the workers hold.
        risks: problems because of which Redis may lose or refuse items; see doctor.risks.
        done: how many items the present workers have done.
        rate_per_s: items done per second by all hosts, as Throughput measures it. Before it has
            seen two heartbeats: the mean of the last minute. None if unknown.
        drained_in_s: seconds until the lists that are served and not paused are empty at this
            rate; None if no item waits, or without a rate.
    """

    at: float
    lists: list[ListState]
    hosts: list[Host]
    breakers: list[Breaker]
    in_flight: int
    done: int
    rate_per_s: float | None
    drained_in_s: int | None
    risks: Sequence[Verdict] = ()


def overview(client: Client, configured: Sequence[str], throughput: Throughput) -> Overview:
    """Reads the state of all lists and hosts.

    Args:
        configured: the lists of the configuration; they are shown first.
        throughput: the measurements of earlier overviews, to which this call adds one.
    """
    found = hosts.read(client)
    paused = lists.pauses(client)
    names = list(dict.fromkeys([*lists.names(client, configured), *paused]))
    served = {name for host in found if host.beats for name in host.lists}
    depths = lists.depths(client, names)
    if depths.get(keys.NOTIFICATIONS) == Depth(0, 0, 0, 0, 0) and keys.NOTIFICATIONS not in paused:
        # Leave it out while it is empty, because most configurations have no callbacks.
        del depths[keys.NOTIFICATIONS]
        names.remove(keys.NOTIFICATIONS)
    waits = parked.waits(client, [name for name in names if depths[name].parked])
    ages = lists.ages(client, names)
    per_s = throughput.look(found)
    if per_s is None:
        [(per_s,)] = history.recent(client, [ALL_LISTS], ("done_per_s",)).values()
    moving = [depths[name] for name in depths if name in served and name not in paused]
    waiting = sum((depth.queued or 0) + (depth.returned or 0) for depth in moving)
    return Overview(
        at=time.time(),
        lists=[
            ListState(
                name=name,
                **asdict(depth),
                oldest_age_s=ages[name],
                paused=name in paused,
                paused_since=paused[name].since if name in paused else None,
                paused_by=paused[name].by if name in paused else "",
                served=name in served,
                waits=waits.get(name),
            )
            for name, depth in depths.items()
        ],
        hosts=found,
        breakers=hosts.breakers(found),
        in_flight=hosts.in_flight(client),
        done=sum(worker.get("done", 0) for host in found for worker in host.workers),
        rate_per_s=None if per_s is None else round(per_s, 2),
        drained_in_s=round(waiting / per_s) if per_s and waiting else None,
        risks=doctor.risks(client),
    )

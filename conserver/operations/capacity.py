"""How many recordings may be transcribed at once, how many are, and how many wait for that."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from conserver.operations import lists
from conserver.operations.connection import Client
from conserver.operations.hosts import WORKING_STATES, Host


@dataclass(frozen=True, slots=True)
class Capacity:
    """Of all living hosts together.

    Attributes:
        slots: calls at once: of all transcribers, or of the workers where they hold the models.
        busy: those that are at work.
        waiting: those that wait for a slot at a transcriber, or in the queue.
    """

    slots: int
    busy: int
    waiting: int


def capacity(
    client: Client, hosts: Sequence[Host], queues: Iterable[str], worker_items: int
) -> Capacity:
    """What there is now, as of the hosts' last beats.

    Args:
        queues: the lists of chains that transcribe.
        worker_items: how many items a worker runs at once where there is no transcriber.
    """
    slots = busy = waiting = 0
    for host in hosts:
        if not host.beats:
            continue
        for one in host.transcribers:
            slots += one.get("slots", 0)
            busy += one.get("busy", 0)
            waiting += one.get("waiting", 0)
        if not host.transcribers:
            working = [one for one in host.workers if one.get("state") in WORKING_STATES]
            slots += worker_items * len(working)
            busy += sum(int(one.get("held", 0)) for one in working)
    depths = lists.depths(client, queues).values()
    waiting += sum((depth.queued or 0) + (depth.returned or 0) for depth in depths)
    return Capacity(slots, busy, waiting)

"""Counts how many recordings can be transcribed at once, how many are, and how many wait."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from conserver.operations import lists
from conserver.operations.connection import Client
from conserver.operations.hosts import WORKING_STATES, Host


@dataclass(frozen=True, slots=True)
class Capacity:
    """The transcription capacity of all living hosts together.

    Attributes:
        slots: how many recordings can be transcribed at once: the slots of all transcribers, or
            the threads of the workers on hosts without transcribers.
        busy: how many slots are in use.
        waiting: how many recordings wait for a slot of a transcriber, or in the queue.
    """

    slots: int
    busy: int
    waiting: int


def capacity(
    client: Client, hosts: Sequence[Host], queues: Iterable[str], worker_items: int
) -> Capacity:
    """The capacity by the hosts' last beats.

    Args:
        queues: the lists of chains that transcribe.
        worker_items: how many items one worker runs at once, for hosts without transcribers.
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

"""Failpoints: named steps of an item's way at which a test lets a process die, or stand still.

    CONSERVER_FAILPOINTS=after-claim:kill:0.01,before-store:stop

At the step it sends itself SIGKILL ("kill") or SIGSTOP ("stop"), with this chance, or always. Every
script of the queue is two steps, by the names in calls.py: before it is sent, and after it was
answered and before anything follows from that. The others:

    read               documents were read, and nobody was handed one
    before-look-up     storages are to be asked for a document that Redis lacks
    after-look-up      they have answered, and nobody knows
    open               a chain thread is about to parse the document
    before-link        a link is about to run        after-link        it has, and nobody knows
    before-checkpoint  a link asks for a checkpoint  after-checkpoint  it is made, and nobody knows
    merged             two chains' work was joined, and is not written
    before-store       a batch goes to a storage     after-store       it is there, and nobody knows
    bell-moved         the bell has moved an item, and nobody was rung
    at-death           the supervisor has seen a worker's death, and nobody was told

Where the variable is not set, a step costs a look at an empty dictionary.
"""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Mapping

from conserver.errors import EXIT_CONFIG, BootError

VARIABLE = "CONSERVER_FAILPOINTS"
SCRIPTS = (
    *("claim", "begin", "write", "settle", "release", "park", "dead", "stray"),  # of a worker
    *("register", "beat", "return", "reap", "promote", "put_back", "sweep"),  # of the coordinator
)
STEPS = frozenset(
    [
        *(f"{when}-{script}" for script in SCRIPTS for when in ("before", "after")),
        *("read", "before-look-up", "after-look-up", "open", "before-link", "after-link"),
        *("before-checkpoint", "after-checkpoint", "merged", "before-store", "after-store"),
        *("bell-moved", "at-death"),
    ]
)
DEEDS = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP}

_armed: dict[str, tuple[signal.Signals, float]] = {}


def arm(environ: Mapping[str, str]) -> None:
    """Read what the environment asks of this process. Raises BootError if it makes no sense."""
    _armed.clear()
    for text in filter(None, environ.get(VARIABLE, "").split(",")):
        step, deed, chance = (*text.strip().split(":"), "1", "1")[:3]
        try:
            if step not in STEPS:
                raise ValueError(f"there is no step {step}")
            _armed[step] = DEEDS[deed], float(chance)
        except (KeyError, ValueError) as error:
            raise BootError(f"{VARIABLE}: `{text}` cannot be used: {error}", EXIT_CONFIG) from None


def at(step: str) -> None:
    """This step has been reached."""
    if _armed and step in _armed:
        number, chance = _armed[step]
        if random.random() < chance:
            os.kill(os.getpid(), number)

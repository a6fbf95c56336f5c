"""Failpoints: named steps at which a test kills or stops the process.

    CONSERVER_FAILPOINTS=after-claim:kill:0.01,before-store:stop

At an armed step the process sends itself SIGKILL ("kill") or SIGSTOP ("stop"), with the given
probability, or always. Every script of the queue (named as in queue/calls.py) has two steps:
before-<script>, before it is sent; and after-<script>, when its answer has arrived and nothing was
done with the answer. The other steps:

    read                   documents were read; they are not handed to chain threads yet
    before-look-up         storages are about to be asked for a document that Redis lacks
    after-look-up          the storages have answered; the answer is not recorded
    open                   a chain thread is about to parse the document
    before-link            a link is about to run
    after-link             a link has run; its effects are not recorded
    before-checkpoint      a chain thread is about to ask for a checkpoint
    after-checkpoint       the checkpoint is written; the chain thread has not gone on
    merged                 two versions of a document were merged; the result is not written
    before-store           a batch is about to go to a storage
    after-store            the storage has saved the batch; the worker loop does not know yet
    waiter-moved           a list waiter has moved an item; no worker was woken
    batch                  a transcriber is about to compute a batch of windows
    page                   a page reader is about to read a page
    at-death               the supervisor has seen a child die; it has given no order yet

Without the variable, a step costs a look at an empty dictionary.
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
    # of the coordinator
    *("register", "beat", "return", "reap", "promote", "put_back", "sweep", "fire"),
)
STEPS = frozenset(
    [
        *(f"{when}-{script}" for script in SCRIPTS for when in ("before", "after")),
        *("read", "before-look-up", "after-look-up", "open", "before-link", "after-link"),
        *("before-checkpoint", "after-checkpoint", "merged", "before-store", "after-store"),
        *("waiter-moved", "at-death", "batch", "page"),
    ]
)
ACTIONS = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP}

_armed: dict[str, tuple[signal.Signals, float]] = {}


def arm(environ: Mapping[str, str]) -> None:
    """Read the failpoints of this process from the environment.

    Raises:
        BootError: a step or action is unknown, or a probability is no number.
    """
    _armed.clear()
    for text in filter(None, environ.get(VARIABLE, "").split(",")):
        step, action, probability = (*text.strip().split(":"), "1", "1")[:3]
        try:
            if step not in STEPS:
                raise ValueError(f"there is no step {step}")
            _armed[step] = ACTIONS[action], float(probability)
        except (KeyError, ValueError) as error:
            raise BootError(f"{VARIABLE}: `{text}` cannot be used: {error}", EXIT_CONFIG) from None


def at(step: str) -> None:
    """Kill or stop the process here if this step is armed."""
    if _armed and step in _armed:
        number, probability = _armed[step]
        if random.random() < probability:
            os.kill(os.getpid(), number)

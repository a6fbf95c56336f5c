"""The disturbances of a run, drawn from its seed before anything starts.

A plan is a list of steps: what is done, to whom, for how long, and how long after the step before.
The same seed gives the same plan, however fast the machine is that carries it out. Every step mends
what it broke before it ends, but hosts and servers need their time to come back, so that the next
step often meets a town that is not well yet.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

# Lease and stall timeout of the hosts: pauses are drawn from both sides of them.
LEASE_S = 3.0
STALL_S = 4.0

# Kind -> its weight among those of its victim's sort.
OF_HOSTS = {
    "kill worker": 8,
    "kill coordinator": 4,
    "kill coordinator and worker": 2,
    "kill supervisor": 3,
    "kill host": 3,
    "stop host": 2,  # SIGTERM, in order
    "reload host": 2,  # SIGHUP
    "pause worker": 4,
    "pause coordinator": 2,
    "pause supervisor": 2,
    "kill forkserver": 2,  # where there is one
    "pause host": 4,
    "cut host": 4,  # all its connections to Redis
    "cut before": 8,  # a command is lost
    "cut after": 14,  # a command is carried out and its answer is lost
    "stall host": 3,  # nothing passes between it and Redis
    "kill stalled worker": 4,  # what it had sent arrives after its death
    "slow host": 2,
}
# Of a host too, but only where the run has calls in plenty; else one would seldom be at work.
OF_TRANSCRIBERS = {
    "kill transcriber": 3,
    "pause transcriber": 1,
}
OF_REDIS = {
    "restart redis": 4,
    "kill redis": 4,
    "pause redis": 4,
    "fill redis": 2,  # maxmemory, noeviction
    "forget scripts": 2,
}
OF_STORAGES = {
    "restart storage": 4,
    "kill storage": 4,
    "pause storage": 4,
    "cut storage": 4,
    "stall storage": 3,
    "slow storage": 2,
    "refuse storage": 3,  # nobody listens
    "cut storage after": 4,  # it has stored, and its answer is lost
    "protect storage": 3,  # it answers, and takes nothing: read-only, as when its disk is full
}
LASTING_NOT = (
    *(kind for kind in OF_HOSTS if kind.startswith(("kill", "cut", "stop", "reload"))),
    "kill transcriber",
    "forget scripts",
    "cut storage",
    "cut storage after",
)
SORTS = ((OF_HOSTS, 6), (OF_REDIS, 3), (OF_STORAGES, 3))
WITH_SPEECH = (*SORTS, (OF_TRANSCRIBERS, 4))
# The scripts that a cut waits for, with their weights; some come only if something else happened.
SCRIPTS = {
    "claim": 8,
    "write": 8,
    "settle": 10,
    "move": 6,
    "return": 1,
    "register": 1,
    "beat": 1,
    "promote": 3,
    "begin": 2,
}
CUTS_MOST = 5
SHORT_S = (0.3, 0.8, 1.5)
LONG_S = (2.5, 3.5, 5.0, 6.5)


@dataclass(frozen=True, slots=True)
class Step:
    """One disturbance."""

    kind: str
    host: int  # index of the host, where the kind has one
    slot: int  # of a worker
    storage: str
    script: str
    times: int
    lasts_s: float
    pause_s: float  # after it, before the next step

    @property
    def victim(self) -> str:
        """Whom it is done to; one thing at a time is done to each."""
        if self.kind in OF_HOSTS or self.kind in OF_TRANSCRIBERS:
            return f"host {self.host + 1}"
        return self.storage if self.kind in OF_STORAGES else "redis"

    def __str__(self) -> str:
        words = [f"{self.victim}: {self.kind}"]
        if "worker" in self.kind:
            words.append(str(self.slot))
        if self.kind in ("cut before", "cut after"):
            words.append(f"{self.script} x{self.times}")
        if not self.kind.startswith(LASTING_NOT):
            words.append(f"{self.lasts_s:g} s")
        return " ".join(words)


def draw(
    count: int,
    seed: int,
    hosts: int,
    workers: int,
    storages: Sequence[str],
    *,
    with_speech: bool = False,
) -> list[Step]:
    """`count` steps for a town of so many hosts, workers per host, and these storages."""
    source = random.Random(f"disturbances {seed}")
    all_sorts = WITH_SPEECH if with_speech else SORTS
    sorts = [(kinds, weight) for kinds, weight in all_sorts if kinds is not OF_STORAGES or storages]
    return [_step(source, sorts, hosts, workers, storages) for _ in range(count)]


def _step(
    source: random.Random,
    sorts: Sequence[tuple[dict[str, int], int]],
    hosts: int,
    workers: int,
    storages: Sequence[str],
) -> Step:
    kinds = source.choices([kinds for kinds, _ in sorts], [weight for _, weight in sorts])[0]
    kind = source.choices(list(kinds), list(kinds.values()))[0]
    lasts_s = source.choice(source.choice((SHORT_S, SHORT_S, LONG_S)))
    return Step(
        kind=kind,
        host=source.randrange(hosts),
        slot=source.randint(1, workers),
        storage=source.choice(storages) if storages else "",
        script=source.choices(list(SCRIPTS), list(SCRIPTS.values()))[0],
        times=source.randint(1, CUTS_MOST),
        lasts_s=lasts_s,
        pause_s=round(source.uniform(0.0, 1.6), 2),
    )

"""The bells: an idle worker hears of an item the moment it is pushed.

While a worker of this host is idle, one `BLMOVE list conserver:returned:list` waits in Redis for
every list that it serves. When one answers, an item has moved to `returned`, which is nobody's, so
whoever dies now strands nothing; and one idle worker is rung, who claims it from there. The list is
armed again when that claim has been answered and another worker is idle. Redis wakes one host per
item, and the host wakes one worker.

Not armed is a list that is paused, one whose parked items have reached the cap, and one that has
something in `returned` already: nobody would come for what the bell moves, and it would pump one
list into the other.

The bell is a hint. Where it cannot wait (Redis at maxmemory refuses BLMOVE) or comes too late, a
worker looks by itself every TICK_INTERVAL.
"""

from __future__ import annotations

import asyncio
import enum
import random
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from redis.exceptions import RedisError, ResponseError

from conserver import failpoints
from conserver.coordinator.retrying_connection import Connections, Wire, describe, without_errors
from conserver.queue.calls import CONTROL

if TYPE_CHECKING:
    from conserver.coordinator.idle_workers import IdleWorkers
    from conserver.telemetry.log import Logger

WAIT_S = 5.0
"""How long one BLMOVE waits: a connection that died half-open holds its place in Redis so long."""

ANSWER_TIMEOUT_S = 2.0
"""How much later than that its answer may come."""

LINGER_S = 0.25
LINGER_S_PER_LIST = 0.01
"""How long bells wait on after the last worker stopped being idle: the greater of the two. Workers
are busy and idle by turns, and a wait that is called off costs its connection (1 ms to make anew).
An item that moves meanwhile is the first that a worker of any host finds when it looks."""

PAUSES_S = (0.02, 0.05, 0.1, 0.25, 0.5, 1.0)
"""Until a list that could not be armed is looked at again; jittered."""

COMPLAINT_EVERY_S = 60.0

TOO_MANY = "max number of clients"
"""In a refusal that redis-py has no class for: as many connections as lists may be too many."""


class WaitOutcome(enum.Enum):
    """How one round of a bell ended."""

    MOVED = enum.auto()  # an item waits in returned
    NOTHING = enum.auto()  # the wait ran out, or was called off
    HINDERED = enum.auto()  # not armed, or refused: not at once again


class ListWaiter:
    """One list's bell. At most one of its items has moved and not been rung for."""

    def __init__(
        self, name: str, wire: Wire, parked_cap: int, complain: Callable[[str, Exception], None]
    ) -> None:
        self.name = name
        self._wire = wire
        self._complain = complain
        self._parked_cap = parked_cap
        self._deadline: asyncio.Timeout | None = None
        self._called_off = False
        returned = f"conserver:returned:{name}"
        self._look = (
            ("HEXISTS", CONTROL, f"paused:{name}"),
            ("ZCARD", f"conserver:parked:{name}"),
            ("LLEN", returned),
        )
        self._move = ("BLMOVE", name, returned, "LEFT", "RIGHT", WAIT_S)

    async def tend(self, idle_workers: IdleWorkers) -> None:
        """Ring for this list, for ever."""
        hindered = 0
        while True:
            await idle_workers.wanted.wait()
            outcome = await self.round()
            hindered = hindered + 1 if outcome is WaitOutcome.HINDERED else 0
            if outcome is WaitOutcome.MOVED:
                while not await idle_workers.ring():
                    await idle_workers.wanted.wait()
            elif outcome is WaitOutcome.HINDERED:
                pause_s = PAUSES_S[min(hindered, len(PAUSES_S)) - 1]
                await asyncio.sleep(pause_s * random.uniform(0.75, 1.25))

    async def round(self) -> WaitOutcome:
        """Arm once, and wait."""
        self._called_off = False
        try:
            if not await self._may_wait():
                return WaitOutcome.HINDERED
            return await self._wait()
        except (RedisError, OSError, TimeoutError) as error:
            await self._wire.close()
            if self._called_off:
                return WaitOutcome.NOTHING
            self._complain(self.name, error)
            return WaitOutcome.HINDERED

    def call_off(self) -> None:
        """End a wait that is under way; an item that moves at this moment is in returned."""
        self._called_off = True
        if self._deadline is not None and not self._deadline.expired():
            self._deadline.reschedule(0)

    async def close(self) -> None:
        """Drop the connection."""
        await self._wire.close()

    async def _may_wait(self) -> bool:
        answers = await self._wire.ask(self._look, ANSWER_TIMEOUT_S)
        paused, parked, returned = without_errors(answers)
        return not paused and parked < self._parked_cap and not returned

    async def _wait(self) -> WaitOutcome:
        async with asyncio.timeout(WAIT_S + ANSWER_TIMEOUT_S) as deadline:
            self._deadline = deadline
            try:
                if self._called_off:
                    return WaitOutcome.NOTHING
                await self._wire.send([self._move])
                moved = await self._wire.receive()
            finally:
                self._deadline = None
        if moved is None:
            return WaitOutcome.NOTHING
        failpoints.at("waiter-moved")
        return WaitOutcome.MOVED


class ListWaiters:
    """The bells of all lists that this host serves."""

    def __init__(
        self,
        connections: Connections,
        idle_workers: IdleWorkers,
        names: Iterable[str],
        parked_cap: int,
        log: Logger,
    ) -> None:
        self._idle_workers = idle_workers
        self._log = log
        self._list_waiters = {
            name: ListWaiter(name, Wire(connections), parked_cap, self._complain) for name in names
        }
        self._linger: asyncio.TimerHandle | None = None
        self._complained_at_s: dict[str, float] = {}

    async def run(self) -> None:
        """Tend all bells until cancelled; then no wait is left in Redis."""
        self._idle_workers.on_change = self._idle_or_not
        try:
            async with asyncio.TaskGroup() as group:
                for bell in self._list_waiters.values():
                    group.create_task(bell.tend(self._idle_workers), name=f"bell of {bell.name}")
        finally:
            self._idle_workers.on_change = lambda: None
            self._keep_waiting()
            for bell in self._list_waiters.values():
                await bell.close()

    def silence(self, paused: Iterable[str]) -> None:
        """These lists have been paused: a wait that began before is called off."""
        for name in paused:
            if name in self._list_waiters:
                self._list_waiters[name].call_off()

    def _idle_or_not(self) -> None:
        self._keep_waiting()
        if not self._idle_workers.wanted.is_set():
            loop = asyncio.get_running_loop()
            linger_s = max(LINGER_S, LINGER_S_PER_LIST * len(self._list_waiters))
            self._linger = loop.call_later(linger_s, self._call_off_all)

    def _keep_waiting(self) -> None:
        if self._linger is not None:
            self._linger.cancel()
            self._linger = None

    def _call_off_all(self) -> None:
        for bell in self._list_waiters.values():
            bell.call_off()

    def _complain(self, name: str, error: Exception) -> None:
        """Tell what an operator can mend: once a minute, and not once per list if it is Redis."""
        if not isinstance(error, ResponseError) and TOO_MANY not in str(error):
            return  # Redis is away: the coordinator's line says so.
        kind = str(error).partition(" ")[0]
        subject = f"{kind} {name}" if kind == "WRONGTYPE" else kind
        now_s = asyncio.get_running_loop().time()
        if now_s - self._complained_at_s.get(subject, -COMPLAINT_EVERY_S) < COMPLAINT_EVERY_S:
            return
        self._complained_at_s[subject] = now_s
        self._log.warning(
            "bell_refused",
            list=name,
            error=describe(error),
            what="idle workers look every TICK_INTERVAL until this is mended",
        )

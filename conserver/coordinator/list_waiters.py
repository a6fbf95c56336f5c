"""List waiters: they wait in Redis for the next item of each list, and wake a worker for it.

While a worker of this host is idle, the list waiter of each served list repeats these steps:

1. `BLMOVE <list> conserver:returned:<list>` waits in Redis. A push ends it, and the item is in
   `returned`, where the death of a process cannot strand it. If the list waiters of several hosts
   wait, one of them gets the item.
2. The list waiter wakes one idle worker, which claims from `returned` and answers.
3. If items remain in `returned`, the list waiter wakes the next idle worker. It wakes each worker
   at most once until `returned` is empty.

No BLMOVE is issued if `returned` has items, the list is paused, or its parked items have reached
the cap. Otherwise new items would pile up in `returned`, and workers claim those first, even from a
list at its cap.

A wakeup is only a hint: a worker with room also claims every TICK_INTERVAL. That helps if a wakeup
is late, or if BLMOVE is refused because Redis is at maxmemory.
"""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from redis.exceptions import RedisError, ResponseError

from conserver.coordinator.connections import (
    AsyncConnection,
    Connections,
    describe,
    raise_first_error,
)
from conserver.process import backoff, failpoints
from conserver.queue import keys

if TYPE_CHECKING:
    from conserver.coordinator.idle_workers import IdleWorkers
    from conserver.telemetry.log import Logger

WAIT_S = 5.0
"""How long one BLMOVE waits. If its connection breaks and Redis does not notice, Redis may still
move an item in that time, and no worker is woken for that item."""

ANSWER_TIMEOUT_S = 2.0
"""How long Redis may take to answer; for a BLMOVE, counted from the end of WAIT_S."""

LINGER_S = 0.25
LINGER_S_PER_LIST = 0.01
"""How long BLMOVEs go on after the last idle worker became busy: the greater of LINGER_S and
LINGER_S_PER_LIST times the number of lists. Workers soon become idle again, and cancelling a BLMOVE
closes its connection. An item that is moved in that time is not late: the next claim takes it."""

PAUSE_FIRST_S, PAUSE_MAX_S = 0.02, 1.0
"""The backoff of a list for which no BLMOVE could be issued."""

COMPLAIN_EVERY_S = 60.0

TOO_MANY_CLIENTS = "max number of clients"
"""Part of an error's text; redis-py has no class for it. Redis then allows fewer connections than
there are lists."""


class WaitOutcome(enum.Enum):
    """How one wait for a list ended."""

    MOVED = enum.auto()  # the BLMOVE has moved an item to `returned`
    LEFT_OVER = enum.auto()  # no BLMOVE was issued, because `returned` has items
    NOTHING = enum.auto()  # BLMOVE timed out, or was cancelled
    HINDERED = enum.auto()  # no BLMOVE may be issued, or Redis refused it: back off


class ListWaiter:
    """Waits for the items of one list."""

    def __init__(
        self,
        name: str,
        connection: AsyncConnection,
        parked_cap: int,
        complain: Callable[[str, Exception], None],
    ) -> None:
        self.name = name
        self._connection = connection
        self._complain = complain
        self._parked_cap = parked_cap
        self._woken: set[int] = set()  # slots woken for the items that are now in `returned`
        self._timeout: asyncio.Timeout | None = None
        self._cancelled = False
        self._look = (
            ("HEXISTS", keys.CONTROL, keys.paused(name)),
            ("ZCARD", keys.parked(name)),
            ("LLEN", keys.returned(name)),
        )
        self._move = ("BLMOVE", name, keys.returned(name), "LEFT", "RIGHT", WAIT_S)

    async def run(self, idle_workers: IdleWorkers) -> None:
        """Wait for items and wake idle workers for them, until cancelled."""
        pauses, wake_now = 0, False
        while True:
            if pauses:
                await asyncio.sleep(backoff.backoff_s(pauses, PAUSE_FIRST_S, PAUSE_MAX_S))
            await idle_workers.any_idle.wait()
            outcome = await self.wait_once()
            if outcome is WaitOutcome.NOTHING:
                pauses, wake_now = 0, False
                if not idle_workers.any_idle.is_set():
                    await self._connection.close()
            elif outcome is WaitOutcome.HINDERED:
                pauses, wake_now = pauses + 1, False
            elif (wake_now or outcome is WaitOutcome.MOVED) and await self._wake(idle_workers):
                pauses, wake_now = 0, True
            else:
                # No worker was woken. During the pause the host that moved the items wakes a worker
                # for them. After the pause, this host wakes a worker for what is left.
                pauses, wake_now = pauses + 1, True

    async def wait_once(self) -> WaitOutcome:
        """Issue one BLMOVE and wait for its answer, unless `_why_not` forbids the BLMOVE."""
        self._cancelled = False
        try:
            return await self._why_not() or await self._wait()
        except (RedisError, OSError, TimeoutError) as error:
            await self._connection.close()
            if self._cancelled:
                return WaitOutcome.NOTHING
            self._complain(self.name, error)
            return WaitOutcome.HINDERED

    def cancel_wait(self) -> None:
        """Cancel a waiting BLMOVE. An item that it moves at this moment stays in `returned`."""
        self._cancelled = True
        if self._timeout is not None and not self._timeout.expired():
            self._timeout.reschedule(0)

    async def close(self) -> None:
        """Close the connection."""
        await self._connection.close()

    async def _wake(self, idle_workers: IdleWorkers) -> bool:
        """Wake the next idle worker and wait for its answer.

        Returns:
            True: look again without a pause, because a worker was woken, or no worker is idle any
            more. False: pause, because every idle worker was woken for these items already, and did
            not claim them.
        """
        slot = idle_workers.wake(passed_over=self._woken)
        if slot is None:
            return not idle_workers.any_idle.is_set()
        self._woken.add(slot)
        await idle_workers.await_answer(slot)
        return True

    async def _why_not(self) -> WaitOutcome | None:
        """Why no BLMOVE may be issued for the list now; None if it may. If `returned` is empty,
        forget which workers were woken.
        """
        answers = await self._connection.ask(self._look, ANSWER_TIMEOUT_S)
        paused, parked, returned = raise_first_error(answers)
        if not returned:
            self._woken.clear()
        if paused:
            return WaitOutcome.HINDERED
        if returned:
            return WaitOutcome.LEFT_OVER
        return WaitOutcome.HINDERED if parked >= self._parked_cap else None

    async def _wait(self) -> WaitOutcome:
        async with asyncio.timeout(WAIT_S + ANSWER_TIMEOUT_S) as timeout:
            self._timeout = timeout
            try:
                if self._cancelled:
                    return WaitOutcome.NOTHING
                await self._connection.send([self._move])
                moved = await self._connection.receive()
            finally:
                self._timeout = None
        if moved is None:
            return WaitOutcome.NOTHING
        failpoints.at("waiter-moved")
        return WaitOutcome.MOVED


class ListWaiters:
    """The list waiters of this host."""

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
        self._waiters = {
            name: ListWaiter(name, AsyncConnection(connections), parked_cap, self._complain)
            for name in names
        }
        self._linger: asyncio.TimerHandle | None = None
        self._complained_at_s: dict[str, float] = {}

    async def run(self) -> None:
        """Run all list waiters until cancelled. At its end no BLMOVE waits in Redis."""
        self._idle_workers.on_change = self._idle_changed
        try:
            async with asyncio.TaskGroup() as group:
                for waiter in self._waiters.values():
                    name = f"list waiter of {waiter.name}"
                    group.create_task(waiter.run(self._idle_workers), name=name)
        finally:
            self._idle_workers.on_change = lambda: None
            self._stop_lingering()
            for waiter in self._waiters.values():
                await waiter.close()

    def items_returned(self, names: Iterable[str] | None = None) -> None:
        """Wake a worker for items that came to `returned` other than by a BLMOVE. The list waiters
        then look whether it claimed all of them.

        Args:
            names: the lists of these items; None: unknown, all lists.
        """
        self._idle_workers.wake()
        self.cancel_waits(self._waiters if names is None else names)

    def cancel_waits(self, names: Iterable[str]) -> None:
        """Cancel the BLMOVEs for these lists. Each list waiter then looks at its list again."""
        for name in names:
            if name in self._waiters:
                self._waiters[name].cancel_wait()

    def _idle_changed(self) -> None:
        self._stop_lingering()
        if not self._idle_workers.any_idle.is_set():
            linger_s = max(LINGER_S, LINGER_S_PER_LIST * len(self._waiters))
            loop = asyncio.get_running_loop()
            self._linger = loop.call_later(linger_s, self.cancel_waits, self._waiters)

    def _stop_lingering(self) -> None:
        if self._linger is not None:
            self._linger.cancel()
            self._linger = None

    def _complain(self, name: str, error: Exception) -> None:
        """Log an error that an operator can mend, once a minute. Only errors about a key are logged
        for each list.
        """
        if not isinstance(error, ResponseError) and TOO_MANY_CLIENTS not in str(error):
            return  # Redis is away: AsyncRetryingConnection logs that.
        kind = str(error).partition(" ")[0]
        subject = f"{kind} {name}" if kind == "WRONGTYPE" else kind
        now_s = asyncio.get_running_loop().time()
        if now_s - self._complained_at_s.get(subject, -COMPLAIN_EVERY_S) < COMPLAIN_EVERY_S:
            return
        self._complained_at_s[subject] = now_s
        self._log.warning(
            "list_wait_refused",
            list=name,
            error=describe(error),
            what="idle workers claim every TICK_INTERVAL until this is mended",
        )

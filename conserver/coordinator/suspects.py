"""Suspects: items that may have killed their worker. Each must run alone.

Only a worker that holds no item may claim a suspect, and a host runs one suspect at a time. While
suspects wait, the coordinator wakes an idle worker. If all workers hold items, as on a busy host,
it orders one of them to finish its items and claim no others. It repeats this until a worker has
claimed a suspect.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from conserver.process.shared_status import State
from conserver.queue import keys

if TYPE_CHECKING:
    from conserver.coordinator.connections import AsyncRetryingConnection
    from conserver.coordinator.idle_workers import IdleWorkers
    from conserver.process.shared_status import SharedStatus
    from conserver.telemetry.log import Logger

LOOK_EVERY_S = 1.0
"""How often the coordinator looks for suspects, and repeats its order to a worker."""


def choose(held: Mapping[int, int], ordered: int | None) -> int | None:
    """Choose the worker that is ordered to finish its items.

    Args:
        held: slot -> how many items the worker holds, for all workers that may claim.
        ordered: the slot of the worker that has the order already.

    Returns:
        `ordered` if that worker may still claim, else the slot of the worker with the fewest items.
        None if a worker is empty, so that none has to make room, or if none may claim.
    """
    if not held or not all(held.values()):
        return None
    if ordered in held:
        return ordered
    return min(held, key=lambda slot: (held[slot], slot))


class Suspects:
    """Makes sure that suspects on the lists of this host are claimed."""

    def __init__(
        self,
        redis: AsyncRetryingConnection,
        host: str,
        names: Sequence[str],
        statuses: Sequence[SharedStatus],
        idle_workers: IdleWorkers,
        log: Logger,
    ) -> None:
        self._redis = redis
        self._host = host
        self._names = names
        self._statuses = statuses
        self._idle_workers = idle_workers
        self._log = log
        self._ordered: int | None = None

    async def run(self) -> None:
        """Look for suspects every LOOK_EVERY_S, and when a worker reports some, until cancelled."""
        while True:
            self._idle_workers.suspects.clear()
            if await self._suspects_wait():
                self._make_room()
            else:
                self._ordered = None
            # The order takes a moment to have an effect, and workers repeat their reports.
            await asyncio.sleep(LOOK_EVERY_S / 10)
            try:
                async with asyncio.timeout(LOOK_EVERY_S):
                    await self._idle_workers.suspects.wait()
            except TimeoutError:
                continue

    async def _suspects_wait(self) -> bool:
        """Whether suspects wait in a list that is not paused, and none runs on this host."""
        control, running, *counts = await self._redis.each(
            [
                ("HKEYS", keys.CONTROL),
                ("HGET", keys.host(self._host), "suspect"),
                *(("LLEN", keys.suspects(name)) for name in self._names),
            ]
        )
        fields = {field.decode() for field in control or ()}
        waiting = [name for name, count in zip(self._names, counts, strict=True) if count]
        if all(keys.paused(name) in fields for name in waiting):
            return False
        if not running:
            return True
        consumer, _, token = running.decode().partition(" ")
        [held] = await self._redis.each([("HEXISTS", keys.inflight(consumer), token)])
        return not held

    def _make_room(self) -> None:
        views = {slot: status.read() for slot, status in enumerate(self._statuses, 1)}
        held = {
            slot: len(view.items)
            for slot, view in views.items()
            if view.state in (State.IDLE, State.WORKING)
        }
        slot = choose(held, self._ordered)
        if slot is None:
            # A worker that holds no item takes a suspect with its next claim.
            self._idle_workers.wake()
        else:
            if slot != self._ordered:
                self._log.info("finish_first_for_suspect", worker=slot, held=held[slot])
            self._idle_workers.order_to_finish_first(slot)
        self._ordered = slot

"""The reaper: returns the items of dead hosts, and never declares a living host dead.

Every coordinator watches the heartbeats of all other hosts. It declares a host dead if that host's
beat has not changed for a whole lease. All hosts look dead when Redis is away, the network is cut
or this machine is suspended. So the watch starts again after its connection broke, or after a pause
between two looks.

Several coordinators may reap one host at the same time: reap.lua compares the beat again, and
each item is returned once.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from redis.exceptions import RedisError, ResponseError

from conserver.coordinator.connections import AsyncConnection, raise_first_error
from conserver.coordinator.registry import return_items
from conserver.process.messages import Blame
from conserver.queue import host_calls, keys
from conserver.queue.wrong_type import WrongTypeError, is_wrong_type

if TYPE_CHECKING:
    from conserver.coordinator.connections import AsyncRetryingConnection, Connections
    from conserver.coordinator.idle_workers import IdleWorkers
    from conserver.coordinator.list_waiters import ListWaiters
    from conserver.telemetry.log import Logger

HOST_DIED = Blame("everything", note={"error": "died with its host"})
LOOK_EVERY_S = 1.0
LOOKS_PER_LEASE = 10
LATE_S = 1.0
"""The watch restarts if a look begins later than planned by more than this, or takes longer."""


class Watch:
    """Knows for how long each host's beat has not changed. The caller passes times and beats."""

    def __init__(self, lease_s: float, every_s: float) -> None:
        self._lease_s = lease_s
        self._late_s = every_s + LATE_S
        self._seen: dict[str, tuple[str, float]] = {}
        self._last_s: float | None = None

    def restart(self) -> None:
        """Forget all beats, because the watch was interrupted."""
        self._seen.clear()
        self._last_s = None

    def look(self, beats: Mapping[str, str], asked_s: float, answered_s: float) -> dict[str, str]:
        """Take in the beats that Redis answered, and find the dead hosts.

        Args:
            beats: host -> beat; "" for a host without a beat.
            asked_s: when the coordinator asked Redis.
            answered_s: when the answer arrived. The lease of a new beat begins then.

        Returns:
            The dead hosts: host -> the beat that has not changed for a whole lease.
        """
        paused_s = 0.0 if self._last_s is None else asked_s - self._last_s
        if paused_s > self._late_s or answered_s - asked_s > LATE_S:
            self.restart()
        self._last_s = answered_s
        seen = {}  # host -> its beat, and since when the beat is unchanged
        for host, beat in beats.items():
            before = self._seen.get(host)
            seen[host] = before if before and before[0] == beat else (beat, answered_s)
        self._seen = seen
        oldest_s = asked_s - self._lease_s
        return {host: beat for host, (beat, since_s) in seen.items() if since_s <= oldest_s}


class Reaper:
    """Watches the other hosts, and reaps the dead ones."""

    def __init__(
        self,
        connections: Connections,
        redis: AsyncRetryingConnection,
        host: str,
        lease_s: float,
        idle_workers: IdleWorkers,
        list_waiters: ListWaiters,
        keep_s: int,
        log: Logger,
    ) -> None:
        """keep_s: see host_calls.return_items."""
        # Its own connection: AsyncConnection tells when it has broken.
        self._connection = AsyncConnection(connections)
        self._redis = redis
        self._host = host
        self._idle_workers = idle_workers
        self._list_waiters = list_waiters
        self._keep_s = keep_s
        self._log = log
        self._every_s = min(LOOK_EVERY_S, lease_s / LOOKS_PER_LEASE)
        self._watch = Watch(lease_s, self._every_s)

    async def run(self) -> None:
        """Watch until cancelled."""
        try:
            while True:
                for host, beat in (await self._look()).items():
                    with contextlib.suppress(WrongTypeError):
                        await self._reap(host, beat)
                await asyncio.sleep(self._every_s * random.uniform(0.8, 1.0))
        finally:
            await self._connection.close()

    async def _look(self) -> dict[str, str]:
        asked_s = time.monotonic()
        try:
            beats = await self._beats()
        except (RedisError, OSError, TimeoutError) as error:
            await self._connection.close()
            self._watch.restart()
            if isinstance(error, ResponseError) and is_wrong_type(error):
                await self._redis.complain(error, [keys.HOSTS])
            self._log.debug("watch_interrupted", error=str(error))
            return {}
        return self._watch.look(beats, asked_s, time.monotonic())

    async def _beats(self) -> dict[str, str]:
        answers = await self._connection.ask([("SMEMBERS", keys.HOSTS)], LATE_S)
        [members] = raise_first_error(answers)
        hosts = sorted({member.decode() for member in members} - {self._host})
        if not hosts:
            return {}
        commands = [("HGET", keys.host(host), "beat") for host in hosts]
        beats = await self._connection.ask(commands, LATE_S)
        found = {}
        for host, beat in zip(hosts, beats, strict=True):
            if isinstance(beat, ResponseError) and is_wrong_type(beat):
                await self._redis.complain(beat, [keys.host(host)])
            else:
                found[host] = (raise_first_error([beat])[0] or b"").decode()
        return found

    async def _reap(self, host: str, beat: str) -> None:
        """Return the items of a dead host's consumers, and delete the host."""
        # Spread the calls of the hosts, which all see the death at about the same time.
        await asyncio.sleep(random.uniform(0, self._every_s))
        consumers, returned, suspects = 0, 0, 0
        [name] = await self._redis.each([("HGET", keys.host(host), "name")])
        who = {"host": host, "name": (name or b"").decode()}  # `conserver status` shows the name
        while True:
            answer = await self._redis.call(host_calls.reap(host, beat))
            if answer is None:
                self._log.info("host_lives", **who)
                break
            if not answer:
                self._log.warning(
                    "host_reaped",
                    **who,
                    consumers=consumers,
                    returned=returned,
                    suspects=suspects,
                )
                break
            for consumer in answer:
                result = await return_items(
                    self._redis, host, consumer.decode(), HOST_DIED, self._keep_s, self._log
                )
                consumers += 1
                returned += result.returned
                suspects += result.suspects
        if suspects:
            self._idle_workers.suspects.set()
        if returned:
            self._list_waiters.items_returned()

"""The reaper: what a dead host held comes back, and no living host is ever taken for dead.

Every coordinator watches the beats of all hosts. A host is declared dead only when its beat has not
moved for a whole lease, seen over one connection that never broke, by a coordinator that was itself
awake all the time. A Redis that was away, a network that was cut or a paused machine must not look
like the death of everybody, so each of these starts the watch anew.

Several coordinators may reap one host at a time: the script compares the beat once more, and
whatever
is given back is given back once.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from redis.exceptions import RedisError, ResponseError

from conserver.coordinator.registry import return_items
from conserver.coordinator.retrying_connection import Wire, without_errors
from conserver.queue import calls
from conserver.queue.calls import Blame
from conserver.queue.wrong_type import WrongTypeError, is_wrong_type

if TYPE_CHECKING:
    from conserver.coordinator.idle_workers import IdleWorkers
    from conserver.coordinator.retrying_connection import AsyncRetryingConnection, Connections
    from conserver.telemetry.log import Logger

HOST_DIED = Blame("everything", notes={"": {"error": "died with its host"}})
LOOK_EVERY_S = 1.0
LOOKS_PER_LEASE = 10
LATE_S = 1.0
"""A look that is later than planned by more, or takes longer, does not continue the watch."""


class Watch:
    """For how long each host's beat has been the same. It knows no clock and no Redis."""

    def __init__(self, lease_s: float, every_s: float) -> None:
        self._lease_s = lease_s
        self._late_s = every_s + LATE_S
        self._seen: dict[str, tuple[str, float]] = {}
        self._last_s: float | None = None

    def restart(self) -> None:
        """Something was interrupted: nothing that was seen before counts."""
        self._seen.clear()
        self._last_s = None

    def look(self, beats: Mapping[str, str], asked_s: float, answered_s: float) -> dict[str, str]:
        """The hosts that are dead, with the beat that has stood still.

        Args:
            beats: every host and its beat, "" for one that never beat.
            asked_s: when Redis was asked.
            answered_s: when the answer was there; a new beat counts from here.
        """
        paused_s = 0.0 if self._last_s is None else asked_s - self._last_s
        if paused_s > self._late_s or answered_s - asked_s > LATE_S:
            self.restart()
        self._last_s = answered_s
        seen = {}
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
        line: AsyncRetryingConnection,
        host: str,
        lease_s: float,
        idle_workers: IdleWorkers,
        log: Logger,
    ) -> None:
        self._wire = Wire(connections)
        self._line = line
        self._host = host
        self._idle_workers = idle_workers
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
            await self._wire.close()

    async def _look(self) -> dict[str, str]:
        asked_s = time.monotonic()
        try:
            beats = await self._beats()
        except (RedisError, OSError, TimeoutError) as error:
            await self._wire.close()
            self._watch.restart()
            if isinstance(error, ResponseError) and is_wrong_type(error):
                await self._line.complain(error, [calls.HOSTS])
            self._log.debug("watch_interrupted", error=str(error))
            return {}
        return self._watch.look(beats, asked_s, time.monotonic())

    async def _beats(self) -> dict[str, str]:
        members = without_errors(await self._wire.ask([("SMEMBERS", calls.HOSTS)], LATE_S))[0]
        hosts = sorted({member.decode() for member in members} - {self._host})
        if not hosts:
            return {}
        commands = [("HGET", calls.host_key(host), "beat") for host in hosts]
        beats = await self._wire.ask(commands, LATE_S)
        found = {}
        for host, beat in zip(hosts, beats, strict=True):
            if isinstance(beat, ResponseError) and is_wrong_type(beat):
                await self._line.complain(beat, [calls.host_key(host)])
            else:
                found[host] = (without_errors([beat])[0] or b"").decode()
        return found

    async def _reap(self, host: str, beat: str) -> None:
        """Return what the consumers of a dead host hold, then forget the host."""
        # Coordinators that saw the same death do not all come at once.
        await asyncio.sleep(random.uniform(0, self._every_s))
        consumers, returned, suspects = 0, 0, 0
        while True:
            answer = await self._line.call(calls.reap(host, beat))
            if answer is None:
                self._log.info("host_lives", host=host)
                break
            if not answer:
                self._log.warning(
                    "host_reaped",
                    host=host,
                    consumers=consumers,
                    returned=returned,
                    suspects=suspects,
                )
                break
            for consumer in answer:
                given = await return_items(
                    self._line, host, consumer.decode(), HOST_DIED, self._log
                )
                consumers += 1
                returned += given.returned
                suspects += given.suspects
        if suspects:
            self._idle_workers.suspects.set()
        if returned:
            self._idle_workers.ring()

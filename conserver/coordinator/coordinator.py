"""The coordinator's life: it reaches Redis, then all duties side by side, then a clean end.

1. Listens to the supervisor (orders, state, drain) and for its end; stamps its page all the while.
2. Runs each duty as a task of one group: an error in any of them ends the process.
3. Drained by a supervisor that shuts down, it forgets the host once nothing of it is registered.
   Drained because a successor takes over, or killed, it leaves everything as it is.
4. Orphaned, it waits for the workers, returns what they held, blames nobody, and forgets the host.

Signals are ignored here: one that is sent to the whole group must not end the coordinator before
the
workers, who still need it.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

import orjson

from conserver.coordinator.chores import Chores, known_lists, put_back
from conserver.coordinator.contact import reach
from conserver.coordinator.host_status import HostStatus
from conserver.coordinator.idle_workers import IdleWorkers
from conserver.coordinator.list_waiters import ListWaiters
from conserver.coordinator.reaper import Reaper
from conserver.coordinator.registry import Registry, return_items
from conserver.coordinator.retrying_connection import AsyncRetryingConnection, Connections
from conserver.coordinator.survivors import Survivors
from conserver.coordinator.suspects import Suspects
from conserver.process.messages import receive
from conserver.process.shared_status import State
from conserver.queue import calls
from conserver.queue.calls import Blame
from conserver.queue.wrong_type import WrongTypeError
from conserver.telemetry import log

if TYPE_CHECKING:
    from conserver.process.boot import Boot
    from conserver.process.messages import Message

STAMP_EVERY_S = 0.25
BEATS_PER_LEASE = 10
BEAT_EVERY_S_MIN = 0.2
PAUSED_LOOK_S = 1.0
ORPHAN_REDIS_S = 3.0
"""How long an orphaned coordinator tries to reach Redis; later another host reaps this one."""
LAST_BEAT_S = 1.0
"""How long a coordinator that ends waits for the beat that is on its way."""


class Coordinator:
    """One coordinator. `run` is its whole life."""

    def __init__(self, boot: Boot) -> None:
        self._boot = boot
        self._host = boot.host
        settings = boot.settings
        self._log = log.get_logger()
        self._url = settings.redis_url.get_secret_value()
        self._served = list(boot.config.ingress)
        self._idle_workers = IdleWorkers(boot.worker_ends, boot.statuses)
        self._host_status = HostStatus(
            boot.config, settings.lease_s, boot.statuses, self._idle_workers
        )
        self._survivors = Survivors(self._idle_workers, self._log)
        self._connections = Connections(self._url)
        self._line = AsyncRetryingConnection(self._connections, self._log)
        self._registry = Registry(
            self._line, self._host, self._idle_workers, self._acknowledge, self._log
        )
        self._list_waiters = ListWaiters(
            self._connections, self._idle_workers, self._served, settings.parked_cap, self._log
        )
        self._beat_every_s = max(BEAT_EVERY_S_MIN, settings.lease_s / BEATS_PER_LEASE)
        self._beats = 0
        self._beats_on = True
        self._news = asyncio.Event()  # what a beat tells has changed
        self._told = asyncio.Event()
        self._drain: Message | None = None
        self._orphaned = asyncio.Event()

    async def run(self) -> None:
        """Keep house until told to end.

        Raises:
            BootError: Redis cannot be used.
        """
        stamping = asyncio.create_task(self._stamp())
        try:
            self._listen()
            url, timeout_s = self._url, self._boot.settings.boot_timeout_s
            await self._unless(self._told, reach(self._line, url, timeout_s))
            if not self._told.is_set():
                self._boot.status.state = State.WORKING
                self._boot.send("ready")
                await self._live()
        finally:
            stamping.cancel()
            self._idle_workers.close()
            self._survivors.close()
            await self._line.close()

    async def _live(self) -> None:
        async with asyncio.TaskGroup() as group:

            def duty(work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
                return group.create_task(work, name=name)

            orders = duty(self._registry.run(), "orders")
            beating = duty(self._beat_for_ever(), "beat")
            upkeep = [duty(work, name) for name, work in self._upkeep().items()]
            await self._told.wait()
            self._idle_workers.retire()
            await _ended(upkeep)
            if not self._orphaned.is_set():
                await self._unless(self._orphaned, self._finish(beating))
            if self._orphaned.is_set():
                await self._leave_nothing_behind(orders, beating)
            await _ended([orders, beating])

    def _upkeep(self) -> dict[str, Coroutine[Any, Any, None]]:
        """The duties that end as soon as the end is near."""
        settings, line, idle_workers = self._boot.settings, self._line, self._idle_workers
        chores = Chores(line, idle_workers, self._served, settings.dlq_expiry_s, self._log)
        suspects = Suspects(
            line, self._host, self._served, self._boot.statuses, idle_workers, self._log
        )
        reaper = Reaper(
            self._connections, line, self._host, settings.lease_s, idle_workers, self._log
        )
        return {
            "bells": self._list_waiters.run(),
            "paused": self._silence_paused(),
            "dropped": self._put_back_dropped(),
            "promote": chores.promote_for_ever(),
            "sweep": chores.sweep_for_ever(),
            "suspects": suspects.run(),
            "reaper": reaper.run(),
        }

    # Duties that are too small for a house of their own.

    async def _stamp(self) -> None:
        while True:
            self._boot.status.beat()
            await asyncio.sleep(STAMP_EVERY_S)

    async def _beat_for_ever(self) -> None:
        while self._beats_on:
            with contextlib.suppress(WrongTypeError):
                _, registrations = await self._beat()
                await self._registry.compare(registrations)
            # Not by wait_for, which forgets that it was cancelled where there is news that moment.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._beat_every_s):
                    await self._news.wait()
            self._news.clear()

    async def _beat_no_more(self, beating: asyncio.Task[None]) -> None:
        """Let the beat that is on its way be answered, if Redis answers at all: one that arrived
        after the host had been forgotten would bring it back.
        """
        self._beats_on = False
        self._news.set()
        await asyncio.wait([beating], timeout=LAST_BEAT_S)
        await _ended([beating])

    async def _beat(self) -> tuple[str, dict[str, str]]:
        """Beat once. Returns the beat, and who is registered."""
        self._beats += 1
        # The time makes it differ from any beat of a coordinator before this one.
        beat = f"{time.time_ns() // 1_000_000}.{self._beats}"
        answer = await self._line.call(calls.beat(self._host, beat, self._host_status.fields()))
        return beat, calls.read_registrations(answer)

    async def _silence_paused(self) -> None:
        while True:
            [keys] = await self._line.each([("HKEYS", calls.CONTROL)])
            paused = (key.decode().partition(":") for key in keys or ())
            self._list_waiters.silence(name for kind, _, name in paused if kind == "paused")
            await asyncio.sleep(PAUSED_LOOK_S)

    async def _put_back_dropped(self) -> None:
        """A reload may have dropped lists whose bells had moved an item."""
        with contextlib.suppress(WrongTypeError):
            known = await known_lists(self._line)
            await put_back(self._line, (n for n in known if n not in self._served), self._log)

    # The supervisor.

    def _listen(self) -> None:
        loop = asyncio.get_running_loop()
        loop.add_reader(self._boot.supervisor, self._read_orders)
        loop.add_reader(self._boot.lifeline, self._hear_the_end)
        self._idle_workers.listen()

    def _read_orders(self) -> None:
        messages = receive(self._boot.supervisor)
        if not messages and _is_closed(self._boot.supervisor):
            # It stays readable for ever. That the supervisor is gone, the lifeline says too.
            asyncio.get_running_loop().remove_reader(self._boot.supervisor)
        for message in messages:
            kind = message["type"]
            if kind in ("register", "return"):
                self._registry.order(message)
            elif kind == "children":
                self._registry.children(message["consumers"])
            elif kind == "state":
                if self._host_status.hear(message):
                    self._news.set()
                self._survivors.hear(message)
                self._idle_workers.hear_state(message)
            elif kind == "drain":
                self._drain = message
                self._told.set()

    def _hear_the_end(self) -> None:
        asyncio.get_running_loop().remove_reader(self._boot.lifeline)
        self._orphaned.set()
        self._told.set()

    async def _acknowledge(self, number: int) -> None:
        """Tell that an order is done, however long the supervisor takes to read."""
        packet = orjson.dumps({"type": "acknowledged", "order": number})
        with contextlib.suppress(ConnectionError):  # it is gone: nobody waits for this any more
            await asyncio.get_running_loop().sock_sendall(self._boot.supervisor, packet)

    # The end.

    async def _finish(self, beating: asyncio.Task[None]) -> None:
        """The supervisor wants us to end: finish its orders; forget the host if all is over."""
        await self._registry.finished()
        if self._drain is not None and self._drain.get("successor"):
            return
        await self._beat_no_more(beating)
        await put_back(self._line, self._served, self._log)
        with contextlib.suppress(WrongTypeError):
            await self._forget_host()

    async def _unless(self, event: asyncio.Event, work: Coroutine[Any, Any, None]) -> None:
        """Do the work, but give it up as soon as the event is set."""
        working = asyncio.create_task(work)
        waiting = asyncio.create_task(event.wait())
        try:
            await asyncio.wait((working, waiting), return_when=asyncio.FIRST_COMPLETED)
            if working.done():
                await working
        finally:
            await _ended([working, waiting])

    async def _leave_nothing_behind(
        self, orders: asyncio.Task[None], beating: asyncio.Task[None]
    ) -> None:
        """The supervisor is gone: nobody is to blame for what its end cuts short."""
        self._log.error("supervisor_gone", what="returning what the workers held, then ending")
        await self._survivors.end()
        try:
            async with asyncio.timeout(ORPHAN_REDIS_S):
                # What was ordered before names its blame.
                await self._registry.finished()
                await _ended([orders])
                await self._beat_no_more(beating)
                await self._return_everything()
                await put_back(self._line, self._served, self._log)
                await self._forget_host()
        except WrongTypeError:
            self._log.error("items_left", what="another host returns them after the lease")
        except TimeoutError:
            self._log.error("redis_away", what="another host returns our items after the lease")

    async def _return_everything(self) -> None:
        _, registrations = await self._beat()
        for consumer in registrations:
            with contextlib.suppress(WrongTypeError):
                nobody = Blame("nobody")
                given = await return_items(self._line, self._host, consumer, nobody, self._log)
                if given.returned:
                    self._log.info("items_returned", consumer=consumer, returned=given.returned)

    async def _forget_host(self) -> None:
        """Forget this host if nothing of it is registered; it must not beat any more."""
        beat, registrations = await self._beat()
        if not registrations:
            await self._line.call(calls.reap(self._host, beat))


async def _ended(tasks: list[asyncio.Task[Any]]) -> None:
    """Cancel tasks and wait until they have ended. An error of theirs is raised by their group."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _is_closed(channel: socket.socket) -> bool:
    """Whether the other end of a socket that does not block is gone."""
    try:
        return not channel.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return False
    except ConnectionError:
        return True

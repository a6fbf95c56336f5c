"""The main task of the coordinator: connects to Redis, runs all duties, and ends in order.

The coordinator ends in one of three ways. In each it executes the supervisor's last orders.

    the supervisor drains it           deletes the host from Redis, if no consumer is registered;
                                       ends at once if Redis is away and no items are to return
    a new coordinator takes over       leaves the host in Redis
    the supervisor was killed          waits until the workers have ended, returns their items
                                       without blame, deletes the host

The coordinator ignores signals (process/child_main.py): a signal to the whole process group must
not end it before the workers, which still need it.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

import orjson

from conserver.coordinator.ages import Ages
from conserver.coordinator.boot_check import wait_for_redis, warn_of_settings
from conserver.coordinator.connections import AsyncRetryingConnection, Connections
from conserver.coordinator.data_loss import DataLoss
from conserver.coordinator.history_recorder import HistoryRecorder
from conserver.coordinator.host_status import HostStatus
from conserver.coordinator.housekeeping import Housekeeping, known_lists, put_back
from conserver.coordinator.idle_workers import IdleWorkers
from conserver.coordinator.list_waiters import ListWaiters
from conserver.coordinator.orphans import Orphans
from conserver.coordinator.reaper import Reaper
from conserver.coordinator.registry import Registry, return_items
from conserver.coordinator.schedules import Schedules
from conserver.coordinator.suspects import Suspects
from conserver.process.messages import Blame, receive
from conserver.process.shared_status import State
from conserver.queue import host_calls, keys
from conserver.queue.wrong_type import WrongTypeError
from conserver.telemetry import log

if TYPE_CHECKING:
    from conserver.process.boot import Boot

LIVENESS_EVERY_S = 0.25
BEATS_PER_LEASE = 10
BEAT_EVERY_S_MIN = 0.2
LOOK_AT_CONTROLS_EVERY_S = 1.0
ORPHANED_TIMEOUT_S = 3.0
"""How long a coordinator without a supervisor tries to reach Redis. After that another host returns
the items when the lease is over."""
LAST_BEAT_TIMEOUT_S = 1.0


class Coordinator:
    """One coordinator; `run` runs it until it ends."""

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
        self._orphans = Orphans(self._idle_workers, self._log)
        self._connections = Connections(self._url)
        self._redis = AsyncRetryingConnection(self._connections, self._log)
        self._list_waiters = ListWaiters(
            self._connections, self._idle_workers, self._served, settings.parked_cap, self._log
        )
        self._registry = Registry(
            self._redis,
            self._host,
            self._idle_workers,
            self._list_waiters,
            self._acknowledge,
            settings.orphan_expiry_s,
            self._log,
        )
        self._data_loss = DataLoss(
            self._redis, self._host, self._served, settings.lease_s, self._log
        )
        self._ages = Ages(self._connections, self._served, self._log)
        self._beat_every_s = max(BEAT_EVERY_S_MIN, settings.lease_s / BEATS_PER_LEASE)
        self._beats = 0
        self._is_beating = True
        self._beat_due = asyncio.Event()  # set: beat now, because the host's status has changed
        self._must_end = asyncio.Event()  # drained or orphaned
        self._orphaned = asyncio.Event()
        self._has_successor = False
        self._is_patient = True

    async def run(self) -> None:
        """Run until drained or orphaned.

        Raises:
            BootError: Redis cannot be used.
        """
        always = [asyncio.create_task(self._show_liveness())]
        if self._boot.listener is not None:
            always.append(asyncio.create_task(self._serve_metrics()))
        try:
            self._listen()
            url, timeout_s = self._url, self._boot.settings.boot_timeout_s
            await _unless(self._must_end, wait_for_redis(self._redis, url, timeout_s))
            if not self._must_end.is_set():
                self._boot.status.state = State.WORKING
                self._boot.send("ready")
                await self._run_duties()
        finally:
            await _cancel(always)
            self._idle_workers.close()
            self._orphans.close()
            await self._redis.close()

    async def _run_duties(self) -> None:
        async with asyncio.TaskGroup() as group:

            def duty(work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
                return group.create_task(work, name=name)

            orders = duty(self._registry.run(), "orders")
            heartbeat = duty(self._beat_forever(), "heartbeat")
            first_to_end = [duty(work, name) for name, work in self._first_to_end().items()]
            await self._must_end.wait()
            self._idle_workers.retire()
            await _cancel(first_to_end)
            if not self._orphaned.is_set():
                await _unless(self._orphaned, self._end_drained(heartbeat))
            if self._orphaned.is_set():
                await self._end_orphaned(orders, heartbeat)
            await _cancel([orders, heartbeat])

    def _first_to_end(self) -> dict[str, Coroutine[Any, Any, None]]:
        """The duties that are cancelled as soon as the coordinator must end."""
        settings, redis, log = self._boot.settings, self._redis, self._log
        chains = self._boot.config.ingress
        idle, waiters = self._idle_workers, self._list_waiters
        keep_s, lease_s = settings.dlq_expiry_s, settings.lease_s
        housekeeping = Housekeeping(redis, idle, waiters, self._served, keep_s, log)
        suspects = Suspects(redis, self._host, self._served, self._boot.statuses, idle, log)
        schedules = Schedules(redis, self._host, self._boot.config, settings, log)
        gone_s = settings.orphan_expiry_s
        reaper = Reaper(self._connections, redis, self._host, lease_s, idle, waiters, gone_s, log)
        return {
            "warn of settings": warn_of_settings(self._redis),
            "list waiters": self._list_waiters.run(),
            "controls": self._heed_controls(),
            "dropped lists": self._put_back_dropped(),
            "promote": housekeeping.promote_forever(),
            "sweep": housekeeping.sweep_forever(),
            "suspects": suspects.run(),
            "reaper": reaper.run(),
            "schedules": schedules.run(),
            "ages": self._ages.run(),
            "history": HistoryRecorder(self._connections, self._host, chains, log).run(),
        }

    # ---- small duties ----------------------------------------------------------------------------

    async def _show_liveness(self) -> None:
        """Update the heartbeat in shared memory, for the supervisor's watchdog."""
        while True:
            self._boot.status.beat()
            await asyncio.sleep(LIVENESS_EVERY_S)

    async def _serve_metrics(self) -> None:
        """Serve the metrics from start to end, even while Redis is away."""
        from conserver.coordinator.metrics import CoordinatorMetrics

        await CoordinatorMetrics(self._boot, self._host_status, self._ages).run()

    async def _beat_forever(self) -> None:
        """Write the heartbeat to Redis that other hosts watch."""
        while self._is_beating:
            with contextlib.suppress(WrongTypeError):
                beat, answer = await self._beat()
                living, held = self._registry.living, self._host_status.held
                await self._data_loss.look(beat, *host_calls.read_before(answer), living, held)
                await self._registry.compare(host_calls.read_registrations(answer))
            # Not asyncio.wait_for: it loses a cancellation that comes together with the event.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._beat_every_s):
                    await self._beat_due.wait()
            self._beat_due.clear()

    async def _stop_beating(self, heartbeat: asyncio.Task[None]) -> None:
        """End the heartbeat, but first wait for the answer to a beat that was sent. If Redis
        executed that beat after the host was deleted, it would create the host again.
        """
        self._is_beating = False
        self._beat_due.set()
        await asyncio.wait([heartbeat], timeout=LAST_BEAT_TIMEOUT_S)
        await _cancel([heartbeat])

    async def _beat(self) -> tuple[str, list[bytes]]:
        """Send one heartbeat. Returns its value, and the answer (host_calls.read_registrations)."""
        self._beats += 1
        # The time makes the value differ from the beats of earlier coordinators of this host.
        beat = f"{time.time_ns() // 1_000_000}.{self._beats}"
        fields = self._host_status.fields() | self._data_loss.fields
        return beat, await self._redis.call(host_calls.beat(self._host, beat, fields))

    async def _heed_controls(self) -> None:
        """Obey operators' requests for this host: pauses, replacing a worker, reloading."""
        while True:
            [answer] = await self._redis.each([("HGETALL", keys.CONTROL)])
            words = [word.decode() for word in answer or ()]
            asked = dict(zip(words[::2], words[1::2], strict=True))
            # A BLMOVE may still wait for a list that an operator has paused.
            self._list_waiters.cancel_waits(n for n in self._served if keys.paused(n) in asked)
            for field in asked.keys() & {
                keys.recycle(self._host, slot) for slot in range(1, self._boot.workers + 1)
            }:
                # Who removes the field passes the request on: the supervisor gets it once.
                if await self._redis.command("HDEL", keys.CONTROL, field):
                    slot, consumer = int(field.rpartition(":")[2]), asked[field]
                    self._boot.send("recycle", slot=slot, consumer=consumer)
            ours = keys.reload(self._host, "")
            for field in sorted(one for one in asked if one.startswith(ours)):
                if await self._redis.command("HDEL", keys.CONTROL, field):
                    self._boot.send("reload", request=field.removeprefix(ours))
            await asyncio.sleep(LOOK_AT_CONTROLS_EVERY_S)

    async def _put_back_dropped(self) -> None:
        """Put items that a BLMOVE has moved back on lists that a reload has dropped."""
        with contextlib.suppress(WrongTypeError):
            known = await known_lists(self._redis)
            await put_back(self._redis, (n for n in known if n not in self._served), self._log)

    # ---- the supervisor --------------------------------------------------------------------------

    def _listen(self) -> None:
        loop = asyncio.get_running_loop()
        loop.add_reader(self._boot.supervisor, self._read_messages)
        loop.add_reader(self._boot.lifeline, self._supervisor_gone)
        self._idle_workers.listen()

    def _read_messages(self) -> None:
        messages = receive(self._boot.supervisor)
        if not messages and _is_closed(self._boot.supervisor):
            # A closed socket stays readable for ever. The lifeline reports the supervisor's end.
            asyncio.get_running_loop().remove_reader(self._boot.supervisor)
        for message in messages:
            kind = message["type"]
            if kind in ("register", "return"):
                self._registry.order(message)
            elif kind == "children":
                self._registry.children(message["consumers"])
            elif kind == "state":
                if self._host_status.read_state(message):
                    self._beat_due.set()
                self._orphans.read_state(message)
                self._idle_workers.read_state(message)
            elif kind == "drain":
                self._has_successor = bool(message.get("successor"))
                self._is_patient = bool(message.get("patient", True))
                self._must_end.set()

    def _supervisor_gone(self) -> None:
        asyncio.get_running_loop().remove_reader(self._boot.lifeline)
        self._orphaned.set()
        self._must_end.set()

    async def _acknowledge(self, number: int) -> None:
        """Tell the supervisor that an order was executed."""
        packet = orjson.dumps({"type": "acknowledged", "order": number})
        with contextlib.suppress(ConnectionError):  # the supervisor is gone
            await asyncio.get_running_loop().sock_sendall(self._boot.supervisor, packet)

    # ---- the end ---------------------------------------------------------------------------------

    async def _end_drained(self, heartbeat: asyncio.Task[None]) -> None:
        """Leave Redis in order. If Redis is away and no items are to return, end at once: another
        host deletes this one after the lease.
        """
        if self._is_patient:
            await self._leave_redis(heartbeat)
        else:
            await _unless(self._redis.is_away, self._leave_redis(heartbeat))

    async def _leave_redis(self, heartbeat: asyncio.Task[None]) -> None:
        """Execute the last orders. Delete the host, unless a new coordinator takes over."""
        await self._registry.finished()
        if self._has_successor:
            return
        await self._stop_beating(heartbeat)
        await put_back(self._redis, self._served, self._log)
        with contextlib.suppress(WrongTypeError):
            await self._delete_host()

    async def _end_orphaned(
        self, orders: asyncio.Task[None], heartbeat: asyncio.Task[None]
    ) -> None:
        """Return the workers' items after the supervisor was killed. Blames no item."""
        self._log.error("supervisor_gone", what="returning the workers' items, then ending")
        services = asyncio.create_task(
            self._orphans.end_services(self._boot.settings.shutdown_timeout_s)
        )
        await self._orphans.end()
        try:
            async with asyncio.timeout(ORPHANED_TIMEOUT_S):
                # The supervisor's last orders come first: they name the blamed items.
                await self._registry.finished()
                await _cancel([orders])
                await self._stop_beating(heartbeat)
                await self._return_everything()
                await put_back(self._redis, self._served, self._log)
                await self._delete_host()
        except WrongTypeError:
            self._log.error("items_left", what="another host returns them after the lease")
        except TimeoutError:
            self._log.error("redis_away", what="another host returns our items after the lease")
        await services

    async def _return_everything(self) -> None:
        _, answer = await self._beat()
        for consumer in host_calls.read_registrations(answer):
            with contextlib.suppress(WrongTypeError):
                nobody, keep_s = Blame("nobody"), self._boot.settings.orphan_expiry_s
                result = await return_items(
                    self._redis, self._host, consumer, nobody, keep_s, self._log
                )
                if result.returned:
                    self._log.info("items_returned", consumer=consumer, returned=result.returned)

    async def _delete_host(self) -> None:
        """Delete this host from Redis if it has no consumer. No heartbeat may follow."""
        beat, answer = await self._beat()
        if not host_calls.read_registrations(answer):
            await self._redis.call(host_calls.reap(self._host, beat))


async def _unless(event: asyncio.Event, work: Coroutine[Any, Any, None]) -> None:
    """Do the work, but cancel it as soon as the event is set."""
    working = asyncio.create_task(work)
    waiting = asyncio.create_task(event.wait())
    try:
        await asyncio.wait((working, waiting), return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            await working
    finally:
        await _cancel([working, waiting])


async def _cancel(tasks: list[asyncio.Task[Any]]) -> None:
    """Cancel tasks and wait until they have ended. Their group raises their errors."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _is_closed(channel: socket.socket) -> bool:
    """Whether the other end of a non-blocking socket is gone."""
    try:
        return not channel.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return False
    except ConnectionError:
        return True

"""The registry: keeps exactly the living consumers of this host registered in Redis.

1. It executes and acknowledges the supervisor's orders one by one: register a consumer before its
   process starts, return the items of a dead consumer. The same order may come twice.
2. At every heartbeat it looks for consumers that are registered but do not live, and returns their
   items. They exist if a failover of Redis has undone an order, or if an order was never executed.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from conserver.process.messages import Blame
from conserver.queue import host_calls, keys
from conserver.queue.wrong_type import WrongTypeError
from conserver.telemetry import traces

if TYPE_CHECKING:
    from conserver.coordinator.connections import AsyncRetryingConnection
    from conserver.coordinator.idle_workers import IdleWorkers
    from conserver.coordinator.list_waiters import ListWaiters
    from conserver.process.messages import Message
    from conserver.telemetry.log import Logger

GRACE_S = 1.0
"""How long a registration without a living consumer is left alone: the supervisor's order, which
names the blamed items, may still be on its way."""

RETRY_ORDER_S = 1.0
"""The pause before an order that met a key of the wrong type is repeated."""

REMEMBERED = 64
"""How many ended consumers are remembered: after a failover of Redis they may hold items again."""


@dataclass(slots=True)
class ReturnResult:
    """Counts: items returned, suspects among them, items for which the death was counted."""

    returned: int = 0
    suspects: int = 0
    deaths: int = 0


async def return_items(
    redis: AsyncRetryingConnection,
    host: str,
    consumer: str,
    blame: Blame,
    keep_s: int,
    log: Logger,
) -> ReturnResult:
    """Return all items that a dead consumer holds, and delete its registration.

    Args:
        keep_s: see host_calls.return_items.

    Raises:
        WrongTypeError: a key has the wrong type. The key has been logged.
    """
    total = ReturnResult()
    while True:
        call = host_calls.return_items(host, consumer, blame, keep_s=keep_s)
        answer = host_calls.Returned(*await redis.call(call))
        total.returned += answer.returned
        total.suspects += answer.suspects
        total.deaths += answer.deaths
        if answer.strange:
            what = "another program's elements of the in-flight hash: delete this key if you can"
            log.error("set_aside", key=keys.strange(consumer), count=answer.strange, what=what)
        if answer.cancelled:
            what = "an operator had cancelled these items before their worker died"
            log.info("cancelled", consumer=consumer, count=answer.cancelled, what=what)
        if not any(answer):
            return total


class Registry:
    """The consumers of this host."""

    def __init__(
        self,
        redis: AsyncRetryingConnection,
        host: str,
        idle_workers: IdleWorkers,
        list_waiters: ListWaiters,
        acknowledge: Callable[[int], Awaitable[None]],
        keep_s: int,
        log: Logger,
    ) -> None:
        """
        Args:
            acknowledge: called with the number of an executed order; tells the supervisor.
            keep_s: see host_calls.return_items.
        """
        self._redis = redis
        self._host = host
        self._idle_workers = idle_workers
        self._list_waiters = list_waiters
        self._acknowledge = acknowledge
        self._keep_s = keep_s
        self._log = log
        self._orders: asyncio.Queue[Message] = asyncio.Queue()
        self._living: set[str] | None = None  # None until the supervisor has sent its list
        self._returning: set[str] = set()  # consumers for which a return order is queued
        self._forsaken_since_s: dict[str, float] = {}
        self._ended: OrderedDict[str, Blame] = OrderedDict()  # consumers, the latest last

    def order(self, message: Message) -> None:
        """Queue an order: a register or return message of the supervisor."""
        if message["type"] == "return":
            self._returning.add(message["consumer"])
        self._orders.put_nowait(message)

    def children(self, consumers: list[str]) -> None:
        """Take in the supervisor's list of the consumers that live or are about to start."""
        self._living = set(consumers)

    @property
    def living(self) -> frozenset[str]:
        """The living consumers by the supervisor's last list; empty before the first list."""
        return frozenset(self._living or ())

    async def run(self) -> None:
        """Execute orders until cancelled."""
        while True:
            message = await self._orders.get()
            try:
                await self._execute(message)
            except WrongTypeError:
                # Until an operator mends the key, other orders are executed.
                loop = asyncio.get_running_loop()
                loop.call_later(RETRY_ORDER_S, self._orders.put_nowait, message)
            self._orders.task_done()

    async def _execute(self, message: Message) -> None:
        if message["type"] == "register":
            await self._register(message)
        else:
            await self._return(message)
        if "order" in message:
            await self._acknowledge(message["order"])

    async def finished(self) -> None:
        """Wait until every queued order was acknowledged, or has met a key of the wrong type."""
        await self._orders.join()

    async def compare(self, registrations: Mapping[str, str]) -> None:
        """Queue a return order for each consumer that is registered and does not live.

        A living consumer whose registration is void is left alone: its worker exits after its next
        claim, and the supervisor then orders the return with the blamed items.

        Args:
            registrations: the answer to the heartbeat: consumer -> number of its last claim, or
                "void".
        """
        if self._living is None:
            return
        forsaken = set(registrations) | await self._ended_with_items()
        forsaken -= self._living | self._returning
        now_s = time.monotonic()
        since_s = {c: self._forsaken_since_s.get(c, now_s) for c in forsaken}
        self._forsaken_since_s = since_s
        for consumer in sorted(forsaken):
            if now_s - since_s[consumer] >= GRACE_S:
                del since_s[consumer]
                self._return_forsaken(consumer)

    async def _ended_with_items(self) -> set[str]:
        """The ended consumers that hold items again."""
        ended = list(self._ended)
        held = await self._redis.commands([("EXISTS", keys.inflight(c)) for c in ended])
        return {consumer for consumer, holds in zip(ended, held, strict=True) if holds}

    def _return_forsaken(self, consumer: str) -> None:
        blame = self._ended.get(consumer, Blame("everything"))
        self._log.warning("consumer_forsaken", consumer=consumer, blame=blame.kind)
        self.order({"type": "return", "consumer": consumer, "blame": asdict(blame)})

    async def _register(self, order: Message) -> None:
        self._idle_workers.assign(order["slot"], order["consumer"])
        if self._living is not None:
            # The supervisor's list with this consumer may arrive only after the next heartbeat.
            self._living.add(order["consumer"])
        await self._redis.call(host_calls.register(self._host, order["consumer"], order["lists"]))

    async def _return(self, order: Message) -> None:
        consumer, blame = order["consumer"], Blame(**order["blame"])
        self._idle_workers.consumer_died(consumer)
        attributes = {"messaging.client.id": consumer, "conserver.blame": blame.kind}
        with traces.span("return items", "internal", attributes) as span:
            result = await return_items(
                self._redis, self._host, consumer, blame, self._keep_s, self._log
            )
            if span is not None:
                span.set_attribute("messaging.batch.message_count", result.returned)
        self._returning.discard(consumer)
        self._ended[consumer] = blame
        self._ended.move_to_end(consumer)
        if len(self._ended) > REMEMBERED:
            self._ended.popitem(last=False)
        if result.suspects:
            self._idle_workers.suspects.set()
        if result.returned:
            self._list_waiters.items_returned()
            self._log.info(
                "items_returned",
                consumer=consumer,
                blame=blame.kind,
                returned=result.returned,
                suspects=result.suspects,
                counted=result.deaths,
            )

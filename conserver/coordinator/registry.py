"""The registry: Redis shall know as consumers of this host those that live, and no others.

1. Carries out the supervisor's orders, one after another: register a consumer before its process
   starts, return what a dead one held. Orders are acknowledged when done, and may come twice.
2. Compares, with every beat, what Redis has registered with the children that live. What else it
   finds goes back as well: a coordinator may die with an order in its hands, and a failover may
   undo
   what had been done.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from conserver.queue import calls
from conserver.queue.calls import Blame
from conserver.queue.wrong_type import WrongTypeError

if TYPE_CHECKING:
    from conserver.coordinator.idle_workers import IdleWorkers
    from conserver.coordinator.retrying_connection import AsyncRetryingConnection
    from conserver.process.messages import Message
    from conserver.telemetry.log import Logger

GRACE_S = 1.0
"""How long a registration may look forsaken before it is given up: the order that says whom its
death is blamed on may be on its way."""

AGAIN_S = 1.0
"""Until an order is tried again that met a key of the wrong type."""

REMEMBERED = 64
"""How many consumers that ended are looked after: a failover can give them items back."""


@dataclass(slots=True)
class GivenBack:
    """What a consumer's return came to."""

    returned: int = 0
    suspects: int = 0
    counted: int = 0


async def return_items(
    line: AsyncRetryingConnection, host: str, consumer: str, blame: Blame, log: Logger
) -> GivenBack:
    """Return everything that a dead consumer holds, and forget its registration."""
    total = GivenBack()
    while True:
        answer = calls.Returned(*await line.call(calls.return_items(host, consumer, blame)))
        total.returned += answer.returned
        total.suspects += answer.suspects
        total.counted += answer.counted
        if answer.strange:
            what = "it is no record and lay in flight: somebody else's; delete it if you can"
            log.error("set_aside", key=calls.strange_key(consumer), count=answer.strange, what=what)
        if answer.cancelled:
            log.info("cancelled", consumer=consumer, count=answer.cancelled, what="as it had died")
        if not any(answer):
            return total


def blame_of(order: Message) -> Blame:
    """The blame in a return order."""
    items = [(str(token), int(epoch)) for token, epoch in order.get("items", ())]
    counted = [str(token) for token in order.get("counted", ())]
    return Blame(order["blame"], items, counted, order.get("notes", {}))


class Registry:
    """The consumers of this host."""

    def __init__(
        self,
        line: AsyncRetryingConnection,
        host: str,
        idle_workers: IdleWorkers,
        acknowledge: Callable[[int], Awaitable[None]],
        log: Logger,
    ) -> None:
        self._line = line
        self._host = host
        self._idle_workers = idle_workers
        self._acknowledge = acknowledge
        self._log = log
        self._orders: asyncio.Queue[Message] = asyncio.Queue()
        self._living: set[str] | None = None  # None until the supervisor has told
        self._returning: set[str] = set()
        self._forsaken_since_s: dict[str, float] = {}
        self._ended: OrderedDict[str, Blame] = OrderedDict()

    def order(self, message: Message) -> None:
        """Take an order of the supervisor: register or return."""
        if message["type"] == "return":
            self._returning.add(message["consumer"])
        self._orders.put_nowait(message)

    def children(self, consumers: list[str]) -> None:
        """The supervisor tells which consumers live, or are about to."""
        self._living = set(consumers)

    async def run(self) -> None:
        """Carry out orders until cancelled."""
        while True:
            message = await self._orders.get()
            try:
                await self._carry_out(message)
            except WrongTypeError:
                # Somebody has to act first: this order waits for that, the others do not.
                loop = asyncio.get_running_loop()
                loop.call_later(AGAIN_S, self._orders.put_nowait, message)
            self._orders.task_done()

    async def _carry_out(self, message: Message) -> None:
        if message["type"] == "register":
            await self._register(message)
        else:
            await self._return(message)
        if "order" in message:
            await self._acknowledge(message["order"])

    async def finished(self) -> None:
        """Wait until every order is done and acknowledged, but for those that cannot be done."""
        await self._orders.join()

    async def compare(self, registrations: Mapping[str, str]) -> None:
        """Have everything returned that a consumer holds which does not live.

        Args:
            registrations: what the beat answered: consumer -> number of its claim, or "void". A
                living one whose registration is void is left alone: it hears so at its next claim,
                and its supervisor then says whom to blame.
        """
        if self._living is None:
            return
        forsaken = set(registrations) | await self._restless()
        forsaken -= self._living | self._returning
        now_s = time.monotonic()
        since_s = {c: self._forsaken_since_s.get(c, now_s) for c in forsaken}
        self._forsaken_since_s = since_s
        for consumer in sorted(forsaken):
            if now_s - since_s[consumer] >= GRACE_S:
                del since_s[consumer]
                self._give_up(consumer)

    async def _restless(self) -> set[str]:
        """Consumers that have ended and hold items all the same."""
        ended = list(self._ended)
        held = await self._line.commands([("EXISTS", calls.inflight_key(c)) for c in ended])
        return {consumer for consumer, holds in zip(ended, held, strict=True) if holds}

    def _give_up(self, consumer: str) -> None:
        blame = self._ended.get(consumer, Blame("everything"))
        self._log.warning("consumer_forsaken", consumer=consumer, blame=blame.kind)
        items = [[token, epoch] for token, epoch in blame.items]
        self.order(
            {
                "type": "return",
                "consumer": consumer,
                "blame": blame.kind,
                "items": items,
                "counted": list(blame.overdue),
                "notes": blame.notes,
            }
        )

    async def _register(self, order: Message) -> None:
        self._idle_workers.introduce(order["slot"], order["consumer"])
        if self._living is not None:
            # The list of children that names it may come later than the next beat.
            self._living.add(order["consumer"])
        await self._line.call(calls.register(self._host, order["consumer"], order["lists"]))

    async def _return(self, order: Message) -> None:
        consumer, blame = order["consumer"], blame_of(order)
        self._idle_workers.leave(consumer)
        given = await return_items(self._line, self._host, consumer, blame, self._log)
        self._returning.discard(consumer)
        self._ended[consumer] = blame
        self._ended.move_to_end(consumer)
        if len(self._ended) > REMEMBERED:
            self._ended.popitem(last=False)
        if given.suspects:
            self._idle_workers.suspects.set()
        if given.returned:
            self._idle_workers.ring()
            self._log.info(
                "items_returned",
                consumer=consumer,
                blame=blame.kind,
                returned=given.returned,
                suspects=given.suspects,
                counted=given.counted,
            )

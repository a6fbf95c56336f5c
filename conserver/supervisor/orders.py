"""What the coordinator is told: orders, and how things stand.

1. The order book keeps each order until it is acknowledged, and tells it again to a coordinator
   that
   replaces a dead one: so the items of a dead worker go back even if the coordinator dies with the
   order in its hands. Orders are therefore made to be executed twice.
2. The briefing tells which consumers live and what the status shows, on every change and again and
   again, because a single telling can be lost with a coordinator or in a failover of Redis.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from conserver.process.messages import Message, send
from conserver.supervisor.slots import ChildSlot

CHILDREN_TOLD_S = 5.0
STATE_TOLD_S = 2.0


@dataclass(slots=True)
class _Order:
    message: Message
    sent: bool = False


class CommandQueue:
    """Numbered orders in the order of their making."""

    def __init__(self) -> None:
        self._orders: dict[int, _Order] = {}
        self._last = 0

    def __len__(self) -> int:
        return len(self._orders)

    @property
    def all_sent(self) -> bool:
        """Whether the coordinator of now has been told everything."""
        return all(order.sent for order in self._orders.values())

    def add(self, kind: str, **fields: Any) -> int:
        """Write down an order; `send` will tell it. Returns its number."""
        self._last += 1
        self._orders[self._last] = _Order({"type": kind, "order": self._last, **fields})
        return self._last

    def acknowledge(self, number: int) -> Message | None:
        """Strike out an order that is done. Returns it, or None if that had been done before."""
        order = self._orders.pop(number, None)
        return order.message if order else None

    def send(self, channel: socket.socket) -> None:
        """Tell the coordinator what it has not been told; what does not fit now, the next time."""
        for order in self._orders.values():
            if order.sent:
                continue
            order.sent = send(channel, order.message)
            if not order.sent:
                return

    def tell_again(self) -> None:
        """Another coordinator: it has been told nothing."""
        for order in self._orders.values():
            order.sent = False


class Briefing:
    """Tells the present coordinator what it has not been told, or not lately."""

    def __init__(
        self, orders: CommandQueue, coordinator: ChildSlot, workers: Sequence[ChildSlot]
    ) -> None:
        self._orders = orders
        self._coordinator = coordinator
        self._workers = workers
        self._told: dict[str, tuple[Message, float]] = {}

    def forget(self) -> None:
        """Another coordinator: tell it everything."""
        self._orders.tell_again()
        self._told.clear()

    def tell(self, supervisor: Message, now_s: float) -> None:
        """Tell what is due.

        Orders come first, and the rest only after all of them: a list of the living that lacks a
        dead worker must not overtake the order that says whom its death is blamed on.

        Args:
            supervisor: what the status shows of the supervisor itself.
            now_s: time.monotonic().
        """
        child = self._coordinator.child
        if child is None or not child.ready:
            return
        self._orders.send(self._coordinator.slot.ours)
        if not self._orders.all_sent:
            return
        living = [post.consumer for post in self._workers if post.consumer]
        self._repeat({"type": "children", "consumers": living}, now_s, CHILDREN_TOLD_S)
        workers = [_state(post, now_s) for post in self._workers]
        state = {"type": "state", "supervisor": supervisor, "workers": workers}
        self._repeat(state, now_s, STATE_TOLD_S)

    def _repeat(self, message: Message, now_s: float, every_s: float) -> None:
        told = self._told.get(message["type"])
        if told and told[0] == message and now_s - told[1] < every_s:
            return
        if send(self._coordinator.slot.ours, message):
            self._told[message["type"]] = (message, now_s)


def _state(post: ChildSlot, now_s: float) -> Message:
    return {
        "slot": post.slot.number,
        "pid": post.child.pid if post.child else 0,
        "consumer": post.consumer,
        "state": post.state(),
        "restarts": max(post.restarts, 0),
        "backoff_s": round(max(0.0, post.due_at_s - now_s)) if post.child is None else 0,
        "started_at": round(post.started_at, 3) if post.child else 0.0,
    }


def about_us(state: str, generation: int, start_method: str, began_at: float) -> Message:
    """What the status shows of the supervisor, which began at `began_at` (time.time())."""
    return {
        "pid": os.getpid(),
        "started_at": round(began_at, 3),
        "state": state,
        "generation": generation,
        "start_method": start_method,
    }

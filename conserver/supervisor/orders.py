"""Orders and periodic updates to the coordinator, which acts in Redis for the supervisor.

1. An order has a number, and is kept until the coordinator acknowledges it. If the coordinator
   dies, its replacement gets all kept orders again. So the items of a dead worker are returned even
   if the coordinator dies in the middle. It must be harmless to carry out an order twice.
2. Updates say which consumers exist and what `conserver status` shows. Updates are sent on every
   change, and repeated, because a coordinator that dies or a failover of Redis may lose an update.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from typing import Any

from conserver.process.messages import Message, send
from conserver.supervisor.slots import ChildSlot

CHILDREN_EVERY_S = 5.0
STATE_EVERY_S = 2.0


class OrderQueue:
    """The orders that are not acknowledged yet, oldest first."""

    def __init__(self) -> None:
        self._orders: dict[int, Message] = {}
        self._last = 0  # the number of the newest order
        self._sent = 0  # the number of the last order that the present coordinator was sent

    def __len__(self) -> int:
        return len(self._orders)

    @property
    def all_sent(self) -> bool:
        """Whether all orders were sent to the present coordinator."""
        return all(number <= self._sent for number in self._orders)

    @property
    def may_return_items(self) -> bool:
        """Whether an order may return items. The others only register or unregister workers."""
        orders = self._orders.values()
        return any(order["type"] == "return" and not order["empty"] for order in orders)

    def add(self, kind: str, **fields: Any) -> int:
        """Add an order, which the next `send` sends. Returns the order's number."""
        self._last += 1
        self._orders[self._last] = {"type": kind, "order": self._last, **fields}
        return self._last

    def acknowledge(self, number: int) -> None:
        """Drop an order that was carried out, if it is there still."""
        self._orders.pop(number, None)

    def send(self, channel: socket.socket) -> None:
        """Send the orders that were not sent yet. If the socket is full, the next call goes on."""
        for number, message in self._orders.items():
            if number > self._sent:
                if not send(channel, message):
                    return
                self._sent = number

    def send_again(self) -> None:
        """Let `send` send all orders again, because the coordinator was replaced."""
        self._sent = 0


class CoordinatorUpdates:
    """Sends the present coordinator its orders and updates when they are due."""

    def __init__(
        self,
        orders: OrderQueue,
        coordinator: ChildSlot,
        workers: Sequence[ChildSlot],
        services: Sequence[ChildSlot] = (),
    ) -> None:
        """services: the slots of all other children. If the supervisor is killed, the coordinator
        ends these children.
        """
        self._orders = orders
        self._coordinator = coordinator
        self._workers = workers
        self._services = services
        self._sent: dict[str, tuple[Message, float]] = {}

    def restart(self) -> None:
        """Send all orders and updates again, because the coordinator was replaced."""
        self._orders.send_again()
        self._sent.clear()

    def send_due(self, supervisor: Message, now_s: float) -> None:
        """Send the orders and updates that are due.

        Updates are sent after all orders. If a consumer vanishes from the updates before its
        `return` order has come, the coordinator returns its items and blames all of them. So the
        order, which says which items are blamed, must come first.

        Args:
            supervisor: the supervisor's own state (`supervisor_state`).
            now_s: time.monotonic().
        """
        child = self._coordinator.child
        if child is None or not child.ready:
            return
        self._orders.send(self._coordinator.supervisor_end)
        if not self._orders.all_sent:
            return
        consumers = [slot.consumer for slot in self._workers if slot.consumer]
        self._update({"type": "children", "consumers": consumers}, now_s, CHILDREN_EVERY_S)
        workers = [_worker_state(slot, now_s) for slot in self._workers]
        services = [
            {"name": slot.name, "pid": slot.child.pid} for slot in self._services if slot.child
        ]
        state = {
            "type": "state",
            "supervisor": supervisor,
            "workers": workers,
            "services": services,
        }
        self._update(state, now_s, STATE_EVERY_S)

    def _update(self, message: Message, now_s: float, every_s: float) -> None:
        kind = message["type"]
        if kind in self._sent:
            last, at_s = self._sent[kind]
            if last == message and now_s - at_s < every_s:
                return
        if send(self._coordinator.supervisor_end, message):
            self._sent[kind] = (message, now_s)


def _worker_state(slot: ChildSlot, now_s: float) -> Message:
    return {
        "slot": slot.number,
        "pid": slot.child.pid if slot.child else 0,
        "consumer": slot.consumer,
        "state": slot.state_name,
        "restarts": max(slot.restarts, 0),
        "backoff_s": round(max(0.0, slot.due_at_s - now_s)) if slot.child is None else 0,
        "started_at": round(slot.started_at, 3) if slot.child else 0.0,
        "ended": slot.ended,
        "ended_at": round(slot.ended_at, 3),
    }


def supervisor_state(state: str, generation: int, start_method: str, began_at: float) -> Message:
    """The supervisor's state, for the status. began_at: its start, in seconds since the epoch."""
    return {
        "pid": os.getpid(),
        "started_at": round(began_at, 3),
        "state": state,
        "generation": generation,
        "start_method": start_method,
    }

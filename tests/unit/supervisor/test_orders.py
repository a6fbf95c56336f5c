"""Orders are kept until acknowledged; updates are sent on every change, and repeated."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any, cast

import pytest

from conserver.process.messages import pair, receive
from conserver.supervisor.child import Child
from conserver.supervisor.orders import (
    CHILDREN_EVERY_S,
    STATE_EVERY_S,
    CoordinatorUpdates,
    OrderQueue,
)
from conserver.supervisor.slots import SharedResources

Ends = tuple[socket.socket, socket.socket]


class Ready:
    """As much of a child as the updates look at."""

    pid = 7
    ready = True


@pytest.fixture
def ends() -> Iterator[Ends]:
    ends = pair()
    yield ends
    for end in ends:
        end.close()


@pytest.fixture
def resources() -> Iterator[SharedResources]:
    resources = SharedResources(1)
    yield resources
    resources.close()


def sent(resources: SharedResources) -> list[str]:
    """The types of the messages that the coordinator has received."""
    return [message["type"] for message in receive(resources.coordinator.child_end)]


def test_an_order_is_sent_once_and_again_to_another_coordinator(ends: Ends) -> None:
    orders = OrderQueue()
    first = orders.add("register", consumer="a")
    second = orders.add("return", consumer="b")
    orders.send(ends[0])
    orders.send(ends[0])
    assert [message["order"] for message in receive(ends[1])] == [first, second]
    for _ in range(2):  # another coordinator may have carried it out again
        orders.acknowledge(first)
    orders.send_again()
    assert (orders.all_sent, len(orders)) == (False, 1)
    orders.send(ends[0])
    assert [message["order"] for message in receive(ends[1])] == [second]
    assert (orders.all_sent, len(orders)) == (True, 1)


def test_orders_that_do_not_fit_are_sent_later_in_their_order(ends: Ends) -> None:
    orders = OrderQueue()
    numbers = [orders.add("return", items=["x" * 20_000]) for _ in range(50)]
    received: list[int] = []
    for _ in range(50):
        orders.send(ends[0])
        received += [message["order"] for message in receive(ends[1])]
    assert received == numbers


def test_changes_are_sent_at_once_and_the_rest_now_and_then(resources: SharedResources) -> None:
    (worker,) = resources.workers
    updates = CoordinatorUpdates(OrderQueue(), resources.coordinator, [worker])

    def sent_at(now_s: float, **supervisor: Any) -> list[str]:
        updates.send_due(supervisor, now_s)
        return sent(resources)

    assert sent_at(0.0) == [], "there is no coordinator"
    resources.coordinator.child = cast("Child", Ready())
    assert sent_at(0.0) == ["children", "state"]
    assert sent_at(1.0) == []
    worker.consumer = "abc"
    assert sent_at(1.1) == ["children", "state"]
    assert sent_at(1.2, state="draining") == ["state"]
    assert sent_at(1.2 + STATE_EVERY_S, state="draining") == ["state"]
    assert sent_at(1.1 + CHILDREN_EVERY_S, state="draining") == ["children", "state"]
    updates.restart()
    assert sent_at(6.2, state="draining") == ["children", "state"]


def test_the_list_of_consumers_does_not_overtake_an_order(resources: SharedResources) -> None:
    resources.coordinator.child = cast("Child", Ready())
    orders = OrderQueue()
    updates = CoordinatorUpdates(orders, resources.coordinator, [])
    for _ in range(50):
        orders.add("return", items=["x" * 20_000])
    received: list[str] = []
    for now_s in range(50):
        updates.send_due({}, now_s)
        received += sent(resources)
    assert received[:50] == ["return"] * 50
    assert received[50:52] == ["children", "state"]

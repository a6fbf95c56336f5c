"""Orders are kept until acknowledged; how things stand is told on every change, and repeated."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any, cast

import pytest

from conserver.process.messages import pair, receive
from conserver.supervisor.child import Child
from conserver.supervisor.orders import CHILDREN_TOLD_S, STATE_TOLD_S, Briefing, CommandQueue
from conserver.supervisor.resources import SharedResources
from conserver.supervisor.slots import ChildSlot


class Ready:
    """As much of a child as a briefing looks at."""

    pid = 7
    ready = True


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    ends = pair()
    yield ends
    for end in ends:
        end.close()


def test_an_order_is_told_once_and_again_to_another_coordinator(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    book = CommandQueue()
    first = book.add("register", consumer="a")
    second = book.add("return", consumer="b")
    book.send(ends[0])
    book.send(ends[0])
    assert [message["order"] for message in receive(ends[1])] == [first, second]
    assert book.acknowledge(first) == {"type": "register", "order": first, "consumer": "a"}
    assert book.acknowledge(first) is None
    book.tell_again()
    assert (book.all_sent, len(book)) == (False, 1)
    book.send(ends[0])
    assert [message["order"] for message in receive(ends[1])] == [second]
    assert (book.all_sent, len(book)) == (True, 1)


def test_orders_that_do_not_fit_are_told_later_in_their_order(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    book = CommandQueue()
    orders = [book.add("return", items=["x" * 20_000]) for _ in range(50)]
    heard: list[int] = []
    for _ in range(50):
        book.send(ends[0])
        heard += [message["order"] for message in receive(ends[1])]
    assert heard == orders


def test_a_briefing_tells_changes_at_once_and_the_rest_now_and_then() -> None:
    resources = SharedResources(1)
    coordinator, worker = (
        ChildSlot("coordinator", resources.coordinator),
        ChildSlot("worker", resources.workers[0]),
    )
    briefing = Briefing(CommandQueue(), coordinator, [worker])

    def told(now_s: float, **about: Any) -> list[str]:
        briefing.tell(about, now_s)
        return [message["type"] for message in receive(resources.coordinator.theirs)]

    assert told(0.0) == []  # No coordinator is there to be told.
    coordinator.child = cast("Child", Ready())
    assert told(0.0) == ["children", "state"]
    assert told(1.0) == []
    worker.consumer = "abc"
    assert told(1.1) == ["children", "state"]
    assert told(1.2, state="draining") == ["state"]
    assert told(1.2 + STATE_TOLD_S, state="draining") == ["state"]
    assert told(1.1 + CHILDREN_TOLD_S, state="draining") == ["children", "state"]
    briefing.forget()
    assert told(6.2, state="draining") == ["children", "state"]
    resources.close()


def test_the_list_of_the_living_does_not_overtake_an_order() -> None:
    resources = SharedResources(1)
    coordinator = ChildSlot("coordinator", resources.coordinator)
    coordinator.child = cast("Child", Ready())
    book = CommandQueue()
    briefing = Briefing(book, coordinator, [])
    for _ in range(50):
        book.add("return", items=["x" * 20_000])
    heard: list[str] = []
    for now_s in range(50):
        briefing.tell({}, now_s)
        heard += [message["type"] for message in receive(resources.coordinator.theirs)]
    assert heard[:50] == ["return"] * 50
    assert heard[50:52] == ["children", "state"]
    resources.close()

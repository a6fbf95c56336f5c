"""A worker's messages to its coordinator wait a little, go out together, and are not repeated."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from conserver.process import wakeup
from conserver.process.messages import pair
from conserver.process.wakeup import DELAY_S, REPEAT_AFTER_S, WakeupSender

Ends = tuple[WakeupSender, socket.socket]


@pytest.fixture
def ends() -> Iterator[Ends]:
    """The worker's sender, and the coordinator's end of the pair."""
    coordinators, workers = pair()
    with coordinators, workers:
        yield WakeupSender(workers), coordinators


def packets(coordinators: socket.socket) -> list[bytes]:
    """All packets that have arrived."""
    arrived = []
    while True:
        try:
            arrived.append(coordinators.recv(64))
        except BlockingIOError:
            return arrived


def test_messages_wait_and_go_out_together(ends: Ends) -> None:
    sender, coordinators = ends
    assert sender.due_in_s(0.0) is None
    sender.send_later(wakeup.IDLE, 1.0)
    sender.send_later(wakeup.SUSPECTS, 1.001)
    assert packets(coordinators) == []
    assert sender.due_in_s(1.001) == pytest.approx(DELAY_S - 0.001)
    assert sender.due_in_s(2.0) == 0.0
    sender.flush()
    sender.flush()
    assert packets(coordinators) == [wakeup.IDLE + wakeup.SUSPECTS]
    assert sender.due_in_s(2.0) is None


def test_the_last_message_is_not_repeated_at_once(ends: Ends) -> None:
    sender, coordinators = ends
    sender.send_later(wakeup.IDLE, 1.0)
    sender.flush()
    sender.send_later(wakeup.IDLE, 1.001)
    assert sender.due_in_s(1.001) is None
    sender.send_later(wakeup.IDLE, 1.0 + REPEAT_AFTER_S)
    sender.flush()
    sender.woken()
    sender.send_later(wakeup.IDLE, 1.0 + REPEAT_AFTER_S)
    sender.flush()
    assert packets(coordinators) == 3 * [wakeup.IDLE]


def test_busy_is_not_repeated_but_to_answer_a_wakeup(ends: Ends) -> None:
    sender, coordinators = ends
    sender.send_later(wakeup.BUSY, 1.0)
    sender.flush()
    sender.send_later(wakeup.BUSY, 100.0)
    assert sender.due_in_s(100.0) is None
    sender.woken()
    sender.send_later(wakeup.BUSY, 100.0)
    sender.flush()
    assert packets(coordinators) == 2 * [wakeup.BUSY]


def test_a_message_queued_before_a_wakeup_does_not_answer_it(ends: Ends) -> None:
    sender, coordinators = ends
    sender.send_later(wakeup.IDLE, 1.0)
    sender.woken()
    sender.send_later(wakeup.BUSY, 1.001)
    assert sender.due_in_s(1.001) == pytest.approx(DELAY_S)
    sender.flush()
    assert packets(coordinators) == [wakeup.BUSY]


def test_a_coordinator_that_does_not_read_or_is_gone_blocks_no_worker(ends: Ends) -> None:
    sender, coordinators = ends
    for round_ in range(10_000):
        sender.send_later(wakeup.IDLE, float(round_))
        sender.flush()
    assert 0 < len(packets(coordinators)) < 10_000
    coordinators.close()
    sender.send_later(wakeup.IDLE, 1e9)
    sender.flush()
    nobody = WakeupSender(None)
    nobody.send_later(wakeup.IDLE, 1.0)
    assert nobody.due_in_s(1.0) is None
    nobody.flush()

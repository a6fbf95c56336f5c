"""What a worker tells its coordinator waits a little, goes out together, and is not said twice."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from conserver.process.messages import pair
from conserver.process.wakeup import PATIENCE_S, SAY_AGAIN_S, WakeupSender

Ends = tuple[WakeupSender, socket.socket]


@pytest.fixture
def ends() -> Iterator[Ends]:
    """A worker's mouth, and the coordinator's ear."""
    ear, mouth = pair()
    with ear, mouth:
        yield WakeupSender(mouth), ear


def heard(ear: socket.socket) -> list[bytes]:
    """All packets that have come."""
    packets = []
    while True:
        try:
            packets.append(ear.recv(64))
        except BlockingIOError:
            return packets


def test_words_wait_and_go_out_together(ends: Ends) -> None:
    wakeups, ear = ends
    assert wakeups.patience_s(0.0) is None
    wakeups.say(b"A", 1.0)
    wakeups.say(b"I", 1.001)
    assert heard(ear) == []
    assert wakeups.patience_s(1.001) == pytest.approx(PATIENCE_S - 0.001)
    assert wakeups.patience_s(2.0) == 0.0
    wakeups.speak()
    wakeups.speak()
    assert heard(ear) == [b"AI"]
    assert wakeups.patience_s(2.0) is None


def test_the_last_word_is_not_said_again_at_once(ends: Ends) -> None:
    wakeups, ear = ends
    wakeups.say(b"A", 1.0)
    wakeups.speak()
    wakeups.say(b"A", 1.001)
    assert wakeups.patience_s(1.001) is None
    wakeups.say(b"A", 1.0 + SAY_AGAIN_S)
    wakeups.speak()
    wakeups.rung()
    wakeups.say(b"A", 1.0 + SAY_AGAIN_S)
    wakeups.speak()
    assert heard(ear) == [b"A", b"A", b"A"]


def test_what_was_said_before_a_ring_does_not_answer_it(ends: Ends) -> None:
    # A worker that had just claimed by itself was rung, and full: its "A" came first, was taken for
    # the answer, and nobody else was rung.
    wakeups, ear = ends
    wakeups.say(b"A", 1.0)
    wakeups.rung()
    wakeups.say(b"B", 1.001)
    assert wakeups.patience_s(1.001) == pytest.approx(PATIENCE_S)
    wakeups.speak()
    assert heard(ear) == [b"B"]


def test_a_coordinator_that_does_not_read_or_is_gone_stops_nobody(ends: Ends) -> None:
    wakeups, ear = ends
    for round_ in range(10_000):
        wakeups.say(b"A", float(round_))
        wakeups.speak()
    assert 0 < len(heard(ear)) < 10_000
    ear.close()
    wakeups.say(b"I", 1e9)
    wakeups.speak()
    nobody = WakeupSender(None)
    nobody.say(b"A", 1.0)
    assert nobody.patience_s(1.0) is None
    nobody.speak()

"""What a worker tells its steward waits a little, goes out together, and is not said twice."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from conserver.boot import pair
from conserver.telling import PATIENCE_S, SAY_AGAIN_S, Telling

Ends = tuple[Telling, socket.socket]


@pytest.fixture
def ends() -> Iterator[Ends]:
    """A worker's mouth, and the steward's ear."""
    ear, mouth = pair()
    with ear, mouth:
        yield Telling(mouth), ear


def heard(ear: socket.socket) -> list[bytes]:
    """All packets that have come."""
    packets = []
    while True:
        try:
            packets.append(ear.recv(64))
        except BlockingIOError:
            return packets


def test_words_wait_and_go_out_together(ends: Ends) -> None:
    telling, ear = ends
    assert telling.patience_s(0.0) is None
    telling.say(b"A", 1.0)
    telling.say(b"I", 1.001)
    assert heard(ear) == []
    assert telling.patience_s(1.001) == pytest.approx(PATIENCE_S - 0.001)
    assert telling.patience_s(2.0) == 0.0
    telling.speak()
    telling.speak()
    assert heard(ear) == [b"AI"]
    assert telling.patience_s(2.0) is None


def test_the_last_word_is_not_said_again_at_once(ends: Ends) -> None:
    telling, ear = ends
    telling.say(b"A", 1.0)
    telling.speak()
    telling.say(b"A", 1.001)
    assert telling.patience_s(1.001) is None
    telling.say(b"A", 1.0 + SAY_AGAIN_S)
    telling.speak()
    telling.rung()
    telling.say(b"A", 1.0 + SAY_AGAIN_S)
    telling.speak()
    assert heard(ear) == [b"A", b"A", b"A"]


def test_what_was_said_before_a_ring_does_not_answer_it(ends: Ends) -> None:
    # A worker that had just claimed by itself was rung, and full: its "A" came first, was taken for
    # the answer, and nobody else was rung.
    telling, ear = ends
    telling.say(b"A", 1.0)
    telling.rung()
    telling.say(b"B", 1.001)
    assert telling.patience_s(1.001) == pytest.approx(PATIENCE_S)
    telling.speak()
    assert heard(ear) == [b"B"]


def test_a_steward_that_does_not_read_or_is_gone_stops_nobody(ends: Ends) -> None:
    telling, ear = ends
    for round_ in range(10_000):
        telling.say(b"A", float(round_))
        telling.speak()
    assert 0 < len(heard(ear)) < 10_000
    ear.close()
    telling.say(b"I", 1e9)
    telling.speak()
    nobody = Telling(None)
    nobody.say(b"A", 1.0)
    assert nobody.patience_s(1.0) is None
    nobody.speak()

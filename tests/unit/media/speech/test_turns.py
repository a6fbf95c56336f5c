"""Lanes encode by turns: as many at once as the encoder's share of the time asks for."""

from __future__ import annotations

import threading

import pytest

from conserver.media.speech.turns import EncoderTurns

WAIT_S = 20.0


@pytest.mark.parametrize(
    ("lanes", "encoding_s", "decoding_s", "at_once"),
    [
        (1, 0.0, 0.0, 1),
        (2, 0.0, 0.0, 1),
        (4, 0.0, 0.0, 2),
        (2, 2.0, 0.1, 1),  # So little time says nothing.
        (2, 60.0, 40.0, 1),
        (2, 90.0, 10.0, 2),
        (4, 60.0, 40.0, 2),
        (4, 1.0, 99.0, 1),
    ],
)
def test_the_share_of_the_time_is_the_share_of_the_lanes(
    lanes: int, encoding_s: float, decoding_s: float, at_once: int
) -> None:
    turns = EncoderTurns(lanes)
    turns.note(encoding_s=encoding_s, decoding_s=decoding_s)
    assert turns.at_once == at_once


def test_a_lane_waits_for_its_turn_and_an_error_ends_the_turn_of_another() -> None:
    turns = EncoderTurns(2)
    order: list[str] = []

    def encode() -> None:
        with turns.encoding():
            order.append("second")

    other = threading.Thread(target=encode)

    def fail() -> None:
        with turns.encoding():
            other.start()
            order.append("first")
            raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        fail()
    other.join(WAIT_S)
    assert not other.is_alive()
    assert order == ["first", "second"]


def test_who_waits_goes_on_when_more_may_encode_at_once() -> None:
    turns = EncoderTurns(2)
    entered = threading.Event()

    def encode() -> None:
        with turns.encoding():
            entered.set()

    other = threading.Thread(target=encode)
    with turns.encoding():
        other.start()
        turns.note(encoding_s=90.0, decoding_s=10.0)
        assert entered.wait(WAIT_S)
    other.join(WAIT_S)
    assert not other.is_alive()

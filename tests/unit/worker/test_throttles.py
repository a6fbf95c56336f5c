"""What one worker knows of links that nobody may call now."""

from __future__ import annotations

from conserver.worker.throttles import LONGEST_S, Throttles


class Clock:
    """A clock that is put forward by hand."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def test_a_link_that_was_throttled_is_so_until_its_time() -> None:
    clock = Clock()
    throttles = Throttles(clock)
    assert throttles.left_s("hook") == 0.0
    throttles.meet("hook", 30)
    assert throttles.left_s("hook") == 30
    assert throttles.left_s("other") == 0.0
    clock.now_s += 30
    assert throttles.left_s("hook") == 0.0


def test_the_longer_of_two_times_holds() -> None:
    throttles = Throttles(Clock())
    throttles.meet("hook", 30)
    throttles.meet("hook", 5)
    throttles.learn([("hook", 10.0)])
    assert throttles.left_s("hook") == 30
    throttles.learn([("hook", 60.0)])
    assert throttles.left_s("hook") == 60


def test_nobody_is_sent_away_for_longer_than_an_hour() -> None:
    throttles = Throttles(Clock())
    throttles.meet("hook", 86_400)
    assert throttles.left_s("hook") == LONGEST_S


def test_what_was_met_is_told_once() -> None:
    clock = Clock()
    throttles = Throttles(clock)
    for _ in range(8):  # as many threads as have called it at once
        throttles.meet("hook", 30)
        clock.now_s += 0.1
    clock.now_s += 0.2
    [(link, left_s)] = throttles.unreported()
    assert (link, round(left_s, 1)) == ("hook", 29.0)
    assert not list(throttles.unreported())


def test_what_others_have_told_is_not_told_again() -> None:
    throttles = Throttles(Clock())
    throttles.learn([("hook", 30.0)])
    throttles.meet("hook", 30)
    assert not list(throttles.unreported())


def test_what_is_over_is_not_told() -> None:
    clock = Clock()
    throttles = Throttles(clock)
    throttles.meet("hook", 30)
    clock.now_s += 30
    assert not list(throttles.unreported())


def test_a_wait_of_a_moment_is_left_to_who_waits() -> None:
    throttles = Throttles(Clock())
    throttles.meet("hook", 0.5)
    assert throttles.left_s("hook") == 0.0

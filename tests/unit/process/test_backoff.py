"""The backoff between attempts: its range, its growth, its cap."""

from __future__ import annotations

import pytest

from conserver.process.backoff import backoff_s, ceiling_s


@pytest.mark.parametrize(
    ("attempt", "expected"), [(0, 2.0), (1, 2.0), (2, 4.0), (3, 8.0), (9, 512.0), (10, 600.0)]
)
def test_ceiling_doubles_up_to_the_cap(attempt: int, expected: float) -> None:
    """The ceiling is base, 2 base, 4 base ... and never more than the cap."""
    assert ceiling_s(attempt, 2.0, 600.0) == expected


def test_a_huge_attempt_number_does_not_overflow() -> None:
    """An item that was tried a million times waits the cap, and nothing raises."""
    assert ceiling_s(1_000_000, 2.0, 600.0) == 600.0


def test_backoff_lies_between_half_the_ceiling_and_the_ceiling() -> None:
    assert backoff_s(3, 2.0, 600.0, lambda: 0.0) == 4.0
    assert backoff_s(3, 2.0, 600.0, lambda: 1.0) == 8.0


def test_draws_differ_without_a_given_source() -> None:
    """The default source is random: 50 equal waits would be no jitter."""
    assert len({backoff_s(5, 2.0, 600.0) for _ in range(50)}) > 1

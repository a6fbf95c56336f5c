"""How often a bad token may be tried, and a good one used."""

from __future__ import annotations

from conserver.http.api.auth import ADDRESSES_MAX, FAILURES_MAX, FAILURES_WINDOW_S, Failures, Rates


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def test_bad_tokens_are_counted_by_address() -> None:
    clock = Clock()
    failures = Failures(clock)
    for _ in range(FAILURES_MAX):
        assert failures.wait_s("a") == 0
        failures.count("a")
    assert failures.wait_s("a") == FAILURES_WINDOW_S
    assert failures.wait_s("b") == 0
    clock.now_s += FAILURES_WINDOW_S
    assert failures.wait_s("a") == 0
    failures.count("a")
    assert failures.wait_s("a") == 0


def test_addresses_are_kept_within_a_bound() -> None:
    failures = Failures(Clock())
    for number in range(ADDRESSES_MAX + 10):
        failures.count(str(number))
    assert len(failures._counts) == ADDRESSES_MAX


def test_a_bucket_allows_a_burst_and_holds_the_average() -> None:
    clock = Clock()
    rates = Rates(60, clock)
    assert [rates.wait_s("a") for _ in range(60)] == [0.0] * 60
    assert rates.wait_s("a") == 1.0
    assert rates.wait_s("b") == 0.0
    clock.now_s += 2
    assert [rates.wait_s("a") for _ in range(3)] == [0.0, 0.0, 1.0]
    clock.now_s += 3600
    assert sum(rates.wait_s("a") == 0 for _ in range(100)) == 60


def test_without_a_rate_there_is_no_limit() -> None:
    rates = Rates(0)
    assert all(rates.wait_s("a") == 0 for _ in range(10_000))

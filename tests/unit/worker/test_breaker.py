"""breaker.py: when calls are made, and with how many documents. The tests pass the times."""

from __future__ import annotations

from conserver.worker.breaker import FIRST_PAUSE_S, LONGEST_PAUSE_S, Breaker

MOST = 256


def failed_times(count: int, after_s: float | None = None) -> Breaker:
    """A breaker after that many failures at time 0."""
    breaker = Breaker(MOST)
    for _ in range(count):
        breaker.failed(0.0, "away", after_s)
    return breaker


def test_a_closed_breaker_allows_the_maximum() -> None:
    breaker = Breaker(MOST)
    assert breaker.documents_allowed(0.0) == MOST
    assert not breaker.succeeded()
    assert breaker.documents_allowed(1.0) == MOST


def test_the_first_failure_opens_it() -> None:
    breaker = Breaker(MOST)
    assert breaker.failed(0.0, "gone")
    assert not breaker.failed(0.1, "gone again")
    assert breaker.reason == "gone again"
    assert breaker.documents_allowed(0.2) == 0


def test_one_document_is_allowed_when_the_pause_is_over() -> None:
    breaker = failed_times(1)
    assert breaker.documents_allowed(FIRST_PAUSE_S * 0.49) == 0
    assert breaker.documents_allowed(FIRST_PAUSE_S * 1.01) == 1


def test_pauses_grow_up_to_a_bound() -> None:
    assert failed_times(3).documents_allowed(FIRST_PAUSE_S * 4 * 0.49) == 0
    assert failed_times(3).documents_allowed(FIRST_PAUSE_S * 4 * 1.01) == 1
    # Thousands of failures must not overflow the exponent.
    assert failed_times(10_000).documents_allowed(LONGEST_PAUSE_S * 1.01) == 1


def test_the_pause_that_a_storage_asks_for_is_kept() -> None:
    breaker = failed_times(1, after_s=100.0)
    assert breaker.documents_allowed(99.0) == 0
    assert breaker.documents_allowed(100.0) == 1


def test_a_success_closes_it_and_the_limit_grows_fourfold() -> None:
    breaker = failed_times(5)
    assert breaker.succeeded()
    grown = [breaker.documents_allowed(0.0)]
    while grown[-1] < MOST:
        assert not breaker.succeeded()
        grown.append(breaker.documents_allowed(0.0))
    assert grown == [4, 16, 64, 256]
    breaker.succeeded()
    assert breaker.documents_allowed(0.0) == MOST


def test_a_failed_probe_doubles_the_pause() -> None:
    breaker = failed_times(1)
    assert not breaker.failed(1.0, "still away")
    assert breaker.documents_allowed(1.0 + FIRST_PAUSE_S * 2 * 0.49) == 0
    breaker.succeeded()
    assert breaker.failed(10.0, "away once more"), "it was closed, so this opens it"
    assert breaker.documents_allowed(10.0 + FIRST_PAUSE_S * 1.01) == 1


def test_items_come_back_after_the_probe_and_not_all_at_once() -> None:
    breaker = failed_times(1, after_s=10.0)
    waits = [breaker.retry_after_s(4.0) for _ in range(200)]
    assert all(6.1 <= wait <= 6.0 + 1.0 + 3.0 for wait in waits)
    assert max(waits) - min(waits) > 2.0


def test_items_wait_a_little_although_the_pause_is_over() -> None:
    breaker = failed_times(1)
    assert all(0.1 <= breaker.retry_after_s(99.0) <= 1.0 for _ in range(50))

"""prefetch.py: the moving averages of durations. test_intake.py tests how much is claimed."""

from __future__ import annotations

from conserver.worker.prefetch import ItemDurations


def test_one_item_per_horizon_while_none_was_measured() -> None:
    assert ItemDurations().items_per_horizon("a", 4) == 1


def test_as_many_as_the_threads_finish_within_the_horizon() -> None:
    durations = ItemDurations()
    durations.add("a", 0.002)
    assert durations.items_per_horizon("a", 1) == 50
    assert durations.items_per_horizon("a", 4) == 200
    assert durations.items_per_horizon("b", 4) == 1


def test_at_least_one_item_per_horizon() -> None:
    durations = ItemDurations()
    durations.add("a", 30.0)
    assert durations.items_per_horizon("a", 8) == 1


def test_a_slow_item_moves_the_average_at_once_and_fast_ones_little_by_little() -> None:
    durations = ItemDurations()
    for _ in range(20):
        durations.add("a", 0.001)
    assert durations.items_per_horizon("a", 1) == 100
    durations.add("a", 2.0)
    assert durations.items_per_horizon("a", 1) == 1
    for _ in range(10):
        durations.add("a", 0.001)
    assert durations.items_per_horizon("a", 1) == 1
    for _ in range(100):
        durations.add("a", 0.001)
    assert durations.items_per_horizon("a", 1) >= 50


def test_items_that_take_no_time_have_a_bound() -> None:
    durations = ItemDurations()
    durations.add("a", 0.0)
    assert durations.items_per_horizon("a", 1) == 100_000


def test_any_within_looks_at_all_chains() -> None:
    durations = ItemDurations()
    assert not durations.any_within(0.003), "none was measured"
    durations.add("slow", 0.02)
    assert not durations.any_within(0.003)
    durations.add("quick", 0.001)
    assert durations.any_within(0.003)

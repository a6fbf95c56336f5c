"""When another host is declared dead."""

from __future__ import annotations

from conserver.coordinator.reaper import Watch


def looks(watch: Watch, beats: dict[str, str], start_s: float, stop_s: float) -> dict[str, str]:
    """Look every second; the last answer."""
    dead: dict[str, str] = {}
    for second in range(int(start_s), int(stop_s) + 1):
        dead = watch.look(beats, second, second + 0.01)
    return dead


def test_a_beat_must_stand_still_for_a_whole_lease() -> None:
    watch = Watch(lease_s=30, every_s=1)
    assert not looks(watch, {"a": "1", "b": "1"}, 0, 30)
    assert watch.look({"a": "1", "b": "2"}, 31, 31.01) == {"a": "1"}


def test_a_watch_that_was_restarted_begins_anew() -> None:
    watch = Watch(lease_s=30, every_s=1)
    looks(watch, {"a": "1"}, 0, 29)
    watch.restart()
    assert not looks(watch, {"a": "1"}, 30, 60)
    assert watch.look({"a": "1"}, 61, 61.01) == {"a": "1"}


def test_a_watcher_that_slept_or_waited_long_begins_anew() -> None:
    slept, waited = Watch(lease_s=30, every_s=1), Watch(lease_s=30, every_s=1)
    looks(slept, {"a": "1"}, 0, 20)
    assert not slept.look({"a": "1"}, 40, 40.01)
    looks(waited, {"a": "1"}, 0, 29)
    assert not waited.look({"a": "1"}, 30, 31.5)
    assert not looks(waited, {"a": "1"}, 32, 61)


def test_a_host_that_was_away_is_seen_anew() -> None:
    watch = Watch(lease_s=3, every_s=1)
    looks(watch, {"a": "1"}, 0, 2)
    watch.look({}, 3, 3.01)
    assert not watch.look({"a": "1"}, 4, 4.01)

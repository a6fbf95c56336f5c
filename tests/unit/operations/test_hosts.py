"""How the rate is measured from beats that come every few seconds."""

from __future__ import annotations

from conserver.operations.hosts import Host, Throughput


def host(at_s: float, *done: tuple[int, int], silent: bool = False) -> Host:
    """A host as of its beat at `at_s`, with (pid, items done) of its workers."""
    return Host(
        id="h",
        name="h",
        version="1",
        pid=1,
        state="running",
        started_at=0,
        beat_at=at_s,
        beat_age_s=60 if silent else 0,
        lease_s=30,
        lists=[],
        storages=[],
        workers=[{"slot": n, "pid": pid, "done": count} for n, (pid, count) in enumerate(done)],
    )


def test_one_beat_tells_no_rate() -> None:
    """What was done before the first look is no measure of now."""
    rate = Throughput()
    assert rate.look([host(1, (10, 400))]) is None
    assert rate.look([host(1, (10, 400))]) is None
    assert Throughput().look([]) is None


def test_a_look_that_meets_the_same_beat_again_changes_nothing() -> None:
    """Looking every second at beats of every three does not make the rate jump to nothing."""
    rate = Throughput()
    rate.look([host(0, (10, 100))])
    assert rate.look([host(3, (10, 160))]) == 20
    assert rate.look([host(3, (10, 160))]) == 20


def test_a_worker_that_is_replaced_counts_from_nothing() -> None:
    """Its successor's items are added, and those of the dead one are not taken back."""
    rate = Throughput()
    rate.look([host(0, (10, 100), (11, 50))])
    assert rate.look([host(2, (10, 110), (12, 30))]) == 20


def test_only_the_last_while_counts() -> None:
    """A burst of an hour ago is over, and a host that is silent does nothing."""
    rate = Throughput()
    rates = [
        rate.look([host(at_s, (10, done))])
        for at_s, done in ((0, 0), (3, 3000), (30, 3000), (40, 3000))
    ]
    assert rates[-1] == 0
    assert rate.look([host(43, (10, 3300), silent=True)]) is None

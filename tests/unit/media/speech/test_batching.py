"""Which windows are computed together: keys, turns, lanes, suspects."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from conserver.media.speech.batching import Batcher


@dataclass(frozen=True)
class Row:
    call: str
    number: int = 0
    key: str = "k"
    suspicion: int = 0
    crowd: int = 1


def batcher_of(*rows: Row, rows_max: int = 8, gather_s: float = 0.0) -> Batcher[Row]:
    batcher: Batcher[Row] = Batcher(rows_max, gather_s)
    for row in rows:
        batcher.put(row, 0.0)
    return batcher


def take(batcher: Batcher[Row], lanes: int = 1, now_s: float = 100.0) -> list[Row]:
    taken = batcher.take(lanes, now_s)
    if taken is None:
        return []
    batcher.finish(taken[0])
    return taken[1]


def test_rows_of_several_calls_share_a_batch() -> None:
    batcher = batcher_of(*(Row(call) for call in "abc"))
    assert {row.call for row in take(batcher)} == {"a", "b", "c"}
    assert len(batcher) == 0


def test_rows_of_other_keys_do_not() -> None:
    batcher = batcher_of(Row("a", key="x"), Row("b", key="y"), Row("c", key="x"))
    assert {row.call for row in take(batcher)} == {"a", "c"}
    assert [row.call for row in take(batcher)] == ["b"]
    assert take(batcher) == []


def test_a_short_call_is_in_the_next_batch_however_much_a_long_one_has_waiting() -> None:
    long_call = [Row("long", number) for number in range(240)]
    batcher = batcher_of(*long_call)
    for _ in range(5):
        take(batcher)
    batcher.put(Row("short"), 1.0)
    assert "short" in {row.call for row in take(batcher)}


def test_a_long_call_goes_on_beside_a_stream_of_short_ones() -> None:
    batcher = batcher_of(*(Row("long", number) for number in range(20)), rows_max=4)
    short, done = 0, 0
    for short in range(7):
        batcher.put(Row(f"short {short}"), 0.0)
    for turn in range(10):
        for row in take(batcher):
            done += row.call == "long"
            if row.call != "long":  # As slots do: another one comes for each that has ended.
                batcher.drop(row.call)
                short += 1
                batcher.put(Row(f"short {short}"), float(turn))
    assert done >= 4


def test_rows_of_a_call_keep_their_order() -> None:
    batcher = batcher_of(*(Row("a", number) for number in range(5)), rows_max=2)
    taken = [row.number for _ in range(3) for row in take(batcher)]
    assert taken == [0, 1, 2, 3, 4]


def test_what_waits_is_shared_among_all_lanes_so_that_they_end_together() -> None:
    batcher = batcher_of(*(Row("a", number) for number in range(10)), rows_max=4)
    assert [len(take(batcher, lanes=2)) for _ in range(5)] == [4, 3, 2, 1, 0]


def test_a_batch_that_is_not_full_waits_for_more_for_a_while() -> None:
    batcher = batcher_of(Row("a"), gather_s=0.01)
    assert take(batcher, now_s=0.005) == []
    assert batcher.due_in_s(0.004) == 0.006
    assert take(batcher, now_s=0.01) == [Row("a")]
    assert batcher.due_in_s(0.02) is None


def test_a_full_batch_does_not_wait() -> None:
    batcher = batcher_of(Row("a"), Row("b"), rows_max=2, gather_s=1.0)
    assert len(take(batcher, now_s=0.0)) == 2


def test_a_call_that_is_dropped_takes_its_rows_along() -> None:
    batcher = batcher_of(Row("a"), Row("b"))
    batcher.drop("a")
    assert take(batcher) == [Row("b")]


def test_suspects_of_one_death_run_in_halves_and_apart_from_others() -> None:
    suspects = [Row("a", number, suspicion=1, crowd=8) for number in range(8)]
    batcher = batcher_of(*suspects, Row("b"))
    sizes = []
    while batch := take(batcher):
        assert len({row.suspicion for row in batch}) == 1
        sizes.append((batch[0].suspicion, len(batch)))
    assert sorted(sizes) == [(0, 1), (1, 4), (1, 4)]


def test_suspects_of_two_deaths_run_alone_in_the_whole_process() -> None:
    suspects = [Row("a", number, suspicion=2, crowd=4) for number in range(2)]
    batcher = batcher_of(Row("b"), rows_max=8)
    other = batcher.take(2, 1.0)
    assert other is not None
    for suspect in suspects:
        batcher.put(suspect, 1.0)
    batcher.put(Row("c"), 1.0)
    assert batcher.take(1, 2.0) is None  # Another batch is at work.
    batcher.finish(other[0])
    alone = batcher.take(2, 3.0)
    assert alone is not None
    assert len(alone[1]) == 1
    assert alone[1][0].suspicion == 2
    assert batcher.take(1, 3.0) is None  # Nothing begins beside it.
    batcher.finish(alone[0])
    assert take(batcher)[0].suspicion == 2
    assert take(batcher) == [Row("c")]


@given(
    st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from("xy"), st.integers(0, 3))),
    st.integers(1, 5),
    st.integers(1, 3),
)
def test_every_row_is_given_out_once(
    rows: list[tuple[str, str, int]], rows_max: int, lanes: int
) -> None:
    wanted = [Row(call, n, key, suspicion, 4) for n, (call, key, suspicion) in enumerate(rows)]
    batcher = batcher_of(*wanted, rows_max=rows_max)
    given_out: list[Row] = []
    while batch := take(batcher, lanes):
        assert 1 <= len(batch) <= rows_max
        assert len({row.key for row in batch}) == 1
        given_out += batch
    assert sorted(given_out, key=lambda row: row.number) == wanted

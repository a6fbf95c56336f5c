"""Chooses the windows of the next batch. Pure logic, without threads and clock.

A window in a batch is called a row.

1. Rows with equal keys may share a batch, from any calls.
2. Calls take turns, row by row, in the order of their arrival or last turn. So a short call gets
   into the next batch, unless more calls wait before it than a batch has rows; and a stream of
   short calls does not delay a long call.
3. A free lane gets a batch once it is full, or once its oldest row has waited for `gather_s`. The
   waiting rows are divided among all lanes, so that the lanes finish together.
4. A row that was being computed when a transcriber died is a suspect. The suspects of one death run
   in batches of half the size. After a second death each runs alone, while no other batch runs. So
   a window that kills the transcriber is identified, and no other window is blamed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterator
from typing import Generic, Protocol, TypeVar


class Row(Protocol):
    """A window that waits to be computed."""

    @property
    def call(self) -> Hashable:
        """The call that the row belongs to."""

    @property
    def key(self) -> Hashable:
        """Rows with equal keys may share a batch."""

    @property
    def suspicion(self) -> int:
        """At how many deaths of a transcriber the row was being computed."""

    @property
    def crowd(self) -> int:
        """How many rows the batch had at the latest of these deaths."""


R = TypeVar("R", bound=Row)


class _Line(Generic[R]):
    """The waiting rows of one call, and the time of its arrival or last turn."""

    def __init__(self, turn: int) -> None:
        self.turn = turn
        self.rows: deque[tuple[R, float]] = deque()


class Batcher(Generic[R]):
    """The waiting rows of all calls. Not thread-safe."""

    def __init__(self, rows_max: int, gather_s: float = 0.0) -> None:
        """
        Args:
            rows_max: rows of a full batch.
            gather_s: how long a batch that is not full waits for more rows.
        """
        self.rows_max = rows_max
        """Rows of a full batch; may be changed at any time."""
        self._gather_s = gather_s
        self._lines: dict[Hashable, _Line[R]] = {}
        self._begun: dict[int, bool] = {}
        self._turns = 0

    def __len__(self) -> int:
        return sum(len(line.rows) for line in self._lines.values())

    @property
    def at_work(self) -> int:
        """How many batches are being computed."""
        return len(self._begun)

    def put(self, row: R, now_s: float) -> None:
        """Add a row."""
        line = self._lines.get(row.call)
        if line is None:
            line = self._lines[row.call] = _Line(self._next_turn())
        line.rows.append((row, now_s))

    def drop(self, call: Hashable) -> None:
        """Remove a call and all of its waiting rows."""
        self._lines.pop(call, None)

    def due_in_s(self, now_s: float) -> float | None:
        """How long until an incomplete batch may be computed; None if no row waits."""
        waiting = [line.rows[0][1] for line in self._lines.values() if line.rows]
        return max(0.0, min(waiting) + self._gather_s - now_s) if waiting else None

    def take(self, lanes: int, now_s: float) -> tuple[int, list[R]] | None:
        """The next batch for a free lane: its number, for `finish`, and its rows.

        Args:
            lanes: the number of lanes, including this one.
            now_s: the time, by the same clock as in `put`.

        Returns:
            None if no batch may be computed now.
        """
        if any(self._begun.values()):
            return None  # A suspect is being computed alone.
        if alone := self._next(lambda row: row.suspicion > 1):
            # A suspect waits until all batches are finished. No other batch begins before it.
            return None if self._begun else self._begin(self._fill(alone, 1), alone=True)
        first = self._next(lambda _: True)
        if first is None:
            return None
        if first.suspicion:
            limit = min(self.rows_max, max(1, first.crowd // 2))
        else:
            limit = min(self.rows_max, -(-len(self) // max(1, lanes)))
        alike = sum(self._fits(row, first) for line in self._lines.values() for row, _ in line.rows)
        if alike < self.rows_max and (self.due_in_s(now_s) or 0.0) > 0:
            return None
        return self._begin(self._fill(first, limit), alone=False)

    def finish(self, number: int) -> None:
        """A batch is done."""
        self._begun.pop(number, None)

    def _begin(self, rows: list[R], *, alone: bool) -> tuple[int, list[R]]:
        number = self._next_turn()
        self._begun[number] = alone
        return number, rows

    def _next_turn(self) -> int:
        self._turns += 1
        return self._turns

    def _next(self, wanted: Callable[[R], bool]) -> R | None:
        """The first row that is `wanted`, of the first call in turn that has one."""
        for line in self._by_turn():
            for row, _ in line.rows:
                if wanted(row):
                    return row
        return None

    def _by_turn(self) -> list[_Line[R]]:
        return sorted(self._lines.values(), key=lambda line: line.turn)

    def _fill(self, first: R, limit: int) -> list[R]:
        """Take up to `limit` rows like `first`, one of each call at a time."""
        rows: list[R] = []
        lines = deque(self._by_turn())
        while lines and len(rows) < limit:
            line = lines.popleft()
            row = self._pop(line, first)
            if row is not None:
                rows.append(row)
                line.turn = self._next_turn()
                lines.append(line)
        return rows

    def _pop(self, line: _Line[R], first: R) -> R | None:
        """Take the oldest row of a call that is like `first`; None if it has none."""
        for index, (row, _) in enumerate(line.rows):
            if self._fits(row, first):
                del line.rows[index]
                return row
        return None

    def _fits(self, row: R, first: R) -> bool:
        return row.key == first.key and min(row.suspicion, 2) == min(first.suspicion, 2)

    def __iter__(self) -> Iterator[R]:
        return (row for line in self._lines.values() for row, _ in line.rows)

"""Which windows are computed together: pure logic, no threads, no clock of its own.

1. Windows with equal keys share a batch, whichever calls they are of.
2. Calls take turns, row by row, in the order in which they came or had their last turn. So a short
   call is in the next batch unless more calls than it has rows are before it, however much each of
   them has waiting, and a long one is not kept waiting by a stream of short ones.
3. A batch is given out when a lane is free: at once if it is full or if its oldest row has waited
   for `gather_s`. What waits is shared out among all lanes, so that they end together.
4. A row that was at work when a transcriber died is suspected. Suspects of one death run in batches
   of half its size, and after a second death each of them alone, with no other batch at work: so a
   window that kills is found out by itself, and no other one is taken for it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterator
from typing import Generic, Protocol, TypeVar


class Row(Protocol):
    """A window that waits to be computed."""

    @property
    def call(self) -> Hashable:
        """Whose it is: rows of one call stand in one line."""

    @property
    def key(self) -> Hashable:
        """Rows with equal keys may share a batch."""

    @property
    def suspicion(self) -> int:
        """How many deaths of a transcriber it was at work in."""

    @property
    def crowd(self) -> int:
        """How many rows were in that batch."""


R = TypeVar("R", bound=Row)


class _Line(Generic[R]):
    """The rows of one call, and when it came or had its last turn."""

    def __init__(self, turn: int) -> None:
        self.turn = turn
        self.rows: deque[tuple[R, float]] = deque()


class Batcher(Generic[R]):
    """The rows that wait. Not safe to use from several threads at once."""

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
        """Batches that were given out and are not finished."""
        return len(self._begun)

    def put(self, row: R, now_s: float) -> None:
        """Let a row wait."""
        line = self._lines.get(row.call)
        if line is None:
            line = self._lines[row.call] = _Line(self._next_turn())
        line.rows.append((row, now_s))

    def drop(self, call: Hashable) -> None:
        """Forget a call and all of its rows that wait."""
        self._lines.pop(call, None)

    def due_in_s(self, now_s: float) -> float | None:
        """How long until a batch that is not full may be given out; None if nothing waits."""
        waiting = [line.rows[0][1] for line in self._lines.values() if line.rows]
        return max(0.0, min(waiting) + self._gather_s - now_s) if waiting else None

    def take(self, lanes: int, now_s: float) -> tuple[int, list[R]] | None:
        """The next batch for a lane that is free: its number, for `finish`, and its rows.

        Args:
            lanes: how many lanes there are, this one included.
            now_s: the time of the clock that `put` was given.

        Returns:
            None if nothing is to be computed now.
        """
        if any(self._begun.values()):
            return None  # A suspect is at work alone.
        if alone := self._next(lambda row: row.suspicion > 1):
            # It waits for the others to finish, and nothing new begins before it.
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
        """The first row that is wanted of the call whose turn it is."""
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

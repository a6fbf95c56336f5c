"""Orders recognized lines: rows from top to bottom, but columns of prose one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import atan2, cos, sin
from statistics import median

Quad = Sequence[Sequence[float]]
"""The corners of a line: top left, top right, bottom right, bottom left, each (x, y)."""

# Boxes are in one row if their centres are closer than this fraction of their height.
_ROW_SHARE = 0.5
# Columns of prose differ from tables and forms: at least so many adjacent rows share a gap, and
# lines fill most of their column.
_COLUMN_ROWS = 4
_FILL = 0.6
_CHARACTERS = 15
# A gap between paragraphs, in heights of a line from centre to centre.
_PARAGRAPH = 1.6


@dataclass(frozen=True, slots=True)
class _Line:
    left: float
    right: float
    middle: float
    height: float
    text: str


_Row = list[_Line]
_Span = tuple[float, float]


def text_of(quads: Sequence[Quad], texts: Sequence[str]) -> str:
    """The texts in reading order."""
    return _joined(_parts(quads, texts))


def text_in_columns(quads: Sequence[Quad], texts: Sequence[str]) -> str | None:
    """The texts in reading order, if they are columns of prose; else None."""
    parts = _parts(quads, texts)
    return _joined(parts) if len(parts) > 1 else None


def _parts(quads: Sequence[Quad], texts: Sequence[str]) -> list[list[_Row]]:
    lines = _level(quads, texts)
    parts: list[list[_Row]] = []
    _arrange(_rows(lines), parts)
    return parts


def _joined(parts: list[list[_Row]]) -> str:
    return "\n\n".join("\n".join(_written(part)) for part in parts)


def _level(quads: Sequence[Quad], texts: Sequence[str]) -> list[_Line]:
    """The lines, rotated so that the page is not skewed."""
    if not quads:
        return []
    slants = [
        (atan2(quad[1][1] - quad[0][1], quad[1][0] - quad[0][0]), quad[1][0] - quad[0][0])
        for quad in quads
    ]
    # Long lines show the angle most precisely.
    longest = sorted(slants, key=lambda one: one[1])[len(slants) // 2 :]
    angle = median(slant for slant, _ in longest)
    across, down = cos(angle), sin(angle)
    lines = []
    for quad, text in zip(quads, texts, strict=True):
        xs = [x * across + y * down for x, y in quad]
        ys = [y * across - x * down for x, y in quad]
        left_side, right_side = ys[3] - ys[0], ys[2] - ys[1]
        height = max(1.0, (abs(left_side) + abs(right_side)) / 2)
        lines.append(_Line(min(xs), max(xs), sum(ys) / 4, height, text))
    return lines


def _rows(lines: Sequence[_Line]) -> list[_Row]:
    """Groups lines into rows. Rows are ordered from top to bottom, lines from left to right."""
    rows: list[_Row] = []
    for line in sorted(lines, key=lambda one: one.middle):
        row = rows[-1] if rows else []
        # Compare with the first line of the row, so that sloping lines do not join several rows.
        if row and line.middle - row[0].middle < _ROW_SHARE * min(line.height, row[0].height):
            row.append(line)
        else:
            rows.append([line])
    for row in rows:
        row.sort(key=lambda one: one.left)
    return rows


def _arrange(rows: list[_Row], parts: list[list[_Row]]) -> None:
    """Append the rows to `parts`; rows in columns of prose are appended column by column."""
    plain: list[_Row] = []
    at = 0
    while at < len(rows):
        end, gap = _columns(rows, at)
        if gap is None:
            plain.append(rows[at])
            at += 1
            continue
        if plain:
            parts.append(plain)
            plain = []
        cut = (gap[0] + gap[1]) / 2
        block = [line for row in rows[at:end] for line in row]
        for side in (
            [line for line in block if line.right <= cut],
            [line for line in block if line.right > cut],
        ):
            _arrange(_rows(side), parts)
        at = end
    if plain:
        parts.append(plain)


def _columns(rows: list[_Row], start: int) -> tuple[int, _Span | None]:
    """How many rows from `start` on share a gap between columns of prose, and the gap."""
    best: tuple[int, _Span | None] = (start, None)
    for gap in _gaps(rows, start):
        span, end = gap, start
        last_both = start
        while end < len(rows):
            narrowed = _narrowed(span, rows[end])
            if narrowed is None:
                break
            span = narrowed
            end += 1
            if rows[end - 1][0].left < span[0] and rows[end - 1][-1].right > span[1]:
                last_both = end
        if last_both > best[0] and _is_prose(rows[start:end], span):
            best = (end, span)
    return best


def _gaps(rows: list[_Row], start: int) -> list[_Span]:
    """The gaps between the lines of a row that are wide enough to separate columns."""
    row = rows[start]
    least = median(line.height for line in row)
    pairs = pairwise(row)
    return [(one.right, two.left) for one, two in pairs if two.left - one.right >= least]


def _narrowed(span: _Span, row: _Row) -> _Span | None:
    """The part of the gap that the row leaves free; None if a line of the row crosses the gap."""
    left, right = span
    centre = (left + right) / 2
    for line in row:
        if line.right <= centre:
            left = max(left, line.right)
        elif line.left >= centre:
            right = min(right, line.left)
        else:
            return None
    least = 0.7 * median(line.height for line in row)
    return (left, right) if right - left >= least else None


def _is_prose(rows: list[_Row], gap: _Span) -> bool:
    """Whether there is running text on both sides of a gap."""
    cut = (gap[0] + gap[1]) / 2
    lines = [line for row in rows for line in row]
    for side in (
        [line for line in lines if line.right <= cut],
        [line for line in lines if line.right > cut],
    ):
        if len(side) < _COLUMN_ROWS:
            return False
        width = max(line.right for line in side) - min(line.left for line in side)
        if median(line.right - line.left for line in side) < _FILL * width:
            return False
        if median(len(line.text) for line in side) < _CHARACTERS:
            return False
    return True


def _written(rows: list[_Row]) -> list[str]:
    """One text per row, and an empty text after each paragraph."""
    steps = [two[0].middle - one[0].middle for one, two in pairwise(rows)]
    usual = median(steps) if steps else 0.0
    written: list[str] = []
    for number, row in enumerate(rows):
        if number and steps[number - 1] > _PARAGRAPH * usual:
            written.append("")
        written.append(" ".join(line.text.strip() for line in row))
    return written

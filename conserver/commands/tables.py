"""Tables for people: as wide as the terminal is, and a line per row in a file or a pipe.

1. On a terminal the last column, a table's free text, is wrapped. Where that leaves it too little
   room, it goes under its row, and other columns with it as far as needed: what is left of the row
   still stands in columns.
2. What goes to a file or a pipe is for grep: nothing is wrapped, and no line ends in blanks.
3. Control characters are made visible: a producer's text must not drive the reader's terminal.
4. Colour is for terminals, and for those who want it (NO_COLOR).
"""

from __future__ import annotations

import os
import shutil
import textwrap
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TextIO

from conserver.redact import printable

_GAP = "  "
_INDENT = "    "
_COLUMNS_MIN = 2  # So many stay in the row, however narrow the terminal is.
_FREE_TEXT_MIN = 30  # The last column stays, and is wrapped, where it has so much room.
_WIDTH_MIN = 40

Style = Literal["", "bold", "good", "warning", "bad"]
_CODES = {"bold": "1", "good": "32", "warning": "33", "bad": "31"}


@dataclass(frozen=True, slots=True)
class Marked:
    """A cell that stands out on a terminal."""

    value: object
    style: Style


@dataclass(frozen=True, slots=True)
class Screen:
    """Where text goes: its width (None is a file or a pipe) and whether it is coloured."""

    width: int | None = None
    coloured: bool = False

    @classmethod
    def of(cls, stream: TextIO, environ: Mapping[str, str] = os.environ) -> Screen:
        """The screen that `stream` is."""
        if not stream.isatty():
            return cls()
        width = max(shutil.get_terminal_size().columns, _WIDTH_MIN)
        return cls(width, not environ.get("NO_COLOR") and environ.get("TERM") != "dumb")

    def style(self, text: str, name: Style) -> str:
        """`text` in a style, where there are any."""
        return f"\x1b[{_CODES[name]}m{text}\x1b[0m" if self.coloured and name and text else text


def lines_of(
    screen: Screen, columns: Sequence[str], rows: Sequence[Sequence[object]]
) -> Iterator[str]:
    """The lines of a table. The last column is its free text: the first to leave the row."""
    cells = [[_text(cell) for cell in row] for row in rows]
    numeric = [_is_numeric([row[n] for row in rows]) for n in range(len(columns))]
    widths = [
        max([len(name), *(_width(row[n]) for row in cells)]) for n, name in enumerate(columns)
    ]
    kept = _fitting(screen.width, widths)
    shown = widths[:kept]
    if kept == len(widths) and screen.width is not None:
        shown[-1] = min(shown[-1], screen.width - _span(widths[:-1]) - len(_GAP))
    yield _line(list(zip(columns, columns, strict=True))[:kept], shown, numeric, screen, "bold")
    for row, texts in zip(rows, cells, strict=True):
        first, *more = _wrapped(texts[kept - 1], shown[-1], screen)
        texts_of_row = [*texts[: kept - 1], first]
        yield _line(list(zip(row, texts_of_row, strict=False)), shown, numeric, screen)
        margin = " " * (_span(shown[:-1]) + len(_GAP))
        yield from (margin + part for part in more)
        yield from _below(columns[kept:], texts[kept:], screen)


def _fitting(width: int | None, widths: Sequence[int]) -> int:
    """How many columns, from the left, fit the screen; the free text may be wrapped in its own."""
    kept = len(widths)
    if width is None or _span([*widths[:-1], min(widths[-1], _FREE_TEXT_MIN)]) <= width:
        return kept
    while kept > _COLUMNS_MIN and (kept == len(widths) or _span(widths[:kept]) > width):
        kept -= 1
    return kept


def _span(widths: Sequence[int]) -> int:
    return sum(widths) + len(_GAP) * (len(widths) - 1)


def _wrapped(text: str, width: int, screen: Screen, *, cut: bool = True) -> list[str]:
    """`text` in lines; a word that is longer than a line is `cut` where a column must be kept."""
    if screen.width is None or _width(text) <= width:
        return [text]
    parts = textwrap.wrap(text, max(width, 1), break_on_hyphens=False, break_long_words=cut)
    return parts or [""]


def _line(
    cells: Sequence[tuple[object, str]],
    widths: Sequence[int],
    numeric: Sequence[bool],
    screen: Screen,
    style: Style = "",
) -> str:
    parts = []
    for (cell, text), width, right in zip(cells, widths, numeric[: len(widths)], strict=True):
        blanks = " " * (width - _width(text))
        shown = screen.style(text, cell.style if isinstance(cell, Marked) else style)
        parts.append(blanks + shown if right else shown + blanks)
    return _GAP.join(parts).rstrip()


def _below(columns: Sequence[str], texts: Sequence[str], screen: Screen) -> Iterator[str]:
    """What did not fit the row: named, except for the free text at its end."""
    named = [f"{name}: {text}" for name, text in zip(columns, texts, strict=True) if text]
    if texts and texts[-1]:
        named[-1] = texts[-1]
    text, width = ", ".join(named), (screen.width or 0) - len(_INDENT)
    if text:
        yield from (_INDENT + part for part in _wrapped(text, width, screen, cut=False))


def _is_numeric(cells: Sequence[object]) -> bool:
    values = [cell.value if isinstance(cell, Marked) else cell for cell in cells]
    given = [value for value in values if value not in ("", None)]
    return bool(given) and all(
        isinstance(value, (int, float)) and not isinstance(value, bool) for value in given
    )


def _text(cell: object) -> str:
    value = cell.value if isinstance(cell, Marked) else cell
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.1f}"
    return printable(str(value))


def _width(text: str) -> int:
    """Columns on a terminal: wide characters take two, combining ones none."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1
        for c in text
    )

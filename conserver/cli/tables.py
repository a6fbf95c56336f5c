"""Draws tables with Rich: as wide as the terminal, or with one line per row in a file or a pipe.

1. On a terminal the last column, which holds free text, is wrapped. If it would be too narrow, its
   text is printed below the row, and as many other columns from the right as needed. A uuid is
   never broken.
2. In a file or a pipe no line is wrapped, so that grep finds rows, and no line ends in blanks.
3. Secrets are hidden. A line break in a cell becomes a space, and other control characters are
   escaped, so that a producer's text cannot control the reader's terminal.
4. Colours are used on terminals only, and not if NO_COLOR is set.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Literal, TextIO

from rich.cells import cell_len
from rich.console import Console, JustifyMethod, RenderableType
from rich.segment import Segment, Segments
from rich.table import Table
from rich.text import Text

from conserver.telemetry.redact import printable, redact_text

_BREAKS = re.compile(r"\s*[\r\n]\s*")
_GAP = 2
_INDENT = "    "
_COLUMNS_MIN = 2  # So many columns stay in the row, however narrow the terminal is.
_FREE_TEXT_MIN = 30  # The last column stays in the row if it has so much room.
_WIDTH_MIN = 40
_FILE_WIDTH = 1_000_000

Style = Literal["", "bold", "good", "warning", "bad"]
_STYLES = {"": "", "bold": "bold", "good": "green", "warning": "yellow", "bad": "red"}


@dataclass(frozen=True, slots=True)
class Marked:
    """A cell that stands out on a terminal."""

    value: object
    style: Style


def screen(stream: TextIO) -> Console:
    """A console for `stream`, as wide as its terminal; for a file, wide enough for any row."""
    terminal = stream.isatty()
    found = Console(
        file=stream, force_terminal=terminal, width=None if terminal else _FILE_WIDTH, markup=False,
        highlight=False, emoji=False,
    )  # fmt: skip
    found.width = max(found.width, _WIDTH_MIN)
    return found


def styled(to: Console, text: str, style: Style) -> str:
    """`text` in a style; unchanged if the console shows no styles."""
    return "".join(_drawn(to, Text(text, _STYLES[style]), _FILE_WIDTH))


def lines_of(to: Console, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    """The lines of a table. The last column is its free text, which is wrapped first."""
    cells = [[_text(cell) for cell in row] for row in rows]
    widths = [
        max(cell_len(name), *(row[n].cell_len for row in cells), 0)
        for n, name in enumerate(columns)
    ]
    kept = _fitting(to.width, widths)
    table = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="bold")
    for n, name in enumerate(columns[:kept]):
        justify: JustifyMethod = "right" if _is_numeric([row[n] for row in rows]) else "left"
        table.add_column(name, justify=justify, no_wrap=n < len(columns) - 1)
    for row in cells:
        table.add_row(*row[:kept])
    if kept == len(columns):
        return _drawn(to, table, to.width)
    lines = _drawn(to, table, max(to.width, _span(widths[:kept])))
    # Each row is one line, because only the last column is ever wrapped.
    below = [[], *(_below(to, columns[kept:], row[kept:]) for row in cells)]
    return list(chain(*([line, *more] for line, more in zip(lines, below, strict=True))))


def _drawn(to: Console, what: RenderableType, width: int) -> list[str]:
    """The lines that Rich draws, without the blanks at their ends."""
    lines = to.render_lines(what, to.options.update(width=width), pad=False)
    with to.capture() as captured:
        for line in lines:
            to.print(Segments([*line, Segment.line()]), crop=False)
    return [line.rstrip() for line in captured.get().split("\n")[:-1]]


def _fitting(width: int, widths: Sequence[int]) -> int:
    """How many columns, from the left, fit the width. The last column may be wrapped."""
    kept = len(widths)
    if _span([*widths[:-1], min(widths[-1], _FREE_TEXT_MIN)]) <= width:
        return kept
    while kept > _COLUMNS_MIN and (kept == len(widths) or _span(widths[:kept]) > width):
        kept -= 1
    return kept


def _span(widths: Sequence[int]) -> int:
    return sum(widths) + _GAP * (len(widths) - 1)


def _below(to: Console, columns: Sequence[str], cells: Sequence[Text]) -> list[str]:
    """The lines below a row: the cells that did not fit, with their columns' names.

    The last cell, which is free text, is printed without its name.
    """
    named = [f"{name}: {cell.plain}" for name, cell in zip(columns, cells, strict=True) if cell]
    if cells[-1]:
        named[-1] = cells[-1].plain
    return textwrap.wrap(
        ", ".join(named), to.width, initial_indent=_INDENT, subsequent_indent=_INDENT,
        break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip


def _is_numeric(cells: Sequence[object]) -> bool:
    """Whether each cell is a number, empty, or an error in place of a number."""
    given = [cell for cell in cells if _value(cell) not in ("", None)]
    numbers = [cell for cell in given if _is_number(_value(cell))]
    errors = [cell for cell in given if _is_error(cell)]
    return bool(numbers) and len(numbers) + len(errors) == len(given)


def _is_error(cell: object) -> bool:
    return isinstance(cell, Marked) and cell.style == "bad" and not _is_number(cell.value)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _value(cell: object) -> object:
    return cell.value if isinstance(cell, Marked) else cell


def _text(cell: object) -> Text:
    value, style = _value(cell), cell.style if isinstance(cell, Marked) else ""
    if value is None:
        text = ""
    elif isinstance(value, bool):
        text = "yes" if value else "no"
    elif isinstance(value, float):
        text = f"{value:.1f}"
    else:
        text = printable(redact_text(_BREAKS.sub(" ", str(value))))
    return Text(text, _STYLES[style])

"""Formats numbers and durations for sentences."""

from __future__ import annotations

_UNITS = ((172_800, 86_400, "days"), (7200, 3600, "h"), (120, 60, "min"))


def for_how_long(seconds: float) -> str:
    """A duration: `4 s`, `12 min`."""
    for least_s, unit_s, unit in _UNITS:
        if seconds >= least_s:
            return f"{seconds / unit_s:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"


def items(count: int) -> str:
    """`1 item`, `4,310 items`."""
    return f"{count:,} item" + ("" if count == 1 else "s")


def items_wait(count: int) -> str:
    """`1 item waits`, `4,310 items wait`."""
    return f"{items(count)} wait{'s' * (count == 1)}"


def one_line(text: str, length: int = 200) -> str:
    """A text on one line, cut to `length` characters."""
    line = " ".join(text.split())
    return line if len(line) <= length else line[: length - 1] + "…"

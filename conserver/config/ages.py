"""Parses durations as people write them: `90s`, `15m`, `2h`, `7d`, `1w`."""

from __future__ import annotations

import re

from pydantic import BeforeValidator

_AGE = re.compile(r"(?P<number>\d+(\.\d+)?)\s*(?P<unit>s|m|min|h|d|w)")
_NO_UNIT = re.compile(r"[-+.\deE_\s]*")
_UNIT_S = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400, "w": 604_800}


def age_s(text: str) -> float:
    """The seconds of a duration such as `2h`. Raises ValueError if `text` is not one."""
    match = _AGE.fullmatch(text.strip().lower())
    if match is None:
        raise ValueError(f"an age is a number and s, m, h, d or w, such as 2h: not `{text}`")
    return float(match["number"]) * _UNIT_S[match["unit"]]


def parse_seconds(value: object) -> object:
    """Parse a duration: `90s`, `15m`, `2h`, `7d`. A number without a unit means seconds."""
    if not isinstance(value, str) or _NO_UNIT.fullmatch(value):
        return value
    try:
        seconds = age_s(value)
    except ValueError:
        wanted = "must be a number of seconds, or have a unit as in 90s, 15m, 2h or 7d"
        raise ValueError(f"{wanted}, not `{value[:60]}`") from None
    return int(seconds) if seconds.is_integer() else seconds


TimeText = BeforeValidator(parse_seconds)
"""For a number of seconds that may have a unit: `Annotated[float, TimeText, Field(gt=0)]`."""

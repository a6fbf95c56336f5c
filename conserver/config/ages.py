"""Ages as people write them: `90s`, `15m`, `2h`, `7d`, `1w`."""

from __future__ import annotations

import re

_AGE = re.compile(r"(?P<number>\d+(\.\d+)?)\s*(?P<unit>s|m|min|h|d|w)")
_UNIT_S = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400, "w": 604_800}


def age_s(text: str) -> float:
    """The seconds that an age means. Raises ValueError where it is none."""
    match = _AGE.fullmatch(text.strip().lower())
    if match is None:
        raise ValueError(f"an age is a number and s, m, h, d or w, such as 2h: not `{text}`")
    return float(match["number"]) * _UNIT_S[match["unit"]]

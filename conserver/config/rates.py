"""Parses rates as people write them: `100/min`, `5/s`, `1000/h`."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator

_RATE = re.compile(r"(?P<count>\d{1,9})\s*/\s*(?P<unit>s|min|h|d)")
_UNIT_S = {"s": 1, "min": 60, "h": 3600, "d": 86_400}


def rate_per_s(text: str) -> float:
    """The number per second of a rate such as `100/min`. Raises ValueError if it is not a rate."""
    match = _RATE.fullmatch(text.strip().lower())
    if match is None or not int(match["count"]):
        raise ValueError(f"must be a count and s, min, h or d, such as `100/min`, not `{text}`")
    return int(match["count"]) / _UNIT_S[match["unit"]]


def _check(text: str) -> str:
    rate_per_s(text)
    return text


Rate = Annotated[str, AfterValidator(_check)]

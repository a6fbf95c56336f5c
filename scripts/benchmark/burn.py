"""A link that computes in Python, and says when it has finished."""

from __future__ import annotations

import time

from pydantic import BaseModel

from conserver.links import LinkContext
from conserver.vcon.document import Vcon


class Options(BaseModel):
    """turns: how much it computes."""

    turns: int


def run(vcon: Vcon, options: Options, context: LinkContext) -> Vcon:
    """Compute, and leave the moment (of the monotonic clock, in ns) in the vCon."""
    burn(options.turns)
    vcon.add_analysis({"type": "burnt", "vendor": "bench", "body": time.monotonic_ns()})
    return vcon


def burn(turns: int) -> int:
    """The work itself: it holds the interpreter all the time."""
    total = 0
    for turn in range(turns):
        total += turn * turn
    return total

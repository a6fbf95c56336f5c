"""delay: lets a vCon wait before its next link.

    options:
      seconds: 5         how long
      park_over_s: 60    longer waits are parked in Redis instead of keeping a worker's thread

A short wait holds its thread, in slices, so that a cancelled item or a stopping worker is not kept
waiting. A long one asks for a retry at its end: nobody waits, and a restart costs nothing of it.
"""

from __future__ import annotations

import time

from pydantic import BaseModel, ConfigDict, Field

from conserver.errors import Retry
from conserver.links import LinkContext
from conserver.vcon import Vcon

_SLICE_S = 0.25


class Options(BaseModel):
    """How long to wait, and from when on not in a thread."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    seconds: float = Field(default=5, ge=0, allow_inf_nan=False)
    park_over_s: float = Field(default=60, ge=0, allow_inf_nan=False)


def run(vcon: Vcon, options: Options, context: LinkContext) -> Vcon:
    """Wait; the vCon is not touched."""
    if options.seconds > options.park_over_s:
        # Nothing else in here can fail, so a second attempt is the one that was asked for.
        if context.attempt == 1:
            raise Retry(options.seconds, f"a delay of {options.seconds:g} s")
        return vcon
    end = time.monotonic() + options.seconds
    while (left_s := end - time.monotonic()) > 0:
        context.check_cancelled()
        time.sleep(min(_SLICE_S, left_s))
    context.check_cancelled()
    return vcon

"""delay: lets a vCon wait before its next link.

    options:
      seconds: 5

It keeps its thread while it waits, in slices, so that a cancelled item or a stopping worker does
not wait for its end. A vCon that comes back because its worker died waits from the beginning.
"""

from __future__ import annotations

import time

from pydantic import BaseModel, ConfigDict, Field

from conserver.links import LinkContext
from conserver.vcon.document import Vcon

_SLICE_S = 0.25
# Whoever wants to wait longer wants a schedule, and not a thread that stands still.
_LONGEST_S = 3600


class Options(BaseModel):
    """How long to wait."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    seconds: float = Field(default=5, ge=0, le=_LONGEST_S, allow_inf_nan=False)


def run(vcon: Vcon, options: Options, context: LinkContext) -> Vcon:
    """Wait; the vCon is not touched."""
    end = time.monotonic() + options.seconds
    context.check_cancelled()
    while (left_s := end - time.monotonic()) > 0:
        time.sleep(min(_SLICE_S, left_s))
        context.check_cancelled()
    return vcon

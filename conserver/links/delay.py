"""delay: waits before the next link.

    options:
      seconds: 5

The wait occupies a chain thread. The wait ends early if the item is cancelled or the worker stops.
If the worker dies, the next worker begins the wait anew.
"""

from __future__ import annotations

import time

from pydantic import BaseModel, ConfigDict, Field

from conserver.links import LinkContext
from conserver.vcon.document import Vcon

_SLICE_S = 0.25
# A longer wait would keep the chain thread from running other items.
_LONGEST_S = 3600


class Options(BaseModel):
    """How long to wait."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    seconds: float = Field(default=5, ge=0, le=_LONGEST_S, allow_inf_nan=False)


def run(vcon: Vcon, options: Options, context: LinkContext) -> Vcon:
    """Wait; the vCon is not changed."""
    end = time.monotonic() + options.seconds
    context.check_cancelled()
    while (left_s := end - time.monotonic()) > 0:
        time.sleep(min(_SLICE_S, left_s))
        context.check_cancelled()
    return vcon

"""A link that appends a line with the time of each run to a file; it may ask for a pause once."""

from __future__ import annotations

import time
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from conserver.errors import Retry
from conserver.links import LinkContext
from conserver.vcon.document import Vcon


class Options(BaseModel):
    """The file; how long the first attempt of a vCon with the subject `busy` wants to wait, and
    whether everybody is to wait as long.
    """

    model_config = ConfigDict(extra="forbid")

    file: Path
    retry_after_s: float = 0.0
    throttle: bool = False


def run(vcon: Vcon, options: Options, context: LinkContext) -> Vcon:
    """Note the time and the worker's chain."""
    with options.file.open("a") as file:
        file.write(f"{time.time():.6f} {context.chain}\n")
    if vcon.view.get("subject") == "busy" and context.attempt == 1:
        if options.throttle:
            context.throttle(options.retry_after_s)
        raise Retry(options.retry_after_s, "429 Too Many Requests")
    return vcon

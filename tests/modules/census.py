"""A link that tells which modules its worker has imported, and brings none of its own."""

from __future__ import annotations

import sys
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from conserver.links import LinkContext
from conserver.vcon.document import Vcon


class Options(BaseModel):
    """Where to tell."""

    model_config = ConfigDict(extra="forbid")

    file: str


def run(vcon: Vcon, options: Options, _context: LinkContext) -> Vcon:
    """Write the names of all modules, one a line."""
    target = Path(options.file)
    draft = target.with_suffix(".draft")
    draft.write_text("\n".join(sorted(sys.modules)))
    draft.rename(target)
    return vcon

"""A vCon in memory: read, changed, merged and written without losing what it does not understand.

Begin with document.py (`Vcon`). identity.py tells what makes bytes a vCon and under which uuid,
bodies.py decodes and encodes content, merge.py joins the work of two chains, references.py keeps
the
indices between parts right.
"""

from __future__ import annotations

from conserver.vcon.bodies import decode_body
from conserver.vcon.document import Vcon, numbered

__all__ = ["Vcon", "decode_body", "numbered"]

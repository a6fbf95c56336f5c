"""What a long transcription keeps in its vCon on the way, until it is finished.

An engine hands over plain JSON every few minutes (`engine.Following.keep`). It is an analysis of
its own type, one per dialog, so that a checkpoint writes it along with the document and an item
that comes again goes on from there. The finished transcription takes it out.
"""

from __future__ import annotations

import json
from typing import Any

from conserver.vcon.document import Vcon, numbered

TYPE = "transcription_progress"


def kept(vcon: Vcon, dialog: int) -> dict[str, Any] | None:
    """What was kept of a dialog last; None if nothing was, or nothing that can be read."""
    for index in _indices(vcon, dialog):
        body = vcon.analysis[index].get("body")
        try:
            found = json.loads(body) if isinstance(body, str) else body
        except ValueError:
            continue
        if isinstance(found, dict):
            return found
    return None


def keep(vcon: Vcon, dialog: int, state: dict[str, Any], vendor: str) -> None:
    """Keep this in the place of what was kept before."""
    forget(vcon, dialog)
    vcon.add_analysis(
        {
            "type": TYPE,
            "dialog": dialog,
            "vendor": vendor,
            "mediatype": "application/json",
            "encoding": "json",
            "body": state,
        }
    )


def forget(vcon: Vcon, dialog: int) -> None:
    """Take out what was kept of a dialog."""
    vcon.remove("analysis", _indices(vcon, dialog))


def _indices(vcon: Vcon, dialog: int) -> list[int]:
    return [
        index
        for index, analysis in numbered(vcon.analysis)
        if analysis.get("type") == TYPE and analysis.get("dialog") == dialog
    ]

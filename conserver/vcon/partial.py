"""What a long piece of work on one part of a vCon keeps in it on the way, until it is finished.

It is an analysis of a type of its own, one per part, whose body is plain JSON: a checkpoint writes
it along with the document, and an item that comes again goes on from there. The finished work takes
it out.

A place names the part as an analysis does: {"dialog": 1} or {"attachment": 0}.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from conserver.vcon.document import Vcon, numbered

Place = Mapping[str, int]


def kept(vcon: Vcon, kind: str, place: Place) -> dict[str, Any] | None:
    """What was kept there last; None if nothing was, or nothing that can be read.

    Args:
        kind: the type of the analysis.
    """
    for index in _indices(vcon, kind, place):
        body = vcon.analysis[index].get("body")
        try:
            found = json.loads(body) if isinstance(body, str) else body
        except ValueError:
            continue
        if isinstance(found, dict):
            return found
    return None


def keep(vcon: Vcon, kind: str, place: Place, state: dict[str, Any], vendor: str) -> None:
    """Keep this in the place of what was kept before."""
    forget(vcon, kind, place)
    vcon.add_analysis(
        {
            "type": kind,
            **place,
            "vendor": vendor,
            "mediatype": "application/json",
            "encoding": "json",
            "body": state,
        }
    )


def forget(vcon: Vcon, kind: str, place: Place) -> None:
    """Take out what was kept there."""
    vcon.remove("analysis", _indices(vcon, kind, place))


def _indices(vcon: Vcon, kind: str, place: Place) -> list[int]:
    return [
        index
        for index, analysis in numbered(vcon.analysis)
        if analysis.get("type") == kind
        and all(analysis.get(name) == number for name, number in place.items())
    ]

"""Keeps the intermediate result of long work on one part of a vCon in the vCon itself.

The intermediate result is an analysis with its own type and a JSON body, one per part. A checkpoint
writes it to Redis with the document. If the item runs again, the link continues from this analysis.
When the work is finished, the link removes the analysis.

A place names the part as an analysis does: {"dialog": 1} or {"attachment": 0}.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from conserver.vcon.document import Vcon, numbered

Place = Mapping[str, int]


def kept(vcon: Vcon, kind: str, place: Place) -> dict[str, Any] | None:
    """The intermediate result for a place; None if there is none, or none that is a JSON object.

    Args:
        kind: the type of the analysis.
    """
    for index in _indices(vcon, kind, place):
        body = vcon.analysis[index].get("body")
        try:
            found = json.loads(body) if isinstance(body, str) else body
        except (ValueError, RecursionError):
            continue
        if isinstance(found, dict):
            return found
    return None


def keep(vcon: Vcon, kind: str, place: Place, state: dict[str, Any], vendor: str) -> None:
    """Store `state` as the intermediate result for a place; replaces an earlier one."""
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
    """Remove the intermediate result for a place."""
    vcon.remove("analysis", _indices(vcon, kind, place))


def _indices(vcon: Vcon, kind: str, place: Place) -> list[int]:
    return [
        index
        for index, analysis in numbered(vcon.analysis)
        if analysis.get("type") == kind
        and all(analysis.get(name) == number for name, number in place.items())
    ]

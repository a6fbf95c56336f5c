"""Indices: a table of the members by which parts of a vCon refer to each other.

A reference in a vCon is an index: a position in one of its four lists. Code that moves or removes
an element must therefore change every index to that element; merge.py and `Vcon.remove` do so.
Indices inside of bodies are unknown, and stay unchanged.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

# In this order every index refers to the same list or to an earlier one.
LISTS = ("parties", "dialog", "attachments", "analysis")

#: list -> member that holds indices -> list that they refer to; old and current spellings.
INDEX_MEMBERS: dict[str, dict[str, str]] = {
    "parties": {},
    "dialog": {
        **dict.fromkeys(("parties", "originator", "transferee", "transferor"), "parties"),
        **dict.fromkeys(("transfer_target", "transfer-target"), "parties"),
        **dict.fromkeys(("original", "consultation", "target_dialog", "target-dialog"), "dialog"),
        **dict.fromkeys(("recordings", "recording_set"), "dialog"),
    },
    "attachments": {"party": "parties", "dialog": "dialog"},
    "analysis": {
        "party": "parties",
        "dialog": "dialog",
        "attachment": "attachments",
        "analysis": "analysis",
    },
}


def indices(value: Any) -> list[int]:
    """A reference as a flat list of indices.

    The standard allows 1, [1, 2] and, per channel, [[0, 1], 2, null].
    """
    if isinstance(value, list):
        return [index for inner in value for index in indices(inner)]
    return [value] if isinstance(value, int) and not isinstance(value, bool) else []


def map_indices(element: Any, member: str, change: Callable[[Any, str], Any]) -> Any:
    """A shallow copy of an element of the list `member`, with every index replaced.

    Args:
        change: called as `change(index, target)` for every value at the place of an index, in
            nested lists too (parties per channel); returns the replacement. `target` is the name
            of the list that the index refers to.
    """
    if not isinstance(element, dict):
        return element
    copy = dict(element)
    for name, target in INDEX_MEMBERS[member].items():
        if name in copy:
            copy[name] = _map_nested(copy[name], target, change)
    history = copy.get("party_history")
    if member == "dialog" and isinstance(history, list):
        copy["party_history"] = [
            {**event, "party": _map_nested(event["party"], "parties", change)}
            if isinstance(event, dict) and "party" in event
            else event
            for event in history
        ]
    return copy


def remove_elements(document: dict[str, Any], member: str, gone: Collection[int]) -> None:
    """Remove elements from one list of a document and update all indices to that list.

    A member that referred to a removed element is deleted. An index inside of a list becomes null
    instead, because the positions in that list may stand for the channels of a recording.
    """
    items = document.get(member) or []
    left = [index for index in range(len(items)) if index not in gone]
    places = {index: place for place, index in enumerate(left)}

    def follow(index: Any, target: str) -> Any:
        known = target == member and type(index) is int and 0 <= index < len(items)
        return places.get(index) if known else index

    document[member] = [items[index] for index in left]
    for name in LISTS:
        if elements := document.get(name):
            document[name] = [
                _without_nulls(map_indices(element, name, follow), element, name)
                for element in elements
            ]


def _without_nulls(element: Any, before: Any, member: str) -> Any:
    if isinstance(element, dict):
        for name in INDEX_MEMBERS[member]:
            if name in element and element[name] is None and before[name] is not None:
                del element[name]
    return element


def _map_nested(value: Any, target: str, change: Callable[[Any, str], Any]) -> Any:
    if isinstance(value, list):
        return [_map_nested(inner, target, change) for inner in value]
    return change(value, target)

"""Where a vCon's elements point at each other: every member that holds an index, in one table.

References in a vCon are positions in its four lists. Whoever moves an element has to move them
too: a merge of two chains' work, and the removal of an element. Bodies are content: what they say
about positions is not known here and not changed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

# In this order every reference but those within one list points at an earlier list.
LISTS = ("parties", "dialog", "attachments", "analysis")

#: list -> member that holds indices -> list that they point into, in old and new spellings.
REFERENCES: dict[str, dict[str, str]] = {
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


def map_references(element: Any, member: str, change: Callable[[Any, str], Any]) -> Any:
    """A shallow copy of an element of the list `member` with every index in it changed.

    `change(index, target)` is called for each value that stands where an index belongs, through
    nested lists (parties per channel), and gives its replacement; `target` is the list it is for.
    """
    if not isinstance(element, dict):
        return element
    copy = dict(element)
    for name, target in REFERENCES[member].items():
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
    """Take elements out of one list of a document, and let all references follow.

    A member that pointed at a removed element goes; inside a list null takes its place, since the
    other positions may be the channels of a recording.
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
                _without_nulls(map_references(element, name, follow), element, name)
                for element in elements
            ]


def _without_nulls(element: Any, before: Any, member: str) -> Any:
    if isinstance(element, dict):
        for name in REFERENCES[member]:
            if name in element and element[name] is None and before[name] is not None:
                del element[name]
    return element


def _map_nested(value: Any, target: str, change: Callable[[Any, str], Any]) -> Any:
    if isinstance(value, list):
        return [_map_nested(inner, target, change) for inner in value]
    return change(value, target)

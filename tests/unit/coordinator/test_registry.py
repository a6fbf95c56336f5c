"""What a return order says."""

from __future__ import annotations

from conserver.coordinator.registry import blame_of


def test_a_return_order_becomes_a_blame() -> None:
    order = {"blame": "items", "items": [["t1", 3], ["t2", 4]], "over_limit": ["t2"]}
    blame = blame_of(order)
    assert (blame.kind, blame.items, blame.over_limit) == ("items", [("t1", 3), ("t2", 4)], ["t2"])
    assert blame_of({"blame": "nobody", "items": [], "over_limit": []}).kind == "nobody"

"""Two chains work on one vCon: whatever both do, nothing of either is lost and no reference moves.

The goal is reached through labels: every element of the generated documents has one of its own,
so that "the third dialog" and "the dialog called d7" can be told apart after lists were joined.
"""

from __future__ import annotations

from typing import Any

import orjson
from hypothesis import given, note, settings
from hypothesis import strategies as st

from conserver.vcon.document import Vcon, is_tags
from conserver.vcon.indices import LISTS, map_indices
from conserver.vcon.merge import merge

UUID = "0f0e0d0c-0b0a-8000-8000-0102030405aa"
TAGS = st.sampled_from(["red", "green", "blue", "vip"])


def element(member: str, label: str, number: int, counts: dict[str, int]) -> dict[str, Any]:
    """An element whose references are chosen by `number` among what exists."""
    made: dict[str, Any] = {"id": label, "type": "text", "x-unknown": [None, {"a": 1.5}]}
    parties, dialogs = counts["parties"], counts["dialog"]
    if member == "dialog":
        if parties:
            made["parties"] = [number % parties, None, [(number // 3) % parties]]
            made["party_history"] = [{"party": number % parties, "event": "join"}]
        if dialogs and number % 4 == 0:
            made["original"] = number % dialogs
    if member in ("attachments", "analysis") and dialogs:
        made["dialog"] = number % dialogs if member == "attachments" else [number % dialogs]
    if member == "attachments" and parties:
        made["party"] = number % parties
    if member == "analysis" and counts["attachments"] and number % 2:
        made["attachment"] = number % counts["attachments"]
    return made


def count(document: dict[str, Any]) -> dict[str, int]:
    """How many elements each list has."""
    return {member: len(document.get(member) or []) for member in LISTS}


@st.composite
def bases(draw: st.DrawFn) -> bytes:
    """A small vCon with labels, references, unknown members, and perhaps tags."""
    document: dict[str, Any] = {"uuid": UUID, "x-top": {"kept": None}}
    for member in LISTS:
        numbers = draw(st.none() | st.lists(st.integers(0, 50), max_size=3))
        if numbers is not None:
            document[member] = []
        for index, number in enumerate(numbers or []):
            label = f"{member} {index}"
            document[member].append(element(member, label, number, count(document)))
    vcon = Vcon.parse(orjson.dumps(document))
    for name in draw(st.lists(TAGS, max_size=2)):
        vcon.add_tag(name, "base")
    return vcon.dump()


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.sampled_from(LISTS), st.integers(0, 50)),
        st.tuples(st.just("edit"), st.sampled_from(LISTS), st.integers(0, 50)),
        st.tuples(st.just("remove"), st.sampled_from(LISTS), st.integers(0, 50)),
        st.tuples(st.just("tag"), TAGS, st.integers(0, 1)),
        st.tuples(st.just("member"), st.just(""), st.integers(0, 50)),
    ),
    max_size=6,
)


def work(raw: bytes, side: str, steps: list[tuple[str, str, int]]) -> Vcon:
    """What a chain called `side` makes of a document."""
    vcon = Vcon.parse(raw)
    for turn, (step, what, number) in enumerate(steps):
        items = vcon.view.get(what) or []
        if step == "append":
            made = element(what, f"{side} {what} {turn}", number, count(vcon.view))
            vcon.data.setdefault(what, []).append(made)
        elif step == "edit" and items and not is_tags(items[number % len(items)]):
            vcon.data[what][number % len(items)][f"x-{side}"] = number
        elif step == "remove" and items and not is_tags(items[number % len(items)]):
            vcon.remove(what, [number % len(items)])
        elif step == "tag":
            vcon.add_tag(what, f"{side} {number}")
        elif step == "member":
            vcon.data[f"x-{side}"] = number
    return vcon


def labels(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Every element by its label, with labels in place of indices."""
    lists = {member: document.get(member) or [] for member in LISTS}

    def label(index: Any, target: str) -> Any:
        return index if index is None else lists[target][index].get("id", "tags")

    named = [map_indices(item, member, label) for member, items in lists.items() for item in items]
    # There is one tags attachment at most; what both sides wrote into it is looked at elsewhere.
    return {item.get("id", "tags"): without(item, "body") for item in named}


def without(item: dict[str, Any], *names: str) -> dict[str, Any]:
    """The element without some members."""
    return {name: value for name, value in item.items() if name not in names}


@settings(max_examples=400, deadline=None)
@given(bases(), STEPS, STEPS)
def test_nothing_of_either_chain_is_lost(base: bytes, one: Any, two: Any) -> None:
    """Additions, edits, tags and members of both sides are in the result, removals are honoured."""
    ours, theirs = work(base, "ours", one), work(base, "theirs", two)
    merged = merge(base, ours, theirs.dump())
    result = orjson.loads(merged.vcon.dump())
    note(result)
    before = labels(orjson.loads(base))
    mine, other, joined = labels(ours.view), labels(theirs.view), labels(result)

    for label, item in mine.items():
        if label not in before and label != "tags":
            assert joined[label] == item
        elif label in other:
            assert ("x-ours" in item) <= (joined[label].get("x-ours") == item.get("x-ours"))
    for label, item in other.items():
        if label not in before and label != "tags":
            assert joined[label] == item
        elif label in mine:
            assert ("x-theirs" in item) <= (joined[label].get("x-theirs") == item.get("x-theirs"))
    every = [item for member in LISTS for item in result.get(member) or []]
    assert len(every) == len(joined)
    pointed_at = orjson.dumps([without(item, "id") for item in joined.values()]).decode()
    for label in before:
        gone = [side for side in (mine, other) if label not in side]
        edited = any(
            "x-ours" in side[label] or "x-theirs" in side[label] or side[label] != before[label]
            for side in (mine, other)
            if label in side
        )
        if not gone:
            assert label in joined
        elif not edited and f'"{label}"' not in pointed_at:
            assert label not in joined
    assert set(ours.tag_texts()) | set(theirs.tag_texts()) == set(merged.vcon.tag_texts())
    for side in (ours.view, theirs.view):
        for name, value in side.items():
            assert name in LISTS or result[name] == value


@settings(max_examples=200, deadline=None)
@given(bases(), STEPS, STEPS)
def test_every_reference_means_what_it_meant(base: bytes, one: Any, two: Any) -> None:
    """An element's references mean the same elements as on one of the two sides."""
    ours, theirs = work(base, "ours", one), work(base, "theirs", two)
    result = labels(orjson.loads(merge(base, ours, theirs.dump()).vcon.dump()))
    mine, other = labels(ours.view), labels(theirs.view)
    marks = ("x-ours", "x-theirs")
    for label, item in result.items():
        versions = [without(side[label], *marks) for side in (mine, other) if label in side]
        if without(item, *marks) in versions:
            continue
        # Both edited its references (each lost one to its own removal): member by member then.
        for name, value in without(item, *marks).items():
            assert any(name in version and version[name] == value for version in versions)


@settings(max_examples=100, deadline=None)
@given(bases(), STEPS, STEPS)
def test_joining_again_changes_nothing(base: bytes, one: Any, two: Any) -> None:
    """What theirs already got from us (a write whose answer was lost) is not added twice."""
    ours, theirs = work(base, "ours", one), work(base, "theirs", two)
    once = merge(base, ours, theirs.dump()).vcon
    twice = merge(base, ours, once.dump()).vcon
    assert sorted(labels(twice.view)) == sorted(labels(once.view))
    assert twice.tag_texts() == once.tag_texts()


@settings(max_examples=100, deadline=None)
@given(bases(), STEPS)
def test_one_sided_work_passes_through(base: bytes, steps: Any) -> None:
    """Theirs equal to the base gives ours; ours unchanged gives the very bytes of theirs."""
    worked = work(base, "ours", steps)
    assert merge(base, worked, base).vcon is worked
    assert merge(base, Vcon.parse(base), worked.dump()).vcon.dump() == worked.dump()

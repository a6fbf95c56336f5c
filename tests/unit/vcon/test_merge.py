"""merge.py by example: what two chains do to one vCon, and what must come of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson
import pytest

from conserver.errors import Rejected
from conserver.vcon.document import Vcon
from conserver.vcon.merge import Merged, merge
from tests import vcons

Change = Callable[[Vcon], Any]


def joined(base: dict[str, Any] | bytes, ours: Change, theirs: Change) -> tuple[Any, Merged]:
    """The resulting document of two changes to one base, and all that merge says."""
    raw = base if isinstance(base, bytes) else orjson.dumps({"uuid": "u-1", **base})
    mine, other = Vcon.parse(raw), Vcon.parse(raw)
    ours(mine)
    theirs(other)
    merged = merge(raw, mine, other.dump())
    assert merged.vcon.base == other.dump()
    return orjson.loads(merged.vcon.dump()), merged


def edit(**members: Any) -> Change:
    """A change of top-level members."""
    return lambda vcon: vcon.data.update(members)


def test_appended_elements_move_with_their_references() -> None:
    """Ours comes after theirs, and what pointed at our dialog and party still does."""

    def add(side: str) -> Change:
        def change(vcon: Vcon) -> None:
            party = vcon.add_party({"name": side})
            dialog = vcon.add_dialog({"type": "text", "parties": [0, party], "body": side})
            attachment = vcon.add_attachment({"purpose": side, "party": party, "dialog": dialog})
            vcon.add_analysis({"type": side, "dialog": [0, dialog], "attachment": attachment})

        return change

    base = {"parties": [{"name": "base"}], "dialog": [{"type": "text", "body": "base"}]}
    result, merged = joined(base, add("ours"), add("theirs"))
    assert [party["name"] for party in result["parties"]] == ["base", "theirs", "ours"]
    assert [item["body"] for item in result["dialog"]] == ["base", "theirs", "ours"]
    assert result["dialog"][1]["parties"] == [0, 1]
    assert result["dialog"][2]["parties"] == [0, 2]
    assert result["attachments"][1] == {"purpose": "ours", "party": 2, "dialog": 2}
    assert result["analysis"][0] == {"type": "theirs", "dialog": [0, 1], "attachment": 0}
    assert result["analysis"][1] == {"type": "ours", "dialog": [0, 2], "attachment": 1}
    assert merged.notes == []


@pytest.mark.parametrize(
    "attachments",
    [
        None,
        [],
        [{"type": "tags", "body": ["a:b"], "encoding": "json"}],
        [{"type": "tags", "body": '["a:b"]', "encoding": "json"}],
        [{"type": "tags", "body": {"a": "b"}, "encoding": "json"}],
    ],
)
def test_tags_of_both_end_in_one_attachment(attachments: Any) -> None:
    """Whether there was one or each made its own, in any style; the same tag is there once."""

    def tag(name: str) -> Change:
        def change(vcon: Vcon) -> None:
            vcon.add_tag("both", "same")
            vcon.add_tag(name, "x")

        return change

    result, merged = joined({"attachments": attachments}, tag("ours"), tag("theirs"))
    assert len(result["attachments"]) == 1
    texts = merged.vcon.tag_texts()
    assert sorted(texts) == sorted({"both:same", "ours:x", "theirs:x"} | ({"a:b"} & set(texts)))
    assert ("a:b" in texts) == bool(attachments)
    assert merged.notes == []


def test_a_reference_to_our_tags_follows_them_into_theirs() -> None:
    """Our attachment is gone, its tags are elsewhere: an analysis of ours points there."""

    def ours(vcon: Vcon) -> None:
        vcon.add_tag("ours", "x")
        vcon.add_analysis({"type": "check", "attachment": 0})

    def theirs(vcon: Vcon) -> None:
        vcon.add_attachment({"purpose": "file"})
        vcon.add_tag("theirs", "x")

    result, _ = joined({}, ours, theirs)
    assert result["attachments"][1]["body"] == ["theirs:x", "ours:x"]
    assert result["analysis"] == [{"type": "check", "attachment": 1}]


def test_the_same_addition_of_both_is_there_once() -> None:
    """Two runs of one link; but two of ours stay two if theirs has one."""
    same = {"type": "summary", "dialog": 0, "body": "x"}
    result, _ = joined(
        {"dialog": [{}]}, lambda v: v.add_analysis(same), lambda v: v.add_analysis(same)
    )
    assert result["analysis"] == [same]

    def twice(vcon: Vcon) -> None:
        vcon.add_analysis(same)
        vcon.add_analysis(dict(same))

    result, _ = joined({"dialog": [{}]}, twice, lambda v: v.add_analysis(same))
    assert result["analysis"] == [same, same]


def test_equal_words_about_different_dialogs_are_different() -> None:
    """Both chains add dialog 1 and an analysis of "dialog 1": they mean different ones."""

    def add(body: str) -> Change:
        def change(vcon: Vcon) -> None:
            vcon.add_analysis({"type": "empty", "dialog": vcon.add_dialog({"body": body})})

        return change

    result, _ = joined({"dialog": [{"body": "0"}]}, add("ours"), add("theirs"))
    assert result["analysis"] == [{"type": "empty", "dialog": 1}, {"type": "empty", "dialog": 2}]


def test_removals_are_honoured_and_references_follow() -> None:
    """What we removed is gone from theirs, and their additions still mean what they meant."""
    base = {
        "dialog": [{"body": "0"}, {"body": "1"}, {"body": "2"}],
        "analysis": [{"type": "a", "dialog": 0}, {"type": "b", "dialog": 2}],
    }

    def ours(vcon: Vcon) -> None:
        vcon.remove("analysis", [0])
        vcon.remove("dialog", [0])

    result, merged = joined(base, ours, lambda v: v.add_analysis({"type": "c", "dialog": [1, 2]}))
    assert result["dialog"] == [{"body": "1"}, {"body": "2"}]
    assert result["analysis"] == [{"type": "b", "dialog": 1}, {"type": "c", "dialog": [0, 1]}]
    assert merged.notes == []


def test_what_is_pointed_at_outlives_its_removal_on_either_side() -> None:
    """The dialog that one removed and the other analysed stays, with a note for the log."""
    base = {"parties": [{"name": "a"}], "dialog": [{"body": "0", "parties": [0]}, {"body": "1"}]}

    def remove(vcon: Vcon) -> None:
        vcon.remove("dialog", [0])
        vcon.remove("parties", [0])

    def add(vcon: Vcon) -> None:
        vcon.add_analysis({"type": "x", "dialog": 0})

    for ours, theirs in ((remove, add), (add, remove)):
        result, merged = joined(base, ours, theirs)
        dialog = result["dialog"][result["analysis"][0]["dialog"]]
        assert dialog["body"] == "0"
        assert result["parties"][dialog["parties"][0]] == {"name": "a"}
        assert len(merged.notes) == 2
        assert "still referred to" in merged.notes[0]


def test_a_removed_list_is_gone_unless_theirs_added_to_it() -> None:
    """diet removes all analyses; the other chain's new one is no part of that."""
    base = {"analysis": [{"type": "a"}]}

    def ours(vcon: Vcon) -> None:
        del vcon.data["analysis"]

    assert "analysis" not in joined(base, ours, edit(subject="x"))[0]
    result, _ = joined(base, ours, lambda v: v.add_analysis({"type": "b", "vendor": "v"}))
    assert result["analysis"] == [{"type": "b", "vendor": "v"}]


def test_edits_of_different_members_are_joined() -> None:
    """One strips a body, the other names a disposition; top-level members likewise."""
    base = {
        "dialog": [{"type": "recording", "start": "s", "body": "AAAA", "encoding": "base64url"}]
    }

    def ours(vcon: Vcon) -> None:
        del vcon.data["dialog"][0]["body"]
        vcon.data["subject"] = "ours"

    def theirs(vcon: Vcon) -> None:
        vcon.data["dialog"][0]["application"] = "pbx"
        vcon.data["x-their"] = None

    result, merged = joined(base, ours, theirs)
    assert result["dialog"] == [
        {"type": "recording", "start": "s", "encoding": "base64url", "application": "pbx"}
    ]
    assert (result["subject"], result["x-their"]) == ("ours", None)
    assert merged.notes == []


def test_in_a_true_conflict_the_later_chain_wins_and_says_so() -> None:
    """For the log: the place and that it was decided."""
    result, merged = joined({"subject": "base"}, edit(subject="ours"), edit(subject="theirs"))
    assert result["subject"] == "ours"
    assert merged.notes == ["subject: both chains changed it, the later one wins"]
    result, merged = joined({"x": {"a": 1}}, edit(x={"a": 2}), edit(x={"a": 3, "b": 4}))
    assert result["x"] == {"a": 2, "b": 4}
    assert merged.notes == ["x.a: both chains changed it, the later one wins"]


def test_edited_here_and_removed_there_is_kept() -> None:
    """In both directions, with a note."""
    base = {"analysis": [{"type": "a", "vendor": "v", "body": "1"}]}

    def change(vcon: Vcon) -> None:
        vcon.data["analysis"][0]["body"] = "2"

    def remove(vcon: Vcon) -> None:
        vcon.remove("analysis", [0])

    for ours, theirs in ((change, remove), (remove, change)):
        result, merged = joined(base, ours, theirs)
        assert result["analysis"] == [{"type": "a", "vendor": "v", "body": "2"}]
        assert len(merged.notes) == 1


def test_extensions_of_both_are_declared() -> None:
    """A list of names is a set, whoever starts it."""
    for base in ({}, {"extensions": ["a"]}):
        result, merged = joined(
            base, lambda v: v.extend_extensions("b"), lambda v: v.extend_extensions("c")
        )
        assert result["extensions"] == [*base.get("extensions", []), "c", "b"]
        assert merged.notes == []


def test_one_sided_work_is_passed_through() -> None:
    """No merge where none is needed: ours itself, or the bytes of theirs."""
    raw = vcons.raw("call")
    ours = Vcon.parse(raw)
    ours.add_tag("a", "b")
    assert merge(raw, ours, raw).vcon is ours
    theirs = vcons.raw("call", subject="changed   ")
    assert merge(raw, Vcon.parse(raw), theirs).vcon.dump() is theirs


@pytest.mark.parametrize("shape", ["plain", "call", "old_call", "transfer", "unknown_members"])
def test_real_shapes_keep_everything(shape: str) -> None:
    """Two tags and two analyses on a real document: the rest is as it was."""
    raw = vcons.raw(shape)

    def work(side: str) -> Change:
        def change(vcon: Vcon) -> None:
            vcon.add_tag(side, "x")
            vcon.add_analysis({"type": side, "dialog": 0})

        return change

    result, merged = joined(raw, work("ours"), work("theirs"))
    before = orjson.loads(raw)
    assert [item["type"] for item in result["analysis"][-2:]] == ["theirs", "ours"]
    assert result["analysis"][:-2] == before.get("analysis", [])
    for name in before.keys() - {"analysis", "attachments"}:
        assert orjson.dumps(result[name]) == orjson.dumps(before[name])
    assert merged.vcon.tags.items() >= {"ours": "x", "theirs": "x"}.items()
    assert merged.notes == []


def test_a_placeholder_and_a_dangling_reference_stay_as_they_are() -> None:
    """null elements and indices out of range are not ours to mend."""
    base = {"dialog": [None, {"body": "1"}], "analysis": [{"type": "a", "dialog": 7}, None]}
    result, _ = joined(base, lambda v: v.add_party({"a": 1}), lambda v: v.add_party({"b": 2}))
    assert result["dialog"] == base["dialog"]
    assert result["analysis"] == base["analysis"]


def test_what_cannot_be_joined_is_refused() -> None:
    """Another vCon, no vCon, and one that was signed while we changed it."""
    raw = orjson.dumps({"uuid": "u-1"})
    ours = Vcon.parse(raw)
    ours.add_party({})
    for theirs, words in (
        (orjson.dumps({"uuid": "u-2"}), "another vCon"),
        (b"[]", "not a vCon"),
        (orjson.dumps({"payload": "", "signatures": [{"header": {"uuid": "u-1"}}]}), "signed"),
    ):
        with pytest.raises(Rejected, match=words):
            merge(raw, ours, theirs)


def test_long_lists_are_joined_in_bounded_time() -> None:
    """2000 dialogs, all of them edited by us while theirs added one: found in their places."""
    base = {"dialog": [{"type": "text", "n": n, "body": "x"} for n in range(2000)]}

    def ours(vcon: Vcon) -> None:
        for item in vcon.data["dialog"]:
            item["body"] = ""

    result, merged = joined(base, ours, lambda v: v.add_dialog({"type": "new", "n": "new"}))
    assert [item["n"] for item in result["dialog"]] == [*range(2000), "new"]
    assert {item.get("body") for item in result["dialog"]} == {"", None}
    assert merged.notes == []

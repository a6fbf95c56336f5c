"""vcon.py: what is accepted, what counts as a change, which spellings are read and written."""

from __future__ import annotations

import collections
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest

from conserver.errors import Rejected
from conserver.vcon.document import (
    Vcon,
    content_hashes,
    decode_body,
    encode_body,
    indices,
    media_type,
    numbered,
)
from conserver.vcon.ids import uuid8_of
from tests import vcons


def parse(**members: Any) -> Vcon:
    """A vCon with these members."""
    return Vcon.parse(orjson.dumps({"uuid": "u-1", **members}))


def is_changed(vcon: Vcon) -> bool:
    """A call, so that the type checker does not take the answer for lasting."""
    return vcon.changed


def written(vcon: Vcon) -> Any:
    """What a reader of the dump sees."""
    return orjson.loads(vcon.dump())


# Reading


@pytest.mark.parametrize("shape", [*vcons.SHAPES, *vcons.CRITICAL])
def test_every_real_shape_is_read_and_leaves_as_it_came(shape: str) -> None:
    """The very bytes come out while nothing was changed, also after a look at everything."""
    raw = vcons.raw(shape)
    vcon = Vcon.parse(raw)
    assert (vcon.parties, vcon.dialogs, vcon.analysis, vcon.attachments, vcon.tags) is not None
    assert vcon.dump() is raw
    assert vcon.raw is raw
    assert not vcon.changed


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("empty", "empty"),
        ("not_json", "not JSON"),
        ("cut_off", "not JSON"),
        ("not_utf8", "UTF-8"),
        ("nan", "NaN or Infinity"),
        ("lone_surrogate", "surrogate"),
        ("bottomless", "depth"),
        ("empty_object", "no uuid"),
        ("array", "JSON array"),
        ("null", "JSON null"),
        ("number", "JSON number"),
        ("string", "JSON string"),
        ("uuid_empty", "no uuid"),
        ("uuid_number", "JSON number"),
        ("uuid_path", "cannot serve as a key"),
        ("dialog_object", "'dialog' is a JSON object"),
        ("parties_string", "'parties' is a JSON string"),
    ],
)
def test_what_is_no_vcon_is_refused_with_its_own_reason(name: str, words: str) -> None:
    """Each refusal says what is wrong in words for the reader of a dead letter."""
    with pytest.raises(Rejected, match=words) as caught:
        Vcon.parse(vcons.REFUSED[name])
    assert caught.value.reason.startswith("not a vCon: ")


def test_all_refused_bytes_are_covered() -> None:
    """The generator's list and the table above do not drift apart."""
    for raw in vcons.REFUSED.values():
        with pytest.raises(Rejected):
            Vcon.parse(raw)


@pytest.mark.parametrize(
    "uuid", ["u", "7a31c0de-0000-1000-8000-000000000001", "urn:x:1", "A.b_c@d"]
)
def test_ids_of_any_kind_are_taken(uuid: str) -> None:
    """The standard's version 8 is recommended, not needed."""
    assert parse(uuid=uuid).uuid == uuid


@pytest.mark.parametrize("uuid", ["", " ", "a b", "a/b", "..", "{", "a\n", "a\0", "é", "a" * 129])
def test_ids_that_could_not_be_keys_are_refused(uuid: str) -> None:
    """Paths, spaces, controls, and what a queue would take for a document."""
    with pytest.raises(Rejected):
        parse(uuid=uuid)


def test_forms_and_ids_of_envelopes() -> None:
    """JWS and JWE have their uuid in a header; one without gets the same id for the same bytes."""
    jws, jwe = vcons.make("jws"), vcons.make("jwe")
    assert Vcon.parse(vcons.raw("jws")).form == "jws"
    assert Vcon.parse(vcons.raw("jws")).uuid == jws["signatures"][0]["header"]["uuid"]
    assert Vcon.parse(vcons.raw("jwe")).form == "jwe"
    assert Vcon.parse(vcons.raw("jwe")).uuid == jwe["unprotected"]["uuid"]
    nameless = vcons.raw("jwe_without_uuid")
    assert Vcon.parse(nameless).uuid == uuid8_of(nameless)
    named = [Vcon.parse(vcons.raw(shape)).names_uuid for shape in ("call", "jws", "jwe")]
    assert (named, Vcon.parse(nameless).names_uuid) == ([True] * 3, False)
    assert Vcon.parse(nameless).uuid != uuid8_of(nameless + b" ")
    assert uuid8_of(b"")[14] == "8"
    assert uuid8_of(b"")[19] in "89ab"


def test_an_envelope_with_its_uuid_in_a_protected_header() -> None:
    """It is found there too, and beside plaintext that a careless signer left in."""
    protected = encode_body(b'{"alg":"RS256","uuid":"u-9"}')
    signed = {"payload": "e30", "signatures": [{"protected": protected, "signature": "x"}]}
    assert Vcon.parse(orjson.dumps(signed)).uuid == "u-9"
    assert Vcon.parse(orjson.dumps({"uuid": "u-1", "payload": "", "signatures": []})).uuid == "u-1"


@pytest.mark.parametrize("shape", ["jws", "jwe"])
def test_envelopes_cannot_be_changed(shape: str) -> None:
    """Every way to change one is refused, and it stays as it was."""
    vcon = Vcon.parse(vcons.raw(shape))
    for change in (
        lambda: vcon.add_tag("a", "b"),
        lambda: vcon.add_analysis({}),
        lambda: vcon.extend_extensions("x"),
        lambda: vcon.remove("analysis", [0]),
        lambda: vcon.data,
    ):
        with pytest.raises(Rejected, match="cannot be changed"):
            change()
    assert vcon.dump() == vcons.raw(shape)


def test_critical_extensions_in_both_spellings() -> None:
    """What the chain does not support is named; what is no list of names is never supported."""
    assert parse().critical_unknown() == []
    assert parse(critical=[], must_support=None).critical_unknown() == []
    assert parse(critical=["a", "b"], must_support=["c"]).critical_unknown({"a"}) == ["b", "c"]
    assert parse(critical="a").critical_unknown({"a"}) == []
    assert parse(critical=[7, {"a": 1}]).critical_unknown({"a"}) == ["7", "{'a': 1}"]


# Changes


def test_additions_give_indices_and_make_missing_lists() -> None:
    """Absent and null lists are made; each addition says where it went."""
    vcon = parse(analysis=None)
    assert vcon.add_party({"name": "Ada"}) == 0
    assert vcon.add_party({"name": "Ben"}) == 1
    assert vcon.add_dialog({"type": "text"}) == 0
    assert vcon.add_analysis({"type": "summary"}) == 0
    assert vcon.add_attachment({"purpose": "note"}) == 0
    assert vcon.changed
    assert vcon.raw is None
    assert written(vcon) == {
        "uuid": "u-1",
        "analysis": [{"type": "summary"}],
        "parties": [{"name": "Ada"}, {"name": "Ben"}],
        "dialog": [{"type": "text"}],
        "attachments": [{"purpose": "note"}],
    }


@pytest.mark.parametrize("shape", ["call", "old_call", "unknown_members", "null_lists", "channels"])
def test_a_change_leaves_all_else_as_it_was(shape: str) -> None:
    """Unknown members, nulls, order and timestamp text survive an addition."""
    raw = vcons.raw(shape)
    vcon = Vcon.parse(raw)
    vcon.add_analysis({"type": "x"})
    result, before = written(vcon), orjson.loads(raw)
    assert result["analysis"].pop() == {"type": "x"}
    assert [name for name in result if name in before] == list(before)
    before["analysis"] = before.get("analysis") or []
    assert orjson.dumps(result, option=orjson.OPT_SORT_KEYS) == orjson.dumps(
        before, option=orjson.OPT_SORT_KEYS
    )


def test_a_look_through_data_is_no_change_and_an_edit_is_one() -> None:
    """Only what is different counts, and 1 is different from 1.0 and from true."""
    vcon = parse(a=1, b=[1])
    assert vcon.data["a"] == 1
    assert not is_changed(vcon)
    assert vcon.dump() is vcon.base
    vcon.data["a"] = 1.0
    assert is_changed(vcon)
    assert written(vcon)["a"] == 1.0
    vcon.data["a"] = 1
    assert not is_changed(vcon)
    vcon.data["b"][0] = True
    assert is_changed(vcon)


def test_an_edit_through_a_kept_reference_is_found() -> None:
    """A link may hold on to `data`: what it does to it later counts as well."""
    vcon = parse()
    data = vcon.data
    assert not vcon.changed
    data["subject"] = "late"
    assert vcon.changed


def test_rebase_makes_the_written_bytes_the_base() -> None:
    """After a checkpoint the vCon is unchanged, until the next change."""
    vcon = parse()
    vcon.add_party({})
    body = vcon.dump()
    vcon.rebase(body)
    assert vcon.base == body
    assert not vcon.changed
    assert vcon.dump() is body
    vcon.add_party({})
    assert vcon.changed


def test_what_json_cannot_hold_is_refused_when_written() -> None:
    """A link that puts a set or a lone surrogate into a vCon gets it back as a dead letter."""
    for value in ({1}, "\ud83d", {1: 2}, 2**70):
        vcon = parse()
        vcon.add_analysis({"body": value})
        with pytest.raises(Rejected, match="cannot be written as JSON"):
            vcon.dump()


def test_removal_moves_references() -> None:
    """What stays is still pointed at; what pointed at the removed one does so no more."""
    vcon = parse(
        parties=[{"name": "a"}, {"name": "b"}, {"name": "c"}],
        dialog=[{"parties": [[0, 1], 2], "originator": 1, "party_history": [{"party": 2}]}],
        attachments=[{"party": 2}],
        analysis=[None, {"party": 1}],
    )
    vcon.remove("parties", [1])
    result = written(vcon)
    assert result["parties"] == [{"name": "a"}, {"name": "c"}]
    assert result["dialog"] == [{"parties": [[0, None], 1], "party_history": [{"party": 1}]}]
    assert result["attachments"] == [{"party": 1}]
    assert result["analysis"] == [None, {}]


def test_extensions_are_declared_once() -> None:
    """A missing list is made, a name is not repeated."""
    vcon = parse()
    vcon.extend_extensions("wtf_transcription")
    vcon.extend_extensions("wtf_transcription")
    assert written(vcon)["extensions"] == ["wtf_transcription"]
    vcon = parse(extensions=["wtf_transcription"])
    vcon.extend_extensions("wtf_transcription")
    assert not vcon.changed


# Tags


@pytest.mark.parametrize(
    ("attachment", "expected"),
    [
        ({"type": "tags", "body": ["a:b", "c:d:e"]}, {"a": "b", "c": "d:e"}),
        ({"purpose": "tags", "body": ["a:b"], "encoding": "json"}, {"a": "b"}),
        ({"type": "tags", "body": '["a:b"]', "encoding": "json"}, {"a": "b"}),
        ({"type": "tags", "body": {"a": "b", "n": 1}}, {"a": "b", "n": "1"}),
        ({"type": "tags", "body": ["iron"]}, {"iron": "iron"}),
        ({"type": "tags", "body": ["a:1", "a:2"]}, {"a": "2"}),
        ({"type": "tags", "body": "no json"}, {}),
        ({"type": "tags", "body": [None, 7]}, {}),
        ({"type": "tags", "body": '{"a":' + "[" * 900 + "]" * 900 + "}"}, {}),
        ({"type": "tags"}, {}),
        ({"type": "other", "body": ["a:b"]}, {}),
    ],
)
def test_tags_are_read_in_every_style(attachment: Any, expected: Any) -> None:
    """Native, as a string of JSON, as a mapping; what cannot be read is no tag and no error."""
    assert parse(attachments=[None, attachment]).tags == expected


@pytest.mark.parametrize("body", ["[" * 900 + "]" * 900, '{"a":' + "[" * 900 + "]" * 900 + "}"])
def test_no_tag_joins_what_is_nested_too_deeply_to_be_written(body: str) -> None:
    """Another attempt would not help."""
    vcon = parse(attachments=[{"type": "tags", "body": body}])
    with pytest.raises(Rejected, match="cannot be written as JSON"):
        vcon.add_tag("x", "y")


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (["a:b"], ["a:b", "x:y"]),
        ('["a:b"]', '["a:b","x:y"]'),
        ({"a": "b"}, {"a": "b", "x": "y"}),
        ([], ["x:y"]),
    ],
)
def test_a_tag_joins_the_others_in_their_style(body: Any, expected: Any) -> None:
    """Readers of an old document find the new tag where they look for tags."""
    vcon = parse(attachments=[{"type": "tags", "body": body, "x-own": 1}, {"purpose": "z"}])
    vcon.add_tag("x", "y")
    vcon.add_tag("x", "y")
    assert written(vcon)["attachments"] == [
        {"type": "tags", "body": expected, "x-own": 1},
        {"purpose": "z"},
    ]


def test_a_tag_that_is_there_changes_nothing() -> None:
    """Whichever attachment holds it."""
    first, second = {"type": "tags", "body": ["a:b"]}, {"purpose": "tags", "body": ["c:d"]}
    vcon = parse(attachments=[first, second])
    vcon.add_tag("a", "b")
    assert not vcon.changed
    vcon.add_tag("e", "f")
    assert written(vcon)["attachments"][1]["body"] == ["c:d", "e:f"]


def test_the_first_tag_makes_an_attachment_of_today() -> None:
    """Current spelling, native body, and nothing in it that differs from one run to the next."""
    vcon = parse(created_at="2025-01-01T00:00:00Z", parties=[{}], dialog=[{"type": "text"}])
    vcon.add_tag("a", "b")
    assert written(vcon)["attachments"] == [
        {
            "purpose": "tags",
            "start": "2025-01-01T00:00:00Z",
            "party": 0,
            "dialog": 0,
            "mediatype": "application/json",
            "encoding": "json",
            "body": ["a:b"],
        }
    ]
    bare = parse()
    bare.add_tag("a", "b")
    assert set(written(bare)["attachments"][0]) == {"purpose", "mediatype", "encoding", "body"}


# Bodies


@pytest.mark.parametrize(
    ("item", "expected"),
    [
        ({}, None),
        ({"body": None}, None),
        ({"body": "AQIDBA", "encoding": "base64url"}, b"\1\2\3\4"),
        ({"body": "AQIDBA==", "encoding": "base64url"}, b"\1\2\3\4"),
        ({"body": "-_8", "encoding": "base64url"}, b"\xfb\xff"),
        ({"body": "+/8=", "encoding": "base64url"}, b"\xfb\xff"),
        ({"body": "AQID\r\n BA==\n", "encoding": "base64url"}, b"\1\2\3\4"),
        ({"body": "", "encoding": "base64url"}, b""),
        ({"body": {"a": 1}, "encoding": "json"}, {"a": 1}),
        ({"body": '{"a": 1}', "encoding": "json"}, {"a": 1}),
        ({"body": "NO REVIEW", "encoding": "json"}, "NO REVIEW"),
        ({"body": '{"a": 1}', "encoding": "none"}, '{"a": 1}'),
        ({"body": "AQIDBA", "mimetype": "audio/wav"}, b"\1\2\3\4"),
        ({"body": "[1]", "mediatype": "application/vnd.x+json; v=1"}, [1]),
        ({"body": "AQIDBA"}, "AQIDBA"),
        ({"body": [1]}, [1]),
    ],
)
def test_bodies_are_decoded_by_what_they_are(item: Any, expected: Any) -> None:
    """Encoding first, media type without one, and always leniently."""
    assert decode_body(item) == expected


@pytest.mark.parametrize("body", ["A", "AQ!D", "é", "AQID=BA"])
def test_a_body_that_is_not_base64_is_refused(body: str) -> None:
    """Nothing is guessed from damaged audio."""
    with pytest.raises(Rejected, match="not base64url"):
        decode_body({"body": body, "encoding": "base64url"})


def test_encoded_bodies_have_no_padding() -> None:
    """As the standard says, and they come back."""
    for length in range(5):
        content = b"\xfb\xff\x00\x01"[:length]
        text = encode_body(content)
        assert "=" not in text
        assert decode_body({"body": text, "encoding": "base64url"}) == content


def test_content_hashes_in_every_spelling() -> None:
    """content_hash as text or list, the old pair of alg and signature, and names nobody knows."""
    digest = bytes(range(64))
    text, short = encode_body(digest), encode_body(digest[:32])
    assert content_hashes({}) == []
    assert content_hashes({"content_hash": f"sha512-{text}"}) == [("sha512", digest)]
    assert content_hashes({"content_hash": [f"sha256-{short}", "crc-AA"]}) == [
        ("sha256", digest[:32])
    ]
    assert content_hashes({"alg": "SHA-512", "signature": text}) == [("sha512", digest)]
    assert content_hashes({"alg": "LM-OTS", "signature": text}) == []


def test_small_readers() -> None:
    """Media types without parameters, references flattened, placeholders passed over."""
    assert media_type({"mimetype": "Audio/WAV; codecs=1"}) == "audio/wav"
    assert media_type({"mediatype": "text/plain", "mimetype": "x/y"}) == "text/plain"
    assert media_type({"mediatype": None, "mimetype": 7}) is None
    assert indices([0, None, [1, [2]], True, "3"]) == [0, 1, 2]
    assert indices(4) == [4]
    assert indices(None) == []
    assert list(numbered([None, {"a": 1}, "x", {}])) == [(1, {"a": 1}), (3, {})]


def test_the_link_in_the_documentation_works() -> None:
    """docs/vcon.md shows one; this is it, run."""
    page = (Path(__file__).parents[3] / "docs" / "vcon.md").read_text()
    names: dict[str, Any] = {}
    exec(page.partition("```python\n")[2].partition("```")[0], names)
    changed = names["run"](parse(dialog=[{"type": "text", "body": "one two"}, None]), None, None)
    assert changed.analysis[0]["body"] == {"count": 2}
    assert changed.tags == {"counted": "yes"}


def test_the_hot_path_parses_once_writes_once_and_does_little_else() -> None:
    """One tag on a common vCon: counted in calls, which no busy machine changes.

    Measured beside orjson alone (7 us for 3.6 KB) this costs 1.6 us more.
    """
    raw = vcons.raw("plain", attachments=[{"type": "tags", "body": ["a:b"], "encoding": "json"}])
    calls: collections.Counter[str] = collections.Counter()

    def count(frame: Any, event: str, what: Any) -> None:
        if event == "call":
            calls["python"] += 1
        elif event == "c_call":
            calls["c"] += 1
            calls[what.__name__] += 1

    sys.setprofile(count)
    try:
        vcon = Vcon.parse(raw)
        vcon.add_tag("x", "y")
        vcon.dump()
    finally:
        sys.setprofile(None)
    assert (calls["loads"], calls["dumps"]) == (1, 1)
    assert calls["python"] <= 15
    assert calls["c"] <= 30

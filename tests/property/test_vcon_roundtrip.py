"""Any JSON object with a uuid goes through unchanged, and through an addition with all it had."""

from __future__ import annotations

import json
from typing import Any

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from conserver.vcon.document import Vcon, decode_body, encode_body
from tests import vcons

VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)
LISTS = ("parties", "dialog", "analysis", "attachments")
RESERVED = {*LISTS, "uuid", "payload", "ciphertext", "extensions"}
OTHERS = st.dictionaries(st.text().filter(lambda name: name not in RESERVED), VALUES, max_size=5)


@st.composite
def documents(draw: st.DrawFn) -> dict[str, Any]:
    """Members of any kind, lists of any elements, in any order."""
    members = [("uuid", "u-1"), *draw(OTHERS).items()]
    members += [(name, draw(st.none() | st.lists(VALUES, max_size=4))) for name in LISTS]
    return dict(draw(st.permutations(members)))


@settings(max_examples=200, deadline=None)
@given(documents(), st.booleans(), st.sampled_from([None, 2]))
def test_unchanged_bytes_come_out(document: dict[str, Any], ascii_only: bool, indent: Any) -> None:
    """However it was written: escapes, indentation, order."""
    raw = json.dumps(document, ensure_ascii=ascii_only, indent=indent).encode("utf-8", "replace")
    vcon = Vcon.parse(raw)
    assert vcon.tags is not None
    assert vcon.data == vcon.view
    assert vcon.dump() is raw


@settings(max_examples=200, deadline=None)
@given(documents())
def test_an_addition_leaves_the_rest(document: dict[str, Any]) -> None:
    """After an analysis, an extension and a tag, all that was there is there, in its place."""
    raw = orjson.dumps(document)
    before = orjson.loads(raw)
    vcon = Vcon.parse(raw)
    vcon.add_analysis({"type": "x"})
    vcon.extend_extensions("y")
    result = orjson.loads(vcon.dump())
    assert result["analysis"].pop() == {"type": "x"}
    assert result.pop("extensions") == ["y"]
    before["analysis"] = before["analysis"] or []
    assert orjson.dumps(result) == orjson.dumps(before)


@settings(max_examples=50, deadline=None)
@given(st.sampled_from(vcons.SHAPES), st.integers(0, 10_000), st.text(min_size=1), st.text())
def test_tags_come_back(shape: str, seed: int, name: str, value: str) -> None:
    """A tag that was added can be read, in every shape that can take one, and only once."""
    vcon = Vcon.parse(vcons.raw(shape, seed))
    name = name.replace(":", "")
    if vcon.form != "unsigned":
        return
    vcon.add_tag(name, value)
    vcon.add_tag(name, value)
    again = Vcon.parse(vcon.dump())
    assert again.tags[name] == value
    assert again.tag_texts().count(f"{name}:{value}") == 1


@given(st.binary())
def test_bytes_come_back_from_bodies(content: bytes) -> None:
    """encode_body and decode_body are each other's inverse."""
    assert decode_body({"body": encode_body(content), "encoding": "base64url"}) == content

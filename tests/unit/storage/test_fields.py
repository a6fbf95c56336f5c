"""storage.fields: what is read of a vCon, and what is quietly not."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from storage.contract import Document
from storage.fields import (
    date_folder,
    is_safe_name,
    messages,
    notes,
    objects,
    strings,
    timestamp,
    transcripts,
)
from storage.reading import tags_of


@pytest.mark.parametrize(
    ("value", "moment"),
    [
        ("2025-03-04T05:06:07Z", datetime(2025, 3, 4, 5, 6, 7, tzinfo=UTC)),
        ("2025-03-04t05:06:07z", datetime(2025, 3, 4, 5, 6, 7, tzinfo=UTC)),
        ("2025-03-04T05:06:07+02:00", datetime(2025, 3, 4, 3, 6, 7, tzinfo=UTC)),
        ("2025-03-04T05:06:07", datetime(2025, 3, 4, 5, 6, 7, tzinfo=UTC)),
        ("2025-03-04 05:06:07.1234567Z", datetime(2025, 3, 4, 5, 6, 7, 123456, tzinfo=UTC)),
        ("2025-03-04", datetime(2025, 3, 4, tzinfo=UTC)),
        ("0001-01-01T00:00:00+14:00", None),
        ("yesterday", None),
        ("", None),
        (None, None),
        (1741064767, None),
        ({"a": 1}, None),
    ],
)
def test_timestamps(value: object, moment: datetime | None) -> None:
    assert timestamp(value) == moment


@pytest.mark.parametrize(
    ("created_at", "folder"),
    [
        ("2025-03-04T23:30:00-08:00", "2025/03/04"),
        ("2025-03-04T00:30:00", "2025/03/04"),
        ("0099-01-02", "0099/01/02"),
        ("never", ""),
        (None, ""),
        (7, ""),
    ],
)
def test_the_folder_is_the_day_as_it_was_written(created_at: object, folder: str) -> None:
    assert date_folder({"created_at": created_at}) == folder


@pytest.mark.parametrize("uuid", ["018e8f9a-1b2c-8d3e-9f4a-5b6c7d8e9f0a", "a", "a.b_c-D", "_"])
def test_safe_names(uuid: str) -> None:
    assert is_safe_name(uuid)


@pytest.mark.parametrize("uuid", ["", ".", "..", ".a", "a/b", "a\\b", "a\0", "a b", "é", "a" * 201])
def test_unsafe_names(uuid: str) -> None:
    assert not is_safe_name(uuid)


def test_lists_that_are_none_and_members_that_are_no_objects() -> None:
    assert objects({}, "parties") == []
    assert objects({"parties": None}, "parties") == []
    assert objects({"parties": {"a": 1}}, "parties") == []
    assert objects({"parties": [None, {"a": 1}, 2, []]}, "parties") == [{"a": 1}]


@pytest.mark.parametrize(
    "attachment",
    [
        {"purpose": "tags", "encoding": "json", "body": ["a:b", "c:d"]},
        {"type": "tags", "encoding": "json", "body": '["a:b", "c:d"]'},
        {"purpose": "tags", "encoding": "json", "body": ["a:b", 5, "c:d", None]},
        {"purpose": "tags", "encoding": "json", "body": {"a": "b", "c": "d"}},
    ],
)
def test_tags_in_all_spellings(attachment: dict[str, Any]) -> None:
    assert tags_of([{"purpose": "other", "body": ["x:y"]}, attachment]) == ["a:b", "c:d"]


@pytest.mark.parametrize(
    "analysis",
    [
        {"type": "transcript", "body": "hello there"},
        {"type": "transcript", "encoding": "json", "body": {"text": "hello there"}},
        {"type": "transcript", "encoding": "json", "body": '{"transcript": "hello there"}'},
        {"type": "wtf_transcription", "body": {"transcript": {"text": "hello there"}}},
        {"type": "transcription", "body": {"segments": [{"text": "hello"}, {"text": "there"}]}},
        {"type": "transcript", "body": [{"text": "hello"}, {"x": 1}, {"message": "there"}]},
        {"type": "transcript", "body": {"paragraphs": {"transcript": "hello there"}}},
    ],
)
def test_the_words_of_a_transcript_whoever_made_it(analysis: dict[str, Any]) -> None:
    summary = {"type": "summary", "body": {"text": "greeting"}}
    assert list(transcripts([summary, analysis])) == ["hello there"]
    assert list(notes([summary, analysis])) == ["greeting"]


def test_a_transcript_in_two_formats_counts_once() -> None:
    def said(kind: str, dialog: int, words: str) -> dict[str, Any]:
        return {"type": kind, "dialog": dialog, "body": {"text": words}, "encoding": "json"}

    analyses = [
        said("transcript", 0, "hello"),
        said("wtf_transcription", 0, "hello"),
        said("transcript", 1, "hello"),
        said("transcript", 1, "hello again"),
    ]
    assert list(transcripts(analyses)) == ["hello", "hello", "hello again"]


def test_text_dialogs_are_messages() -> None:
    dialogs: list[dict[str, Any]] = [
        {"type": "text", "body": "hi"},
        {"type": "text", "body": "aGk", "encoding": "base64url"},
        {"type": "recording", "body": "hi"},
        {"type": "text", "body": {"text": "hi"}},
    ]
    assert list(messages(dialogs)) == ["hi", "hi", "hi"]


def test_strings_are_found_in_order_at_any_depth() -> None:
    value: Any = "deepest"
    for _ in range(5000):
        value = [value]
    assert list(strings({"a": ["one", {"b": "two"}], "c": [value], "d": 5})) == [
        "one",
        "two",
        "deepest",
    ]


@pytest.mark.parametrize(
    ("body", "form"),
    [
        (b'{"uuid": "a"}', "unsigned"),
        (b'{"payload": "", "signatures": []}', "jws"),
        (b'{"ciphertext": "", "recipients": []}', "jwe"),
    ],
)
def test_the_form_of_a_document(body: bytes, form: str) -> None:
    assert Document("a", body, 1).form == form


def test_a_document_is_parsed_once_or_not_at_all() -> None:
    given = Document("a", b'{"a": 1}', 1)
    assert given.data is given.data
    handed_in = {"a": 2}
    assert Document("a", b"not looked at", 1, parsed=handed_in).data is handed_in
    for body in (b"[]", b"null", b"1", b"{"):
        with pytest.raises(ValueError, match=r"object|JSON|char"):
            _ = Document("a", body, 1).data

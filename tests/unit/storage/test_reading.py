"""storage.reading: what a vCon says, in every form in which producers write it."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from storage import reading
from tests import vcons

TURNS = [("Ann", "hello there"), ("Ben", "good morning")]
WORDS = "hello there good morning"
# Formats that do not say who spoke, or of which only the channels are known.
UNNAMED = {
    "plain text",
    "deepgram, without paragraphs",
    "groq",
    "openai",
    "hugging face",
    "hugging face, a list",
    "whisper, segments alone",
    "a list of texts",
    "amazon",
    "google",
    "words alone",
}
NUMBERED = {
    "deepgram, a channel for each party",
    "wtf, older, without speakers",
    "rev",
}


def labelled(body: Any) -> list[dict[str, Any]]:
    """A body in every way in which JSON is labelled."""
    text = json.dumps(body)
    return [
        {"body": body, "encoding": "json"},
        {"body": body},
        {"body": body, "encoding": "none"},
        {"body": text, "encoding": "json"},
        {"body": text, "encoding": "none"},
        {"body": text},
        {"body": base64.urlsafe_b64encode(text.encode()).decode(), "encoding": "base64url"},
    ]


@pytest.mark.parametrize("name", vcons.TRANSCRIPTS)
def test_the_words_of_a_transcript_in_every_format(name: str) -> None:
    found = reading.spoken(vcons.TRANSCRIPTS[name](TURNS))
    assert found is not None
    assert found.text.split() == WORDS.split()
    if name in UNNAMED:
        assert found.conversation.split() == WORDS.split()
    elif name in NUMBERED:
        assert found.conversation == "Speaker 0: hello there\n\nSpeaker 1: good morning"
    else:
        assert found.conversation == "Ann: hello there\n\nBen: good morning"


@pytest.mark.parametrize("name", vcons.TRANSCRIPTS)
def test_the_label_of_json_does_not_matter(name: str) -> None:
    body = vcons.TRANSCRIPTS[name](TURNS)
    for part in labelled(body) if not isinstance(body, str) else [{"body": body}]:
        found = reading.spoken(reading.structured(part))
        assert found is not None
        assert found.text.split() == WORDS.split()


@pytest.mark.parametrize(
    "body",
    [
        "",
        [],
        {"transcript": ""},
        {"text": ""},
        {"transcript": {"text": "", "language": "und"}, "segments": []},
        {"results": {"channels": [{"alternatives": [{"transcript": ""}]}]}},
        {"words": []},
    ],
)
def test_silence_is_a_transcript_without_words(body: Any) -> None:
    assert reading.spoken(body) == reading.Spoken("", "")


@pytest.mark.parametrize(
    ("body", "shape"),
    [
        ({"error": "model is loading"}, "an object with: error"),
        ([1, 2], "an array of: int"),
        (26, "a int"),
        (None, "it has no body"),
        ({}, "an object with: nothing"),
        (b"\xff\x00", "bytes (2)"),
    ],
)
def test_what_is_no_transcript_is_described_without_its_content(body: Any, shape: str) -> None:
    assert reading.spoken(body) is None
    assert reading.shape_of({}, body) == shape


def test_no_depth_exhausts_the_stack() -> None:
    for member in ("transcript", "segments", "results"):
        body: Any = {"text": "deep"}
        for _ in range(2000):
            body = {member: [body]}
        assert reading.spoken(body) is None


def test_a_dialog_has_what_its_first_transcript_with_words_says() -> None:
    document: dict[str, Any] = {
        "dialog": [{"type": "recording"}, {"type": "recording"}],
        "analysis": [
            None,
            {"type": "summary", "dialog": 0, "body": "no transcript"},
            {"type": "transcript", "dialog": 0, "body": {"error": "busy"}},
            {"type": "transcript", "dialog": 0, "body": {"text": ""}},
            {"type": "WTF-Transcription", "dialog": [1, 0], "body": {"transcript": {"text": "w"}}},
        ],
    }
    said = reading.transcript_of(document, 0)
    assert said.spoken == reading.Spoken("w", "w")
    assert said.unreadable == ["analysis 2 (type transcript): an object with: error"]
    assert reading.transcript_of(document, 2) == reading.Said()
    del document["analysis"][4]
    assert reading.transcript_of(document, 0).spoken == reading.Spoken("", "")
    del document["analysis"][3]
    assert reading.transcript_of(document, 0).spoken is None


def test_a_transcript_may_be_an_attachment_and_may_leave_out_the_only_dialog() -> None:
    wtf = {"purpose": "wtf_transcription", "body": {"transcript": {"text": "caption"}}}
    document = {"dialog": [{"type": "video"}], "attachments": [wtf]}
    said = reading.transcript_of(document, 0)
    assert said.spoken is not None
    assert said.spoken.text == "caption"
    assert reading.transcript_of({**document, "dialog": [{}, {}]}, 0) == reading.Said()
    away = {"type": "transcript", "dialog": 0, "url": "https://example.com/t.json"}
    unreadable = reading.transcript_of({"dialog": [{}], "analysis": [away]}, 0).unreadable
    assert unreadable == ["analysis 0 (type transcript): its content is at a url"]


@pytest.mark.parametrize("body", [["a:b", "c:d", 5, None], {"a": "b", "c": "d"}])
def test_tags_whatever_their_label(body: Any) -> None:
    for part in labelled(body):
        assert reading.tag_texts(part) == ["a:b", "c:d"]


def test_tags_that_cannot_be_read_are_told_from_none() -> None:
    assert reading.tag_texts({"body": "vip"}) is None
    assert reading.tag_texts({"body": ""}) == []
    assert reading.tag_texts({}) == []
    assert reading.tag_texts({"body": {"vip": True, "n": 1}}) == ["vip:true", "n:1"]
    attachments = [{"purpose": "tags", "body": "vip"}, None, {"type": "tags", "body": '["a:b"]'}]
    assert reading.tags_of(attachments) == ["a:b"]


@pytest.mark.parametrize(
    ("dialog", "words"),
    [
        ({"type": "text", "body": "hi"}, "hi"),
        ({"type": "text", "body": "aGk", "encoding": "base64url"}, "hi"),
        ({"type": "text", "body": {"text": "hi"}}, "hi"),
        ({"type": "text", "body": '[{"speaker": "A", "message": "hi"}]'}, "hi"),
        ({"type": "text", "body": ""}, None),
        ({"type": "text", "body": {"a": 1}}, None),
        ({"type": "recording", "body": "hi"}, None),
    ],
)
def test_the_words_of_a_text_dialog(dialog: dict[str, Any], words: str | None) -> None:
    assert reading.message(dialog) == words


@pytest.mark.parametrize(
    ("value", "seconds"),
    [(3, 3.0), (0, 0.0), (2.5, 2.5), (-1, None), (-30, None), (True, None), ("3", None)],
)
def test_an_unknown_duration_is_none(value: Any, seconds: float | None) -> None:
    assert reading.duration_s({"duration": value}) == seconds
    assert reading.duration_s({}) is None


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ({"encoding": "json", "body": "NO REVIEW NEEDED"}, "NO REVIEW NEEDED"),
        ({"encoding": "none", "body": "26"}, "26"),
        ({"encoding": "json", "body": "26"}, 26),
        ({"body": "26"}, "26"),
        ({"body": "[see below]"}, "[see below]"),
        ({"encoding": "base64url", "body": "not base64!"}, "not base64!"),
        ({"encoding": "base64url", "body": "_wA"}, b"\xff\x00"),
        ({"encoding": "base64", "body": "/wA="}, b"\xff\x00"),
        ({"type": "recording", "body": "_wA"}, b"\xff\x00"),
        ({"type": "recording", "mediatype": "application/octet-stream", "body": "_wA"}, b"\xff\0"),
        ({"type": "recording", "mediatype": "text/plain", "body": "_wA"}, "_wA"),
        ({}, None),
    ],
)
def test_bodies_as_text_or_value(part: dict[str, Any], value: object) -> None:
    assert reading.structured(part) == value

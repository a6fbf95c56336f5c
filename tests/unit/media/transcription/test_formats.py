"""A transcription as subtitles, text and JSON."""

from __future__ import annotations

import json

import pytest

from conserver.media.transcription.conversation import Transcription, conversation
from conserver.media.transcription.engine import Word
from conserver.media.transcription.formats import (
    MEDIA_TYPES,
    NoTimesError,
    render,
    srt,
    text,
    verbose,
    vtt,
)
from conserver.media.transcription.transcript import Transcript, read, transcript_of
from conserver.media.transcription.wtf import wtf_body
from tests.unit.media.transcription.test_results import segment, spoken, transcription


def as_read(heard: Transcription) -> Transcript:
    """As everybody reads it: from its analysis."""
    found = read(json.loads(json.dumps(wtf_body(heard, conversation(heard)))))
    assert found is not None
    return found


TALK = as_read(transcription([segment(0, "good morning")], [segment(1.5, "hello <there>")]))


def test_subtitles_name_who_speaks_where_several_do() -> None:
    assert srt(TALK) == (
        "1\n00:00:00,000 --> 00:00:01,000\nAda: good morning\n\n"
        "2\n00:00:01,500 --> 00:00:02,500\nChannel 1: hello <there>\n"
    )
    assert vtt(TALK) == (
        "WEBVTT\n\n00:00:00.000 --> 00:00:01.000\n<v Ada>good morning\n\n"
        "00:00:01.500 --> 00:00:02.500\n<v Channel 1>hello &lt;there&gt;\n"
    )


@pytest.mark.parametrize("form", MEDIA_TYPES)
@pytest.mark.parametrize("odd", [1e308, -1e308, 1e300, float("inf"), float("nan")])
def test_a_number_that_is_no_time_ends_no_format(form: str, odd: float) -> None:
    words = [{"start": odd, "end": odd, "text": "hi"}]
    one = {"start": odd, "end": odd, "text": "hi", "words": [0]}
    head = {"text": "hi", "duration": odd}
    found = read({"transcript": head, "segments": [one, one], "words": words, "speakers": {}})
    assert found is not None
    assert "hi" in render(found, form)


def test_one_voice_needs_no_name() -> None:
    alone = as_read(transcription([segment(3599.9994, "good morning")]))
    assert srt(alone).splitlines()[1:] == ["00:59:59,999 --> 01:00:00,999", "good morning"]
    assert text(alone) == "good morning\n"


def test_a_long_segment_becomes_several_subtitles() -> None:
    words = " ".join(f"word{number}" for number in range(60))
    cues = srt(as_read(transcription([segment(0, words)]))).split("\n\n")
    assert len(cues) > 4
    assert all(len(cue.splitlines()[2]) <= 84 for cue in cues)
    assert " ".join(cue.splitlines()[2] for cue in cues) == words


def test_a_script_without_spaces_is_cut_without_any() -> None:
    said = [Word(n * 0.5, n * 0.5 + 0.5, letter, 0.9) for n, letter in enumerate("天地玄黄" * 10)]
    cues = [
        cue.splitlines()[2] for cue in srt(as_read(transcription([spoken(said)]))).split("\n\n")
    ]
    assert len(cues) > 2
    assert "".join(cues) == "天地玄黄" * 10


def test_a_silence_begins_a_paragraph() -> None:
    heard = as_read(transcription([segment(0, "good morning"), segment(9, "are you there")]))
    assert text(heard) == "good morning\nare you there\n"


def test_verbose_json_has_what_openais_clients_read() -> None:
    body = verbose(TALK)
    assert (body["task"], body["language"], body["duration"]) == ("transcribe", "en", 20.0)
    assert body["text"] == "good morning hello <there>"
    assert body["segments"][0] == {
        "id": 0, "seek": 0, "start": 0.0, "end": 1.0, "text": "good morning", "tokens": [],
        "temperature": 0.0, "avg_logprob": -0.2, "compression_ratio": 1.0, "no_speech_prob": 0.0,
        "speaker": "Ada",
    }  # fmt: skip
    assert body["words"][0] == {"word": "good", "start": 0, "end": 0.5, "speaker": "Ada"}
    assert body["usage"] == {"type": "duration", "seconds": 20}


@pytest.mark.parametrize(
    ("parts", "members"),
    [
        (["segment"], {"segments"}),
        (["word"], {"words"}),
        (["word", "segment"], {"segments", "words"}),
    ],
)
def test_verbose_json_has_the_parts_that_were_asked_for(
    parts: list[str], members: set[str]
) -> None:
    assert verbose(TALK, parts).keys() & {"segments", "words"} == members


def test_a_translation_says_so() -> None:
    heard = transcription([segment(0, "good morning")], options={"translate": True})
    assert verbose(as_read(heard))["task"] == "translate"


def test_several_recordings_come_one_after_the_other() -> None:
    bodies = [
        wtf_body(heard, conversation(heard))
        for heard in (transcription([segment(1, "one")]), transcription([segment(2, "two")]))
    ]
    analyses = [
        {"type": "wtf_transcription", "dialog": number, "encoding": "json", "body": body}
        for number, body in enumerate(bodies)
    ]
    found = transcript_of({"analysis": analyses})
    assert found is not None
    assert [(one.start_s, one.text) for one in found.words] == [(1, "one"), (22, "two")]
    assert [one.words[0].start_s for one in found.segments] == [1, 22]


def test_no_subtitles_without_times() -> None:
    found = transcript_of({"analysis": [{"type": "transcript", "body": "Hello."}]})
    assert found is not None
    assert render(found, "text") == "Hello.\n"
    for form in ("srt", "vtt", "diarized_json"):
        with pytest.raises(NoTimesError):
            render(found, form)


def test_every_format_takes_silence() -> None:
    silent = as_read(transcription([]))
    assert {name: render(silent, name) for name in MEDIA_TYPES}["text"] == ""

"""A transcription as subtitles, text and JSON."""

from __future__ import annotations

import json

from conserver.transcription.formats import FORMATS, MEDIA_TYPES, srt, text, verbose_json, vtt
from tests.unit.transcription.test_results import segment, transcription

TALK = transcription([segment(0, "good morning")], [segment(1.5, "hello <there>")])


def test_subtitles_name_who_speaks_where_several_do() -> None:
    assert srt(TALK) == (
        "1\n00:00:00,000 --> 00:00:01,000\nAda: good morning\n\n"
        "2\n00:00:01,500 --> 00:00:02,500\nChannel 1: hello <there>\n"
    )
    assert vtt(TALK) == (
        "WEBVTT\n\n00:00:00.000 --> 00:00:01.000\n<v Ada>good morning\n\n"
        "00:00:01.500 --> 00:00:02.500\n<v Channel 1>hello &lt;there&gt;\n"
    )


def test_one_voice_needs_no_name() -> None:
    alone = transcription([segment(3599.9994, "good morning")])
    assert srt(alone).splitlines()[1:] == ["00:59:59,999 --> 01:00:00,999", "good morning"]
    assert text(alone) == "good morning\n"


def test_a_long_segment_becomes_several_subtitles() -> None:
    words = " ".join(f"word{number}" for number in range(60))
    cues = srt(transcription([segment(0, words)])).split("\n\n")
    assert len(cues) > 4
    assert all(len(cue.splitlines()[2]) <= 84 for cue in cues)
    assert " ".join(cue.splitlines()[2] for cue in cues) == words


def test_verbose_json_has_what_openais_clients_read() -> None:
    body = json.loads(verbose_json(TALK))
    assert body["text"] == "good morning hello <there>"
    assert body["language"] == "en"
    first = body["segments"][0]
    assert {"id", "start", "end", "text", "avg_logprob", "no_speech_prob"} <= first.keys()
    assert first["speaker"] == "Ada"
    assert body["words"][0] == {"word": "good", "start": 0, "end": 0.5, "speaker": "Ada"}


def test_every_format_takes_silence() -> None:
    silent = transcription([])
    assert {name: render(silent) for name, render in FORMATS.items()}["text"] == ""
    assert FORMATS.keys() == MEDIA_TYPES.keys()

"""The two bodies that a vCon keeps: shape, order of the conversation, and what WTF demands."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import numpy as np
import orjson
import pytest

from conserver.media.transcription.audio import Recording
from conserver.media.transcription.conversation import Transcription, conversation, silence_ratio
from conserver.media.transcription.engine import Heard, Identity, Segment, Word
from conserver.media.transcription.results import TRANSCRIPT, WTF, analyses
from conserver.media.transcription.speakers import Speaker
from tests.unit.media.transcription.wtf_rules import check_wtf

ADA, BEN = Speaker(0, "Ada"), Speaker("channel-1", "Channel 1")
STARTED = datetime(2026, 11, 25, 8, 0, 0, 123456, tzinfo=UTC)


def segment(start_s: float, text: str, end_s: float | None = None, **fields: Any) -> Segment:
    """A segment whose words take half a second each, or as long as `end_s` lets them."""
    words = text.split()
    length = 0.5 if end_s is None else (end_s - start_s) / len(words)
    timed = [
        Word(start_s + number * length, start_s + (number + 1) * length, " " + word, 0.9)
        for number, word in enumerate(words)
    ]
    return spoken(timed, **fields)


def spoken(words: list[Word], **fields: Any) -> Segment:
    text = "".join(word.text for word in words).strip()
    fields = {"avg_logprob": -0.2, **fields}
    return Segment(words[0].start_s, words[-1].end_s, text, tuple(words), **fields)


def recording(channels: int = 1, source_channels: int | None = None, **fields: Any) -> Recording:
    empty = tuple(np.zeros(0, np.int16) for _ in range(channels))
    about = {
        "duration_s": 20.0,
        "sample_rate_hz": 8000,
        "format": "wav/pcm_mulaw",
        "bit_rate_bps": 64_000,
        "warnings": (),
    }
    return Recording(empty, source_channels=source_channels or channels, **{**about, **fields})


def transcription(*channels: list[Segment], **fields: Any) -> Transcription:
    """What was heard on each channel; Ada on the first of several, nobody named on a single one."""
    about: dict[str, Any] = {
        "recording": recording(len(channels)),
        "speakers": [ADA, BEN][: len(channels)] if len(channels) > 1 else [None],
        "heard": [Heard(tuple(one), "en" if one else None, 0.98) for one in channels],
        "identity": Identity("whisper", "faster-whisper 1.2.1", "small", "cpu", "int8_float32"),
        "options": {"beam_size": 5},
        "started": STARTED,
        "finished": STARTED + timedelta(seconds=1.5),
    }
    return Transcription(**{**about, **fields})


CALL = transcription(
    [segment(0, "hello there"), segment(6, "how can I help")],
    [segment(2, "hi this is Ben"), segment(12, "thanks")],
)


def body_of(heard: Transcription, kind: str) -> dict[str, Any]:
    (analysis,) = analyses(heard, 0, [kind])
    assert orjson.loads(orjson.dumps(analysis)) == analysis
    body = analysis["body"]
    assert isinstance(body, dict)
    return body


def test_the_analysis_objects() -> None:
    transcript, wtf = analyses(CALL, 3, [TRANSCRIPT, WTF])
    assert [transcript["type"], wtf["type"]] == ["transcript", "wtf_transcription"]
    assert [transcript["schema"], wtf["schema"]] == ["conserver-transcript-1.0", "wtf-1.0"]
    for analysis in (transcript, wtf):
        assert analysis["dialog"] == 3
        assert analysis["vendor"] == "conserver"
        assert analysis["product"] == "faster-whisper 1.2.1 (small)"
        assert analysis["encoding"] == "json"
        assert analysis["mediatype"] == "application/json"


def test_the_transcript_reads_as_a_conversation() -> None:
    body = body_of(CALL, TRANSCRIPT)
    assert body["paragraphs"]["transcript"] == (
        "Ada: hello there\n\nChannel 1: hi this is Ben\n\nAda: how can I help\n\nChannel 1: thanks"
    )
    assert body["transcript"] == "hello there hi this is Ben how can I help thanks"
    assert body["detected_language"] == "en"
    assert body["duration"] == 20
    assert body["confidence"] == pytest.approx(math.exp(-0.2), abs=1e-4)
    assert [entry["speaker"] for entry in body["paragraphs"]["paragraphs"]] == [
        0, "channel-1", 0, "channel-1",
    ]  # fmt: skip
    assert body["words"][2] == {
        "word": "hi", "start": 2.0, "end": 2.5, "confidence": 0.9, "speaker": "channel-1",
    }  # fmt: skip


def test_mono_names_nobody_and_has_paragraphs_by_silence() -> None:
    body = body_of(
        transcription([segment(0, "one two"), segment(1.5, "three"), segment(9, "four")]),
        TRANSCRIPT,
    )
    assert body["paragraphs"]["transcript"] == "one two three\n\nfour"
    first = body["paragraphs"]["paragraphs"][0]
    assert "speaker" not in first
    assert (first["start"], first["end"]) == (0, 2)
    assert [sentence["text"] for sentence in first["sentences"]] == ["one two", "three"]


def test_wtf() -> None:
    body = body_of(CALL, WTF)
    check_wtf(body)
    assert body["segments"][1] == {
        "id": 1, "start": 2, "end": 4, "text": "hi this is Ben", "speaker": "channel-1",
        "confidence": 0.8187, "words": [2, 3, 4, 5],
    }  # fmt: skip
    assert body["speakers"]["0"] == {
        "id": 0, "label": "Ada", "segments": [0, 2], "total_time": 3, "confidence": 0.8187,
    }  # fmt: skip
    assert body["metadata"] == {
        "created_at": "2026-11-25T08:00:00.123Z",
        "processed_at": "2026-11-25T08:00:01.623Z",
        "provider": "whisper",
        "model": "small",
        "processing_time": 1.5,
        "audio": {
            "duration": 20, "sample_rate": 8000, "channels": 2, "format": "wav/pcm_mulaw",
            "bitrate": 64,
        },
        "options": {
            "beam_size": 5, "engine": "faster-whisper 1.2.1", "device": "cpu",
            "compute_type": "int8_float32",
        },
    }  # fmt: skip
    assert body["quality"] == {
        "multiple_speakers": True,
        "overlapping_speech": False,
        "silence_ratio": 0.725,
        "average_confidence": 0.8187,
        "low_confidence_words": 0,
        "processing_warnings": [],
    }
    channels = body["extensions"]["whisper"]["channels"]
    assert [(one["channel"], one["speaker"]) for one in channels] == [(0, 0), (1, "channel-1")]
    assert [one["channel"] for one in body["extensions"]["whisper"]["segments"]] == [0, 1, 0, 1]


def test_wtf_of_a_recording_without_speech() -> None:
    body = body_of(transcription([]), WTF)
    check_wtf(body)
    assert body["transcript"] == {"text": "", "language": "und", "duration": 20, "confidence": 0}
    assert body["segments"] == []
    assert "words" not in body
    assert "speakers" not in body
    assert body["quality"]["processing_warnings"] == ["no speech was found"]
    assert body["quality"]["silence_ratio"] == 1


def test_wtf_mends_what_a_model_gets_wrong() -> None:
    odd = Segment(3, 3, "oh", (Word(3, 2.9, " oh", 1.0),), avg_logprob=0.3, compression_ratio=4.1)
    body = body_of(transcription([odd]), WTF)
    check_wtf(body)
    assert body["segments"][0]["confidence"] == 1
    assert body["quality"]["processing_warnings"] == [
        "1 segments repeat themselves and may be invented"
    ]


def test_warnings_of_all_parts_come_together() -> None:
    heard = Heard((segment(0, "hello"),), "en", 1.0, ("the model knows no 'de'",))
    one = transcription(
        [], recording=recording(1, 2, warnings=("2 damaged packets of sound were skipped",)),
        heard=[heard], warnings=["party 7 is missing"],
    )  # fmt: skip
    assert body_of(one, WTF)["quality"]["processing_warnings"] == [
        "2 damaged packets of sound were skipped",
        "party 7 is missing",
        "both channels hold the same sound: it was transcribed once",
        "the model knows no 'de'",
    ]


def test_the_language_is_that_of_the_channel_that_says_most() -> None:
    short = Heard((segment(0, "ja"),), "de", 0.6)
    long = Heard((segment(2, "one two three"),), "jw", 0.9)
    assert transcription([], [], heard=[short, long]).language == "jv"


def test_an_answer_stands_where_it_was_given() -> None:
    before, after = (
        [Word(0, 1, " please", 0.9)],
        [Word(4, 5, " thank", 0.9), Word(5, 5.5, " you", 0.9)],
    )
    asks = spoken([*before, *after])
    turns = conversation(transcription([asks], [segment(2, "seven two")]))
    assert [turn.segment.text for turn in turns] == ["please", "seven two", "thank you"]
    assert [(turn.segment.start_s, turn.segment.end_s) for turn in turns] == [
        (0, 1),
        (2, 3),
        (4, 5.5),
    ]


def test_a_pause_in_which_nobody_speaks_cuts_nothing() -> None:
    asks = spoken([Word(0, 1, " please", 0.9), Word(4, 5, " wait", 0.9)])
    assert conversation(transcription([asks], [segment(8, "yes")]))[0].segment is asks
    assert conversation(transcription([asks]))[0].segment is asks


def test_a_word_in_between_does_not_cut_fluent_speech() -> None:
    talks = segment(0, "one two three four five six")
    turns = conversation(transcription([talks], [segment(1.2, "yes")]))
    assert [turn.segment.text for turn in turns] == ["one two three four five six", "yes"]


def test_scripts_without_spaces_stay_without_when_they_are_cut() -> None:
    asks = spoken([Word(0, 1, "東", 0.9), Word(1, 2, "京", 0.9), Word(5, 6, "駅", 0.9)])
    turns = conversation(transcription([asks], [segment(3, "はい")]))
    assert [turn.segment.text for turn in turns] == ["東京", "はい", "駅"]


def test_two_voices_at_once_are_noticed() -> None:
    overlap = transcription([segment(0, "one two three four")], [segment(1, "no no")])
    assert body_of(overlap, WTF)["quality"]["overlapping_speech"]
    turn_taking = transcription([segment(0, "one two")], [segment(0.8, "no no")])
    assert not body_of(turn_taking, WTF)["quality"]["overlapping_speech"]


def test_silence_counts_overlapping_speech_once() -> None:
    turns = conversation(
        transcription([segment(0, "a b c d")], [segment(1, "e"), segment(5, "f g")])
    )
    assert silence_ratio(turns, 10) == 0.7
    assert silence_ratio(turns, 0) == 1
    starts = [turn.segment.start_s for turn in turns]
    assert all(one <= next_one for one, next_one in pairwise(starts))

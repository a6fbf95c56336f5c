"""Builds the analyses of a transcription, in two formats.

`transcript` is the format that vcon-server's links read: `paragraphs.transcript` is the
conversation as text, with the speaker's name before each paragraph; `transcript` is the text
without names; `paragraphs`, `words` and the other members are for programs. `wtf_transcription` is
the World Transcription Format (wtf.py). In both, speakers are indices of parties.

If nobody spoke, the text is empty, the confidence is 0, and the language is "und" unless one was
configured. An empty transcript is written as well, so that the dialog is not transcribed again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from conserver.media.transcription.conversation import (
    Transcription,
    Turn,
    confidence_of,
    conversation,
    paragraphs,
    text_of,
)
from conserver.media.transcription.wtf import wtf_body

VENDOR = "conserver"
TRANSCRIPT: Literal["transcript"] = "transcript"
WTF: Literal["wtf_transcription"] = "wtf_transcription"
SCHEMAS = {TRANSCRIPT: "conserver-transcript-1.0", WTF: "wtf-1.0"}


def analyses(
    transcription: Transcription, dialog: int, types: Sequence[str]
) -> list[dict[str, Any]]:
    """One analysis for each of `types` (TRANSCRIPT, WTF), ready to be added to the vCon."""
    turns = conversation(transcription)
    bodies = {TRANSCRIPT: transcript_body, WTF: wtf_body}
    identity = transcription.identity
    return [
        {
            "type": kind,
            "dialog": dialog,
            "vendor": VENDOR,
            "product": f"{identity.product} ({identity.model})",
            "schema": SCHEMAS[kind],
            "mediatype": "application/json",
            "encoding": "json",
            "body": bodies[kind](transcription, turns),
        }
        for kind in types
    ]


def transcript_body(transcription: Transcription, turns: Sequence[Turn]) -> dict[str, Any]:
    """The body of a `transcript` analysis."""
    grouped = paragraphs(turns)
    body: dict[str, Any] = {
        "transcript": text_of(turns),
        "confidence": confidence_of(turns),
        "detected_language": transcription.language,
        "duration": round(transcription.recording.duration_s, 3),
        "paragraphs": {
            "transcript": "\n\n".join(_spoken(paragraph) for paragraph in grouped),
            "paragraphs": [_paragraph(paragraph) for paragraph in grouped],
        },
    }
    if words := [_word(turn, word) for turn in turns for word in turn.segment.words]:
        body["words"] = words
    return body


def _spoken(paragraph: Sequence[Turn]) -> str:
    speaker = paragraph[0].speaker
    text = text_of(paragraph)
    return f"{speaker.label}: {text}" if speaker else text


def _paragraph(paragraph: Sequence[Turn]) -> dict[str, Any]:
    speaker = paragraph[0].speaker
    entry: dict[str, Any] = {"speaker": speaker.id, "label": speaker.label} if speaker else {}
    entry["start"] = round(paragraph[0].segment.start_s, 3)
    entry["end"] = round(max(turn.segment.end_s for turn in paragraph), 3)
    entry["sentences"] = [
        {
            "text": turn.segment.text,
            "start": round(turn.segment.start_s, 3),
            "end": round(turn.segment.end_s, 3),
        }
        for turn in paragraph
    ]
    return entry


def _word(turn: Turn, word: Any) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "word": word.text.strip(),
        "start": round(word.start_s, 3),
        "end": round(word.end_s, 3),
        "confidence": round(word.confidence, 4),
    }
    if turn.speaker:
        entry["speaker"] = turn.speaker.id
    return entry

"""Builds the body of an analysis in World Transcription Format.

The format is draft-howe-vcon-wtf-extension-02. It requires that every segment and word ends after
its start, and that confidences are between 0 and 1. The engine does not guarantee this, so values
are corrected here. Data without a member in the format, such as channels, is in `extensions` under
the provider's name.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from conserver.media.transcription.conversation import (
    Transcription,
    Turn,
    confidence_of,
    length_s,
    overlapping,
    segment_confidence,
    silence_ratio,
    text_of,
)
from conserver.media.transcription.engine import Segment, Word

_MIN_LENGTH_S = 0.001
_LOW_CONFIDENCE = 0.5

# Whisper's own threshold: text with a higher ratio repeats itself and is often invented.
_ODD_COMPRESSION_RATIO = 2.4


def wtf_body(transcription: Transcription, turns: Sequence[Turn]) -> dict[str, Any]:
    """The body of a `wtf_transcription` analysis."""
    segments: list[dict[str, Any]] = []
    words: list[dict[str, Any]] = []
    for turn in turns:
        segment = _entry(turn, turn.segment, len(segments), segment_confidence(turn.segment))
        if turn.segment.words:
            segment["words"] = [len(words) + index for index in range(len(turn.segment.words))]
        for word in turn.segment.words:
            words.append(_entry(turn, word, len(words), round(word.confidence, 4)))
        segments.append(segment)
    body: dict[str, Any] = {
        "transcript": {
            "text": text_of(turns),
            "language": transcription.language,
            "duration": round(transcription.recording.duration_s, 3),
            "confidence": confidence_of(turns),
        },
        "segments": segments,
        "metadata": _metadata(transcription),
    }
    if words:
        body["words"] = words
    if speakers := _speakers(turns):
        body["speakers"] = speakers
    body["quality"] = _quality(transcription, turns)
    body["extensions"] = {transcription.identity.provider: _extension(transcription, turns)}
    return body


def _entry(turn: Turn, part: Segment | Word, number: int, confidence: float) -> dict[str, Any]:
    start = round(part.start_s, 3)
    entry: dict[str, Any] = {
        "id": number,
        "start": start,
        "end": max(round(part.end_s, 3), round(start + _MIN_LENGTH_S, 3)),
        "text": part.text.strip(),
        "confidence": confidence,
    }
    if turn.speaker:
        entry["speaker"] = turn.speaker.id
    return entry


def _metadata(transcription: Transcription) -> dict[str, Any]:
    recording = transcription.recording
    audio: dict[str, Any] = {
        "duration": round(recording.duration_s, 3),
        "sample_rate": recording.sample_rate_hz,
        "channels": recording.source_channels,
        "format": recording.format,
    }
    if recording.bit_rate_bps:
        audio["bitrate"] = round(recording.bit_rate_bps / 1000)
    took = transcription.finished - transcription.started
    return {
        "created_at": _rfc3339(transcription.started),
        "processed_at": _rfc3339(transcription.finished),
        "provider": transcription.identity.provider,
        "model": transcription.identity.model,
        "processing_time": round(took.total_seconds(), 3),
        "audio": audio,
        "options": {
            **transcription.options,
            "engine": transcription.identity.product,
            "device": transcription.identity.device,
            "compute_type": transcription.identity.compute_type,
        },
    }


def _speakers(turns: Sequence[Turn]) -> dict[str, dict[str, Any]]:
    speakers: dict[str, dict[str, Any]] = {}
    theirs: dict[str, list[Turn]] = {}
    for number, turn in enumerate(turns):
        if turn.speaker:
            key = str(turn.speaker.id)
            theirs.setdefault(key, []).append(turn)
            empty: dict[str, Any] = {
                "id": turn.speaker.id,
                "label": turn.speaker.label,
                "segments": [],
            }
            speakers.setdefault(key, empty)["segments"].append(number)
    for key, speaker in speakers.items():
        total_s = sum(length_s(turn.segment) for turn in theirs[key])
        speaker["total_time"] = round(total_s, 3)
        speaker["confidence"] = confidence_of(theirs[key])
    return speakers


def _quality(transcription: Transcription, turns: Sequence[Turn]) -> dict[str, Any]:
    words = [word for turn in turns for word in turn.segment.words]
    quality: dict[str, Any] = {
        "multiple_speakers": len({turn.channel for turn in turns}) > 1,
        "overlapping_speech": overlapping(turns),
        "silence_ratio": silence_ratio(turns, transcription.recording.duration_s),
        "average_confidence": confidence_of(turns),
    }
    if words:
        quality["low_confidence_words"] = sum(word.confidence < _LOW_CONFIDENCE for word in words)
    quality["processing_warnings"] = _warnings(transcription, turns)
    return quality


def _warnings(transcription: Transcription, turns: Sequence[Turn]) -> list[str]:
    warnings = [*transcription.recording.warnings, *transcription.warnings]
    if transcription.recording.dual_mono:
        warnings.append("both channels hold the same sound: it was transcribed once")
    for channel, heard in enumerate(transcription.heard):
        where = f"channel {channel}: " if len(transcription.heard) > 1 else ""
        warnings.extend(where + warning for warning in heard.warnings)
    odd = sum(turn.segment.compression_ratio > _ODD_COMPRESSION_RATIO for turn in turns)
    if odd:
        warnings.append(f"{odd} segments repeat themselves and may be invented")
    if not turns:
        warnings.append("no speech was found")
    return warnings


def _extension(transcription: Transcription, turns: Sequence[Turn]) -> dict[str, Any]:
    segments = [turn.segment for turn in turns]
    extension: dict[str, Any] = {
        "channels": [
            {
                "channel": channel,
                "speaker": speaker.id if speaker else None,
                "language": heard.language,
                "language_confidence": round(heard.language_confidence, 4),
            }
            for channel, (speaker, heard) in enumerate(
                zip(transcription.speakers, transcription.heard, strict=True)
            )
        ],
        "segments": [
            {
                "channel": turn.channel,
                "temperature": turn.segment.temperature,
                "compression_ratio": round(turn.segment.compression_ratio, 3),
                "avg_logprob": round(turn.segment.avg_logprob, 4),
                "no_speech_prob": round(turn.segment.no_speech_prob, 4),
            }
            for turn in turns
        ],
    }
    if segments:
        # The draft has one number for each of these, so this takes the worst segment's.
        extension["temperature"] = max(segment.temperature for segment in segments)
        extension["compression_ratio"] = round(max(s.compression_ratio for s in segments), 3)
        extension["avg_logprob"] = round(min(s.avg_logprob for s in segments), 4)
        extension["no_speech_prob"] = round(max(s.no_speech_prob for s in segments), 4)
    return extension


def _rfc3339(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")

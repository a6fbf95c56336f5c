"""Reads the transcripts of a vCon into one value, a Transcript, which formats.py renders.

It reads the analyses that the link transcribe writes (`wtf_transcription` and `transcript`). From
analyses of other software it reads only the text; then there are no times, and no subtitles.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from storage.reading import is_transcript, spoken, structured

_NUMBER_MAX = 1e9


@dataclass(frozen=True, slots=True)
class Word:
    """One word, in seconds from the beginning of its recording."""

    start_s: float
    end_s: float
    text: str
    speaker: str = ""


@dataclass(frozen=True, slots=True)
class Segment:
    """Something that was said, in seconds from the beginning of its recording.

    Attributes:
        speaker: a label; "" if unknown.
        words: the words of `text`, with times; empty if there are no times of words.
        temperature, ...: the model's scores, by Whisper's names; 0 if unknown.
    """

    start_s: float
    end_s: float
    text: str
    speaker: str = ""
    words: tuple[Word, ...] = ()
    temperature: float = 0.0
    avg_logprob: float = 0.0
    compression_ratio: float = 0.0
    no_speech_prob: float = 0.0


@dataclass(slots=True)
class Transcript:
    """What was said in the recordings of a vCon, one after the other."""

    text: str = ""
    language: str = ""
    duration_s: float = 0.0
    translated: bool = False
    segments: list[Segment] = field(default_factory=list)
    words: list[Word] = field(default_factory=list)

    @property
    def speakers(self) -> set[str]:
        """The labels of all who speak."""
        return {one.speaker for one in self.segments if one.speaker}


def transcript_of(document: Mapping[str, Any]) -> Transcript | None:
    """The transcripts of all dialogs of a vCon, joined; None if the vCon has no transcript."""
    best = transcripts_of(document)
    return _joined([best[place] for place in sorted(best)]) if best else None


def transcripts_of(document: Mapping[str, Any]) -> dict[int, Transcript]:
    """The transcript of each dialog that has one, by the dialog's index."""
    best: dict[int, tuple[tuple[int, bool], Transcript]] = {}
    analyses = document.get("analysis")
    for analysis in analyses if isinstance(analyses, list) else ():
        if not isinstance(analysis, dict) or not is_transcript(analysis):
            continue
        body = structured(analysis)
        found = read(body)
        if found is None:
            continue
        dialog = analysis.get("dialog")
        place = dialog if isinstance(dialog, int) else 0
        # If two have as many segments, prefer the one with the model's scores.
        worth = (len(found.segments), isinstance(body, dict) and "segments" in body)
        if place not in best or worth > best[place][0]:
            best[place] = worth, found
    return {place: found for place, (_, found) in best.items()}


def read(body: Any) -> Transcript | None:
    """The transcript in the body of one analysis; None if its form is unknown."""
    if isinstance(body, dict) and isinstance(body.get("segments"), list):
        return _wtf(body)
    words = spoken(body)
    if words is None:
        return None
    if not isinstance(body, dict):
        return Transcript(words.text)
    return Transcript(
        text=words.text,
        language=_text(body.get("detected_language")),
        duration_s=_number(body.get("duration")),
        segments=list(_sentences(body)),
        words=_words(body.get("words"), "word", {}),
    )


def _joined(parts: Sequence[Transcript]) -> Transcript:
    if len(parts) == 1:
        return parts[0]
    whole = Transcript(
        text="\n".join(part.text for part in parts if part.text),
        language=parts[0].language,
        translated=parts[0].translated,
    )
    for part in parts:
        shift_s = whole.duration_s
        whole.segments += [
            replace(
                one,
                start_s=one.start_s + shift_s,
                end_s=one.end_s + shift_s,
                words=tuple(_moved(one.words, shift_s)),
            )
            for one in part.segments
        ]
        whole.words += _moved(part.words, shift_s)
        last_s = max((one.end_s for one in part.segments), default=0.0)
        whole.duration_s += max(part.duration_s, last_s)
    return whole


def _moved(words: Sequence[Word], shift_s: float) -> Iterator[Word]:
    for word in words:
        yield replace(word, start_s=word.start_s + shift_s, end_s=word.end_s + shift_s)


def _wtf(body: dict[str, Any]) -> Transcript:
    """Read the World Transcription Format. The scores are in `extensions`, one per segment."""
    head, names = _object(body.get("transcript")), _object(body.get("speakers"))
    words = _words(body.get("words"), "text", names)
    scores = _scores(body)
    segments = [
        Segment(
            start_s=_number(one.get("start")),
            end_s=_number(one.get("end")),
            text=_text(one.get("text")),
            speaker=_label(one.get("speaker"), names),
            words=_words_of(one, words),
            **{name: _number(score.get(name), 4) for name in _SCORES},
        )
        for one, score in _paired(body["segments"], scores)
    ]
    options = _object(_object(body.get("metadata")).get("options"))
    return Transcript(
        text=_text(head.get("text")) or " ".join(one.text for one in segments),
        language=_text(head.get("language")),
        duration_s=_number(head.get("duration")),
        translated=options.get("translate") is True,
        segments=segments,
        words=words,
    )


_SCORES = ("temperature", "avg_logprob", "compression_ratio", "no_speech_prob")


def _scores(body: dict[str, Any]) -> list[Any]:
    for extension in _object(body.get("extensions")).values():
        found = _object(extension).get("segments")
        if isinstance(found, list) and len(found) == len(body["segments"]):
            return found
    return []


def _paired(segments: list[Any], scores: list[Any]) -> Iterator[tuple[dict[str, Any], Any]]:
    for place, one in enumerate(segments):
        if isinstance(one, dict):
            yield one, _object(scores[place]) if scores else {}


def _words_of(segment: dict[str, Any], words: Sequence[Word]) -> tuple[Word, ...]:
    places = segment.get("words")
    return tuple(
        words[place]
        for place in (places if isinstance(places, list) else ())
        if type(place) is int and 0 <= place < len(words)
    )


def _sentences(body: dict[str, Any]) -> Iterator[Segment]:
    outer = body.get("paragraphs")
    inner = outer.get("paragraphs") if isinstance(outer, dict) else outer
    for paragraph in inner if isinstance(inner, list) else ():
        if not isinstance(paragraph, dict):
            continue
        speaker = paragraph.get("label", paragraph.get("speaker", ""))
        sentences = paragraph.get("sentences")
        for one in sentences if isinstance(sentences, list) else ():
            if isinstance(one, dict):
                yield Segment(
                    _number(one.get("start")),
                    _number(one.get("end")),
                    _text(one.get("text")),
                    str(speaker),
                )


def _words(entries: Any, member: str, names: Mapping[str, Any]) -> list[Word]:
    return [
        Word(
            _number(one.get("start")),
            _number(one.get("end")),
            _text(one.get(member)),
            _label(one.get("speaker"), names) if names else "",
        )
        for one in (entries if isinstance(entries, list) else ())
        if isinstance(one, dict)
    ]


def _label(speaker: Any, names: Mapping[str, Any]) -> str:
    if speaker is None:
        return ""
    label = _object(names.get(str(speaker))).get("label")
    return _text(label) or str(speaker)


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: Any) -> str:
    return value.strip() if isinstance(value, str) else ""


def _number(value: Any, digits: int = 3) -> float:
    """A time or a score; 0 for what is neither, such as 1e300."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return round(float(value), digits) if is_number and abs(value) < _NUMBER_MAX else 0.0

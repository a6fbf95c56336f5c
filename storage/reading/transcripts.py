"""Reads the words of a dialog from its transcripts, in every format that is in use.

A transcript is an analysis (from some producers, an attachment) of one of the types below. Its body
has the format of its producer: Conserver and Deepgram (`transcript` and `paragraphs.transcript`),
Deepgram's whole answer (`results.channels[].alternatives[]`), OpenAI, Groq, Whisper and Hugging
Face (`text`, `segments`, `chunks`), AssemblyAI (`utterances`), Amazon, Google and Speechmatics
(`results`), the World Transcription Format of all versions, lists of speakers with their messages,
and plain text. All of these also occur as a string of JSON with any `encoding`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from storage.reading.content import structured

_TYPES = frozenset(
    ("transcript", "transcripts", "transcription", "wtf", "wtf_transcript", "wtf_transcription")
)
# One more than the length of the longest type, so that a longer text matches none.
_TYPE_CHARS = 1 + max(map(len, _TYPES))
# No producer nests a transcript so deeply. A hostile body must not exhaust the stack.
_DEPTH_MAX = 8
# The members in which one turn of a conversation has its text and its speaker.
_TEXTS = ("text", "message", "transcript", "content", "sentence", "utterance", "value")
_SPEAKERS = ("label", "speaker", "speaker_label", "name", "role", "speaker_id", "channel")
# The members that hold a list of turns, those with speakers first.
_LISTS = (
    "utterances",
    "turns",
    "messages",
    "monologues",
    "segments",
    "paragraphs",
    "sentences",
    "chunks",
    "elements",
)
# Members in which a whole transcript may be wrapped.
_WRAPPERS = ("transcript", "transcription", "results", "result", "response", "data", "output")
_WORDS = ("punctuated_word", "word", "text")


class Spoken:
    """The words of one transcript."""

    __slots__ = ("_conversation", "text")

    def __init__(self, text: str, conversation: str | Callable[[], str]) -> None:
        """If `conversation` is a function, it is called at the first use of the conversation:
        storages only need the text.
        """
        self.text = text
        self._conversation = conversation

    @property
    def conversation(self) -> str:
        """The words in paragraphs with the names of their speakers. If the transcript has no
        speakers, it is the same as `text`.
        """
        if not isinstance(self._conversation, str):
            self._conversation = self._conversation()
        return self._conversation

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Spoken):
            return NotImplemented
        return (self.text, self.conversation) == (other.text, other.conversation)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Spoken({self.text!r}, {self.conversation!r})"


@dataclass(frozen=True, slots=True)
class Said:
    """The words of one dialog.

    Attributes:
        spoken: the words; None if no transcript of the dialog could be read.
        unreadable: a text for each transcript that could not be read: its place and its shape, such
            as "analysis 2 (type transcript): an object with: words, model".
    """

    spoken: Spoken | None = None
    unreadable: list[str] = field(default_factory=list)


class _Turn(NamedTuple):
    speaker: str
    text: str


def is_transcript(part: Any) -> bool:
    """Whether an analysis or attachment is a transcript, by its `type` or `purpose`."""
    if not isinstance(part, dict):
        return False
    return _is_kind(part.get("type")) or _is_kind(part.get("purpose"))


def dialogs_of(part: Mapping[str, Any], dialog_count: int) -> list[int]:
    """The dialogs that an analysis or attachment is about.

    If the member `dialog` is missing and the vCon has one dialog, that dialog is meant.
    """
    dialog = part.get("dialog")
    if dialog is None:
        return [0] if dialog_count == 1 else []
    return list(_flat(dialog))


def transcript_of(
    document: Mapping[str, Any], dialog: int, kinds: Callable[[Any], bool] = is_transcript
) -> Said:
    """The words of a dialog, from its first readable transcript with words.

    Args:
        document: the vCon.
        dialog: the index of the dialog.
        kinds: tells whether an analysis or attachment counts as a transcript.

    Returns:
        The words of the first transcript with words; else those of an empty transcript; else None.
        In each case with the unreadable transcripts before it.
    """
    dialogs = document.get("dialog")
    count = len(dialogs) if isinstance(dialogs, list) else 0
    empty: Spoken | None = None
    unreadable: list[str] = []
    for place, part in _parts(document):
        if not kinds(part) or dialog not in dialogs_of(part, count):
            continue
        body = structured(part)
        words = spoken(body)
        if words is None:
            kind = part.get("type") or part.get("purpose")
            unreadable.append(f"{place} (type {kind}): {shape_of(part, body)}")
        elif words.text:
            return Said(words, unreadable)
        else:
            empty = empty or words
    return Said(empty, unreadable)


def spoken(body: Any) -> Spoken | None:
    """The words of a transcript's body (see `structured`); None if its format is unknown."""
    return _read(body, 0)


def message(dialog: Mapping[str, Any]) -> str | None:
    """The words of a text dialog (a chat message, a mail); None if the dialog has none."""
    if dialog.get("type") != "text":
        return None
    body = structured(dialog)
    if isinstance(body, str):
        return body or None
    words = spoken(body)
    return words.text or None if words else None


def shape_of(part: Mapping[str, Any], body: Any) -> str:
    """Describes an unknown body for a message: its type and members, but not its content."""
    if body in (None, ""):
        return "its content is at a url" if part.get("url") else "it has no body"
    if isinstance(body, dict):
        return (
            f"an object with: {', '.join(str(name)[:40] for name in list(body)[:8]) or 'nothing'}"
        )
    if isinstance(body, list):
        kinds = dict.fromkeys(type(item).__name__ for item in body[:100])
        return f"an array of: {', '.join(kinds)}"
    return f"bytes ({len(body)})" if isinstance(body, bytes) else f"a {type(body).__name__}"


def _parts(document: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for member, name in (("analysis", "analysis"), ("attachments", "attachment")):
        items = document.get(member)
        for index, part in enumerate(items if isinstance(items, list) else ()):
            if isinstance(part, dict):
                yield f"{name} {index}", part


def _is_kind(value: Any) -> bool:
    return isinstance(value, str) and _is_type(value[:_TYPE_CHARS])


@functools.lru_cache(maxsize=1024)
def _is_type(text: str) -> bool:
    return text.lower().replace("-", "_").replace(" ", "_") in _TYPES


def _flat(value: Any) -> Iterator[int]:
    if isinstance(value, list):
        for inner in value:
            yield from _flat(inner)
    elif isinstance(value, int) and not isinstance(value, bool):
        yield value


def _read(body: Any, depth: int) -> Spoken | None:
    if isinstance(body, str):
        return Spoken(body.strip(), body.strip())
    if depth >= _DEPTH_MAX:
        return None
    if isinstance(body, list):
        return _from_list(body, {}, depth)
    return _from_object(body, depth) if isinstance(body, dict) else None


def _from_object(body: dict[str, Any], depth: int) -> Spoken | None:
    found = _from_alternative(body) or _from_text(body, depth) or _from_channels(body, depth)
    if found is not None:
        return found
    for member in ("alternatives", *_LISTS, *_WRAPPERS, "transcripts"):
        value = body.get(member)
        if member == "alternatives" and isinstance(value, list) and value:
            found = _read(value[0], depth + 1)  # The first one is the most probable.
        elif isinstance(value, list):
            found = _from_list(value, _labels(body), depth + 1)
        elif isinstance(value, dict):
            found = _read(value, depth + 1)
        if found is not None:
            return found
    if (text := _first_text(body)) is not None:
        return Spoken(text, text)
    return _from_words(body.get("words"))


def _from_alternative(body: dict[str, Any]) -> Spoken | None:
    """The format of Deepgram and Conserver: the text, and `paragraphs.transcript`."""
    paragraphs, text = body.get("paragraphs"), body.get("transcript")
    conversation = paragraphs.get("transcript") if isinstance(paragraphs, dict) else None
    if not isinstance(conversation, str):
        conversation = None
    if not isinstance(text, str):
        if not conversation:
            return None
        text = conversation
    return Spoken(text.strip(), (conversation or "").strip() or text.strip())


def _from_text(body: dict[str, Any], depth: int) -> Spoken | None:
    """The formats with `text` (OpenAI) or `transcript.text` (WTF), and segments with speakers."""
    inner = body.get("transcript")
    text = inner.get("text") if isinstance(inner, dict) else body.get("text")
    if not isinstance(text, str):
        return None
    text = text.strip()
    if text:
        return Spoken(text, lambda: _conversation(body, depth) or text)
    found = _first_list(body, depth)
    return Spoken(found.text, found.conversation) if found else Spoken("", "")


def _conversation(body: dict[str, Any], depth: int) -> str:
    found = _first_list(body, depth)
    return found.conversation if found else ""


def _first_list(body: dict[str, Any], depth: int) -> Spoken | None:
    """The first list of turns that can be read."""
    for member in _LISTS:
        turns = body.get(member)
        if isinstance(turns, list) and (found := _from_list(turns, _labels(body), depth + 1)):
            return found
    return None


def _from_channels(body: dict[str, Any], depth: int) -> Spoken | None:
    """Deepgram's whole answer: a transcript for each channel, or utterances of all channels."""
    results = body.get("results")
    if not isinstance(results, dict):
        results = body
    channels = results.get("channels")
    if not isinstance(channels, list):
        return None
    read = [_read(channel, depth + 1) for channel in channels]
    found = [one for one in read if one is not None]
    if not found:
        return None
    text = "\n".join(one.text for one in found if one.text)
    utterances = results.get("utterances")
    if isinstance(utterances, list) and (turns := _from_list(utterances, {}, depth + 1)):
        return Spoken(text, turns.conversation or text)
    if len(found) == 1:
        return found[0]
    named = [
        f"Channel {index}: {one.conversation}"
        for index, one in enumerate(read)
        if one is not None and one.text
    ]
    return Spoken(text, "\n\n".join(named))


def _from_list(items: Sequence[Any], labels: Mapping[str, str], depth: int) -> Spoken | None:
    turns = [turn for item in items if (turn := _turn(item, labels, depth)) is not None]
    if items and not turns:
        return None
    turns = [turn for turn in turns if turn.text]
    text = " ".join(turn.text for turn in turns)
    if not any(turn.speaker for turn in turns):
        return Spoken(text, text)
    paragraphs: list[_Turn] = []
    for turn in turns:
        if paragraphs and paragraphs[-1].speaker == turn.speaker:
            paragraphs[-1] = turn._replace(text=f"{paragraphs[-1].text} {turn.text}")
        else:
            paragraphs.append(turn)
    lines = (f"{speaker}: {said}" if speaker else said for speaker, said in paragraphs)
    return Spoken(text, "\n\n".join(lines))


def _turn(item: Any, labels: Mapping[str, str], depth: int) -> _Turn | None:
    if isinstance(item, str):
        return _Turn("", item.strip())
    if not isinstance(item, dict):
        return None
    text = _first_text(item)
    if text is None:
        inner = _read(item, depth + 1)
        if inner is None:
            return None
        text = inner.text
    return _Turn(_speaker(item, labels), text)


def _first_text(item: Mapping[str, Any]) -> str | None:
    return next((item[name].strip() for name in _TEXTS if isinstance(item.get(name), str)), None)


def _speaker(item: Mapping[str, Any], labels: Mapping[str, str]) -> str:
    for member in _SPEAKERS:
        speaker = item.get(member)
        if isinstance(speaker, bool) or not isinstance(speaker, str | int):
            continue
        if label := labels.get(str(speaker)):
            return label
        if isinstance(speaker, int):
            return f"{'Channel' if member == 'channel' else 'Speaker'} {speaker}"
        if speaker.strip():
            return speaker.strip()
    return ""


def _labels(body: Mapping[str, Any]) -> dict[str, str]:
    """The names of speakers that a WTF body declares: id -> label."""
    speakers = body.get("speakers")
    if not isinstance(speakers, dict):
        return {}
    return {
        str(key): value["label"]
        for key, value in speakers.items()
        if isinstance(value, dict) and isinstance(value.get("label"), str)
    }


def _from_words(words: Any) -> Spoken | None:
    """The format of a list of words without a text."""
    if not isinstance(words, list):
        return None
    found: Iterable[Any] = (
        next((word[name] for name in _WORDS if isinstance(word.get(name), str)), "")
        for word in words
        if isinstance(word, dict)
    )
    text = " ".join(word.strip() for word in found if word)
    return Spoken(text, text) if text or not words else None

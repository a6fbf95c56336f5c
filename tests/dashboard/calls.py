"""A vCon with a call in it as the link transcribe leaves it, for tests of pages."""

from __future__ import annotations

import io
import math
import struct
import wave
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import orjson

from conserver.vcon.document import encode_body
from tests.standins import Answer, Request

SAID = (
    ("Ada", 0.2, "hello this is the shop"),
    ("Ben", 2.4, "where is my parcel"),
    ("Ada", 4.3, "it came too late"),
)
LENGTH_S = 8


def tone(seconds: float = LENGTH_S, rate: int = 8000) -> bytes:
    """A WAV with a quiet tone."""
    count = int(seconds * rate)
    samples = (int(3000 * math.sin(n / 6)) for n in range(count))
    written = io.BytesIO()
    with wave.open(written, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(struct.pack(f"<{count}h", *samples))
    return written.getvalue()


def transcript(said: Any = SAID) -> dict[str, Any]:
    """The analysis of the link transcribe: each word takes 0.3 s, one after the other."""
    words: list[dict[str, Any]] = []
    segments = []
    names = list(dict.fromkeys(name for name, _, _ in said))
    for name, begin_s, text in said:
        places = []
        for n, word in enumerate(text.split()):
            places.append(len(words))
            start = round(begin_s + 0.3 * n, 3)
            words.append(
                {"start": start, "end": round(start + 0.28, 3), "text": word,
                 "speaker": names.index(name)}
            )  # fmt: skip
        end = words[-1]["end"]
        segments.append(
            {"start": begin_s, "end": end, "text": text, "speaker": names.index(name),
             "words": places}
        )  # fmt: skip
    whole = " ".join(text for _, _, text in said)
    body = {
        "transcript": {"text": whole, "language": "en", "duration": LENGTH_S},
        "segments": segments,
        "words": words,
        "speakers": {str(n): {"id": n, "label": name} for n, name in enumerate(names)},
    }
    return {
        "type": "wtf_transcription",
        "vendor": "conserver",
        "dialog": 0,
        "encoding": "json",
        "body": orjson.dumps(body).decode(),
    }


def call(uuid: str = "", dialog: dict[str, Any] | None = None, **members: Any) -> dict[str, Any]:
    """A call of two parties with its recording and transcript."""
    recording = {"body": encode_body(tone()), "encoding": "base64url"} if dialog is None else dialog
    return {
        "vcon": "0.4.0",
        "uuid": uuid or str(uuid4()),
        "created_at": "2026-11-29T19:00:00+00:00",
        "subject": "A late parcel",
        "parties": [{"name": "Ada", "tel": "+12025550111"}, {"name": "Ben"}],
        "dialog": [
            {
                "type": "recording",
                "start": "2026-11-29T19:00:00+00:00",
                "parties": [0, 1],
                "duration": LENGTH_S,
                "mediatype": "audio/wav",
                "filename": "call.wav",
                **recording,
            }
        ],
        "analysis": [
            transcript(),
            {"type": "summary", "dialog": 0, "body": "The parcel came too late."},
        ],
        "attachments": [{"purpose": "tags", "encoding": "json", "body": '["reason:delivery"]'}],
        **members,
    }


HOSTILE = '<script>alert(1)</script><img src=x onerror="alert(2)">'


def ranges(content: bytes) -> Callable[[Request], Answer]:
    """How a server of recordings answers: with all of it, or with the range that is asked for."""

    def answer(request: Request) -> Answer:
        begin, _, end = request.headers.get("range", "").removeprefix("bytes=").partition("-")
        if not begin:
            return Answer(200, content, {"accept-ranges": "bytes", "set-cookie": "theirs=1"})
        part = content[int(begin) : int(end) + 1 if end else None]
        told = f"bytes {begin}-{int(begin) + len(part) - 1}/{len(content)}"
        return Answer(206, part, {"content-range": told, "content-type": "text/html"})

    return answer


def fetching(**fetch: Any) -> dict[str, Any]:
    """A link of a configuration that may fetch from this machine."""
    options = {"fetch": {"allow_private_addresses": True, **fetch}}
    return {
        "hear": {"module": "links.transcribe", "options": options},
    }

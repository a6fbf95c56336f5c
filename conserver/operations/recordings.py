"""Recordings into vCons.

One recording is one dialog. Each of two channels is one party, because telephone systems record a
call so.
"""

from __future__ import annotations

import hashlib
import os
import time
import uuid as uuidlib
import wave
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from conserver.vcon.document import encode_body

# What the link `transcribe` can decode, by the files' usual suffixes.
MEDIA_TYPES = {
    ".wav": "audio/wav",
    ".mp3": "audio/mpeg",
    ".ogg": "audio/ogg",
    ".oga": "audio/ogg",
    ".opus": "audio/ogg",
    ".flac": "audio/flac",
    ".m4a": "audio/mp4",
    ".aac": "audio/aac",
    ".webm": "audio/webm",
    ".mka": "audio/x-matroska",
    ".mkv": "video/x-matroska",
    ".mp4": "video/mp4",
    ".mov": "video/quicktime",
    ".3gp": "audio/3gpp",
    ".amr": "audio/amr",
    ".awb": "audio/amr-wb",
    ".wma": "audio/x-ms-wma",
    ".aif": "audio/aiff",
    ".aiff": "audio/aiff",
    ".au": "audio/basic",
    ".caf": "audio/x-caf",
    ".gsm": "audio/gsm",
    ".wv": "audio/x-wavpack",
}


def vcon_of(path: Path) -> bytes:
    """A vCon that has the recording in it.

    Raises:
        OSError: the file cannot be read.
    """
    content = path.read_bytes()
    channels, duration_s = _shape(path)
    started = datetime.fromtimestamp(path.stat().st_mtime, UTC)
    dialog: dict[str, Any] = {
        "type": "recording",
        "start": started.isoformat(),
        "parties": list(range(channels)) if channels > 1 else 0,
        "mediatype": MEDIA_TYPES[path.suffix.lower()],
        "filename": path.name,
        "body": encode_body(content),
        "encoding": "base64url",
        "content_hash": "sha512-" + encode_body(hashlib.sha512(content).digest()),
    }
    if duration_s is not None:
        dialog["duration"] = round(duration_s, 3)
    return orjson.dumps(
        {
            "vcon": "0.4.0",
            "uuid": new_uuid(),
            "created_at": datetime.now(UTC).isoformat(),
            "subject": path.stem,
            "parties": [{"name": f"party {n + 1}"} for n in range(channels)],
            "dialog": [dialog],
        }
    )


def new_uuid() -> str:
    """A UUIDv8 as the vCon draft has them: the time in ms, then random bits."""
    bits = int(time.time() * 1000) << 80 | int.from_bytes(os.urandom(10))
    bits = bits & ~(0xF << 76) | 8 << 76
    bits = bits & ~(0b11 << 62) | 0b10 << 62
    return str(uuidlib.UUID(int=bits))


def _shape(path: Path) -> tuple[int, float | None]:
    """Channels and seconds of a recording; (1, None) where they cannot be determined."""
    try:
        with wave.open(str(path)) as recording:
            return recording.getnchannels(), recording.getnframes() / recording.getframerate()
    except (wave.Error, EOFError, ZeroDivisionError):
        return _shape_by_av(path)


def _shape_by_av(path: Path) -> tuple[int, float | None]:
    try:
        import av
    except ModuleNotFoundError:  # It comes with the extra `speech`.
        return 1, None
    try:
        with av.open(str(path)) as container:
            stream = container.streams.audio[0]
            seconds = None if container.duration is None else container.duration / av.time_base
            return stream.codec_context.channels, seconds
    except (av.FFmpegError, IndexError):
        return 1, None

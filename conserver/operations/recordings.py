"""Makes a vCon from a recording.

The recording becomes one dialog. Each channel becomes one party, because telephone systems record
each party of a call on its own channel.
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

from conserver.errors import Rejected
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
    # Headerless, as telephone systems write them: 8 kHz, one channel.
    ".ulaw": "audio/pcmu",
    ".mulaw": "audio/pcmu",
    ".ul": "audio/pcmu",
    ".pcmu": "audio/pcmu",
    ".alaw": "audio/pcma",
    ".al": "audio/pcma",
    ".pcma": "audio/pcma",
}

# First bytes of an audio file -> media type, for files whose suffix is not in MEDIA_TYPES.
_BEGINNINGS = {
    b"RIFF": "audio/wav",
    b"RF64": "audio/wav",
    b"ID3": "audio/mpeg",
    b"OggS": "audio/ogg",
    b"fLaC": "audio/flac",
    b"FORM": "audio/aiff",
    b".snd": "audio/basic",
    b"caff": "audio/x-caf",
    b"wvpk": "audio/x-wavpack",
    b"#!AMR-WB": "audio/amr-wb",
    b"#!AMR": "audio/amr",
    b"\x1aE\xdf\xa3": "audio/x-matroska",
    b"0&\xb2u\x8ef\xcf\x11": "audio/x-ms-wma",
}
_PICTURES = (b"heic", b"heix", b"mif1", b"msf1", b"avif")
_TELEPHONE = ("audio/pcmu", "audio/pcma")
HEAD_BYTES = 16
"""How many first bytes `sniffed` needs."""

NO_KNOWN_AUDIO = (
    "neither a vCon (it is not JSON) nor audio of a known format: headerless audio needs a name "
    "that tells its format, such as call.ulaw"
)


def media_type_of(path: Path) -> str:
    """The media type of a recording by its suffix, else by its first bytes; "" if unknown.

    Raises:
        OSError: the file cannot be read.
    """
    known = MEDIA_TYPES.get(path.suffix.lower())
    if known:
        return known
    with path.open("rb") as file:
        return sniffed(file.read(HEAD_BYTES))


def sniffed(head: bytes) -> str:
    """The media type of audio with these first bytes; "" if the format is unknown."""
    if head[4:8] == b"ftyp":
        return "" if head[8:12] in _PICTURES else "audio/mp4"
    if head[:4] == b"RIFF" and head[8:12] != b"WAVE":
        return "video/x-msvideo" if head[8:12] == b"AVI " else ""
    # MPEG audio without a tag: eleven bits, then the layer III or II. AAC in ADTS has layer 0.
    if len(head) > 1 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0:
        return {0: "audio/aac", 2: "audio/mpeg", 4: "audio/mpeg"}.get(head[1] & 6, "")
    return next((kind for start, kind in _BEGINNINGS.items() if head.startswith(start)), "")


def vcon_of(path: Path) -> bytes:
    """A vCon that contains the recording.

    Raises:
        OSError: the file cannot be read.
        Rejected: the file is empty, or no known audio format.
    """
    content = path.read_bytes()
    if not content:
        raise Rejected("the recording is empty (0 bytes)")
    kind = media_type_of(path)
    if not kind:
        raise Rejected(NO_KNOWN_AUDIO)
    channels, duration_s = _shape(path)
    started = datetime.fromtimestamp(path.stat().st_mtime, UTC)
    dialog: dict[str, Any] = {
        "type": "recording",
        "start": started.isoformat(),
        "parties": list(range(channels)) if channels > 1 else 0,
        "mediatype": kind,
        "filename": readable(path.name),
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
            "subject": readable(path.stem),
            "parties": [{"name": f"party {n + 1}"} for n in range(channels)],
            "dialog": [dialog],
        }
    )


def readable(name: str) -> str:
    """A file's name as text that JSON can hold: bytes that are not UTF-8 are replaced."""
    return os.fsencode(name).decode("utf-8", "replace")


def new_uuid() -> str:
    """A new UUIDv8 as the vCon draft defines it: the time in ms, then random bits."""
    bits = int(time.time() * 1000) << 80 | int.from_bytes(os.urandom(10))
    bits = bits & ~(0xF << 76) | 8 << 76
    bits = bits & ~(0b11 << 62) | 0b10 << 62
    return str(uuidlib.UUID(int=bits))


def _shape(path: Path) -> tuple[int, float | None]:
    """Channels and seconds of a recording; (1, None) if they cannot be determined."""
    if MEDIA_TYPES.get(path.suffix.lower()) in _TELEPHONE:
        return 1, path.stat().st_size / 8000  # headerless: one byte per sample, 8000 per second
    try:
        with wave.open(str(path)) as recording:
            return recording.getnchannels(), recording.getnframes() / recording.getframerate()
    except (wave.Error, EOFError, ZeroDivisionError):
        return _shape_by_av(path)


def _shape_by_av(path: Path) -> tuple[int, float | None]:
    try:
        import av
    except ModuleNotFoundError:  # the extra `speech` is not installed
        return 1, None
    try:
        with av.open(str(path)) as container:
            stream = container.streams.audio[0]
            seconds = None if container.duration is None else container.duration / av.time_base
            return stream.codec_context.channels, seconds
    except (av.FFmpegError, IndexError):
        return 1, None

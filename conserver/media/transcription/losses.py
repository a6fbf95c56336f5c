"""Finds losses of a recording: gaps between frames, damaged packets, and a missing end.

The result must report lost sound, and the times of speech after a loss must stay right. So audio.py
keeps every gap as silence. Its length is found as follows:

1. In most containers each frame has a time. If a frame begins later than the previous sound ends,
   the time between is a gap.
2. MP3 and ADTS have no times. A damaged packet is a gap as long as the same number of bytes lasts
   elsewhere in the file.

A missing end is found by comparing the decoded duration with the one in the file's header, if there
is one, and with the dialog's `duration`.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    import av

_GAP_MIN_S = 0.1
"""Shorter gaps come from rounding and the delay of codecs."""
_GAP_MAX_S = 600.0
"""A longer gap comes from a damaged time, not from lost sound."""
_BY_HEADER_S = 0.25
_BY_DIALOG_S = 2.0  # Telephone systems round the duration, and include the ringing.
_BY_DIALOG_SHARE = 0.05

# Containers whose header has the duration. For others FFmpeg estimates it, or reads it at the end
# of the file.
_TOLD_BY_STREAM = frozenset(("w64", "aiff", "au", "caf", "flac", "mov", "wv"))
_UNKNOWN_BYTES = 0x7FFFF000  # A writer that cannot know the size leaves one like this, or 0.
_OGG_END = 4
_OGG_PAGE_BYTES_MAX = 27 + 255 + 255 * 255
_BLOCK_BYTES = 1 << 20
_WITHOUT_TIMES = frozenset(("mp3", "aac"))


@dataclass(frozen=True, slots=True)
class Header:
    """The length of a recording according to its file.

    Attributes:
        duration_s: of the whole recording, in seconds; None if unknown.
        without_end: whether the file lacks the mark of its end.
    """

    duration_s: float | None = None
    without_end: bool = False


class Losses:
    """Follows the frames of one recording, and reports its losses at the end."""

    def __init__(self, container: av.container.InputContainer, header: Header) -> None:
        """header: the length according to the file."""
        self._by_bytes = _name_of(container) in _WITHOUT_TIMES
        self._header_s = header.duration_s
        self._without_end = header.without_end
        self._position_s = 0.0
        self._silence_s = 0.0
        self._gaps = 0
        self._offset_s: float | None = None
        self._damaged = 0
        self._lost_bytes = self._good_bytes = 0
        self._break: str = ""

    def packet(self, size_bytes: int) -> None:
        """A packet was decoded."""
        self._good_bytes += size_bytes

    def damaged(self, size_bytes: int) -> None:
        """A packet cannot be decoded."""
        self._damaged += 1
        self._lost_bytes += size_bytes

    def breaks_off(self, reason: str) -> None:
        """Nothing more can be read from the file."""
        self._break = reason

    def before(self, frame: av.AudioFrame) -> float:
        """The gap before a frame, in seconds, which is to be kept as silence; mostly 0."""
        gap_s = self._by_size() if self._by_bytes else self._by_time(frame)
        if gap_s:
            self._gaps += 1
            self._silence_s += gap_s
        self._position_s += gap_s + frame.samples / frame.sample_rate
        return gap_s

    def _by_size(self) -> float:
        heard_s = self._position_s - self._silence_s
        lost_bytes, self._lost_bytes = self._lost_bytes, 0
        if not lost_bytes or not self._good_bytes or not heard_s:
            return 0.0
        return self._within(lost_bytes * heard_s / self._good_bytes)

    def _by_time(self, frame: av.AudioFrame) -> float:
        if frame.pts is None or frame.time_base is None:
            return 0.0
        time_s = float(frame.pts * frame.time_base)
        if self._offset_s is None:
            self._offset_s = time_s
        gap_s = self._within(time_s - self._offset_s - self._position_s)
        if not gap_s:
            # A time that jumps or goes back is no gap: times count from here on.
            late_s = time_s - self._offset_s - self._position_s
            if abs(late_s) >= _GAP_MIN_S:
                self._offset_s = time_s - self._position_s
        return gap_s

    def _within(self, gap_s: float) -> float:
        end_s = self._header_s + 1 if self._header_s else self._position_s + _GAP_MAX_S
        fits = gap_s <= _GAP_MAX_S and self._position_s + gap_s <= end_s
        return gap_s if gap_s >= _GAP_MIN_S and fits else 0.0

    @property
    def any(self) -> bool:
        """Whether sound is missing or damaged, as far as the file shows."""
        return bool(self._break or self._damaged or self._missing(None))

    def told(self, dialog_s: float | None) -> list[str]:
        """Sentences about all losses. dialog_s: the duration that the dialog claims."""
        found = []
        if self._break:
            found.append(f"the file breaks off: {self._break}")
        if self._damaged:
            packets = "packet of sound was" if self._damaged == 1 else "packets of sound were"
            found.append(f"{self._damaged} damaged {packets} skipped")
        if self._gaps:
            places = "place" if self._gaps == 1 else "places"
            where = f"at {self._gaps} {places}"
            found.append(f"{self._silence_s:.1f} s are missing {where} and are kept as silence")
        if missing := self._missing(dialog_s):
            found.append(missing)
        elif self._without_end:
            found.append("the file has no end: the last of the call may be missing")
        return found

    def _missing(self, dialog_s: float | None) -> str:
        header_s, is_s = self._header_s, self._position_s
        if header_s and header_s - is_s > _BY_HEADER_S:
            return f"{header_s - is_s:.1f} s of {header_s:.1f} s are missing, by the file's header"
        most_s = max(_BY_DIALOG_S, _BY_DIALOG_SHARE * (dialog_s or 0))
        if dialog_s and dialog_s - is_s > most_s:
            said = "by the duration that the dialog has"
            return f"{dialog_s - is_s:.1f} s of {dialog_s:.1f} s are missing, {said}"
        return ""


def header_of(
    file: IO[bytes], container: av.container.InputContainer, stream: av.AudioStream
) -> Header:
    """The length according to the file, also of a truncated file. The file position is kept."""
    return Header(_duration_s(file, container, stream), without_end=_ogg_without_end(file))


def read_at(file: IO[bytes], at: int, count: int) -> bytes:
    """Some bytes of a file. The file position is kept."""
    before = file.tell()
    file.seek(at)
    found = file.read(count)
    file.seek(before)
    return found


def _ogg_without_end(file: IO[bytes]) -> bool:
    """Whether the last page of an Ogg stream lacks the mark of the last page."""
    if read_at(file, 0, 4) != b"OggS":
        return False
    before = file.tell()
    length = file.seek(0, os.SEEK_END)
    file.seek(before)
    tail = read_at(file, max(0, length - _OGG_PAGE_BYTES_MAX), _OGG_PAGE_BYTES_MAX)
    page = tail[tail.rfind(b"OggS") :][:6]
    return not page[-1] & _OGG_END


def _duration_s(
    file: IO[bytes], container: av.container.InputContainer, stream: av.AudioStream
) -> float | None:
    name = _name_of(container)
    if name == "wav":
        return _wav_s(file)
    if name == "mp3" and not _has_xing(file):
        return None  # FFmpeg estimates it by the first bit rate.
    if name in _TOLD_BY_STREAM or name == "mp3":
        if stream.duration is None or stream.time_base is None:
            return None
        return float(stream.duration * stream.time_base)
    alone = len(container.streams) == 1
    if name == "matroska" and alone and container.duration:
        return container.duration / 1_000_000
    return None


def why_not_opened(file: IO[bytes], reason: str) -> str:
    """Why a file cannot be opened, as a sentence for the reader of the dead letter."""
    if read_at(file, 4, 4) == b"ftyp" and not _holds(file, b"moov"):
        return "its index (moov) is missing: the file was cut off, or never finished"
    return reason


def _holds(file: IO[bytes], mark: bytes) -> bool:
    """Whether a file contains these bytes anywhere. Changes the file position."""
    file.seek(0)
    before = b""
    while block := file.read(_BLOCK_BYTES):
        if mark in before + block:
            return True
        before = block[-len(mark) :]
    return False


def _name_of(container: av.container.InputContainer) -> str:
    return container.format.name.partition(",")[0]


def _wav_s(file: IO[bytes]) -> float | None:
    """The duration by the data size in the header. (FFmpeg uses the size of the file instead.)"""
    at, bytes_per_s = 12, 0
    while len(head := read_at(file, at, 20)) >= 8:
        kind, size = head[:4], int.from_bytes(head[4:8], "little")
        if kind == b"fmt " and size >= 16:
            bytes_per_s = int.from_bytes(head[16:20], "little")
        if kind == b"data":
            known = 0 < size < _UNKNOWN_BYTES and bytes_per_s
            return size / bytes_per_s if known else None
        at += 8 + size + size % 2
    return None


def _has_xing(file: IO[bytes]) -> bool:
    """Whether the first frame of an MP3 file has the number of frames."""
    at, head = 0, read_at(file, 0, 10)
    if head[:3] == b"ID3":
        high, *rest = head[6:10]
        size = high
        for part in rest:
            size = size << 7 | part
        at = 10 + size
    return any(mark in read_at(file, at, 256) for mark in (b"Xing", b"Info", b"VBRI"))

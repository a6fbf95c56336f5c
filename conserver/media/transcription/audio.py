"""Decodes the bytes of a recording to samples for a speech engine.

1. Opens audio and video files of the formats listed below only. Playlists and other formats that
   can make FFmpeg open further files or addresses are refused.
2. Keeps all channels of the file separate, because the parties of a call often have one each. It
   never mixes channels.
3. Detects dual mono (the same sound on both channels), which is then transcribed once.
4. Decodes the intact parts of a damaged file. Gaps become silence, so that the times of later
   speech stay right, and losses.py reports them.
5. Checks the limits of duration and channels against the decoded sound, not the file's header.

Samples are int16 at 16 kHz: 32 kB per second and channel. Long recordings are decoded piece by
piece into a file (samples.py), so the memory needed does not grow with their length.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

from conserver.errors import Rejected, Retry
from conserver.media.transcription.headerless import MAX_CHANNELS, headerless
from conserver.media.transcription.losses import Losses, header_of, read_at, why_not_opened
from conserver.media.transcription.samples import Samples, Writer

if TYPE_CHECKING:
    import av

SAMPLE_RATE_HZ = 16_000

_FORMATS = (
    "wav,w64,aiff,au,caf,flac,ogg,mp3,aac,loas,mov,mp4,matroska,webm,amr,amrnb,amrwb,"
    "asf,avi,flv,mpegts,mpeg,ac3,eac3,gsm,nistsphere,ircam,voc,wv"
)

_RETRY_ROOM_S = 60.0
_MAGIC = (b"RIFF", b"RF64", b".snd", b"OggS", b"fLaC", b"ID3", b"FORM")

# The channels of a dual-mono call differ at most by the loss of their codec. Channels of two
# parties with an echo of each other correlate much less.
_SAME_SOUND_CORRELATION = 0.99


@dataclass(frozen=True, slots=True)
class Recording:
    """A decoded recording.

    Attributes:
        channels: int16 samples at 16 kHz, per channel; a single one for dual mono. They are empty
            if the file holds no sound at all, as of a call that was hung up at once.
        duration_s: duration of the decoded sound.
        source_channels: number of channels in the file.
        sample_rate_hz: of the file, before resampling.
        format: container and codec, such as "wav/pcm_mulaw".
        bit_rate_bps: of the audio in the file; None if unknown.
        warnings: sentences about lost or unusual parts, and about what was assumed.
    """

    channels: tuple[Samples, ...]
    duration_s: float
    source_channels: int
    sample_rate_hz: int
    format: str
    bit_rate_bps: int | None
    warnings: tuple[str, ...]

    @property
    def dual_mono(self) -> bool:
        """Whether the file's channels have the same sound, so that only one is kept."""
        return self.source_channels > len(self.channels)


def decode(
    content: bytes | IO[bytes],
    *,
    media_type: str = "",
    max_duration_s: float,
    said_s: float | None = None,
) -> Recording:
    """Decode the first audio stream of an audio or video file.

    Args:
        content: the whole file, or a file to read and to seek in; it stays open.
        media_type: the declared media type with parameters. Used only for headerless audio,
            because the content is more reliable.
        max_duration_s: a longer recording is refused as soon as this much of it is decoded.
        said_s: the duration that the recording's dialog claims; None if unknown.

    Raises:
        Rejected: the content is not decodable audio, or it exceeds a limit.
        Retry: there is no disk space for the decoded sound.
    """
    import av

    file = io.BytesIO(content) if isinstance(content, bytes) else content
    length = file.seek(0, os.SEEK_END)
    if not length:
        raise Rejected("the recording is empty (0 bytes)")
    file.seek(0)
    guesses: list[str] = []
    try:
        with _open(file, media_type, guesses) as container:
            if not container.streams.audio:
                raise Rejected(f"the recording ({container.format.name}) holds no audio stream")
            stream = container.streams.audio[0]
            losses = Losses(container, header_of(file, container, stream))
            decoder = _Decoder(container, stream, losses, max_duration_s)
            return decoder.recording(said_s, guesses)
    except av.error.FFmpegError as error:
        what = f", said to be {media_type}" if media_type else ""
        reason = why_not_opened(file, error.strerror or type(error).__name__)
        raise Rejected(
            f"the recording ({length} bytes{what}) cannot be decoded: {reason}"
        ) from error


def _open(file: IO[bytes], media_type: str, guesses: list[str]) -> av.container.InputContainer:
    import av

    options = {"format_whitelist": _FORMATS, "protocol_whitelist": "none"}
    demuxer = None
    raw = None if read_at(file, 0, 4).startswith(_MAGIC) else headerless(media_type)
    if raw is not None:
        demuxer, options = raw.demuxer, raw.options
        guesses += raw.guesses
    return av.open(file, "r", format=demuxer, options=options, metadata_errors="ignore")


class _Decoder:
    """Decodes one stream to samples; gaps become silence."""

    def __init__(
        self,
        container: av.container.InputContainer,
        stream: av.AudioStream,
        losses: Losses,
        max_duration_s: float,
    ) -> None:
        self._container = container
        self._stream = stream
        self._losses = losses
        self._max_duration_s = max_duration_s
        self._resampler = _Resampler()
        self._writer: Writer | None = None

    def recording(self, said_s: float | None, guesses: list[str]) -> Recording:
        """Decode the whole stream. Raises Rejected, Retry."""
        resampler, codec = self._resampler, self._stream.codec_context
        with _room():
            self._decode()
        warnings = [*guesses, *self._losses.told(said_s)]
        if not self._written and (self._losses.any or not codec.channels):
            because = f": {'; '.join(warnings)}" if warnings else ""
            raise Rejected(f"the recording holds no sound that can be decoded{because}")
        if resampler.changes:
            warnings.append(
                f"the sound format changed {resampler.changes} times within the recording"
            )
        count = resampler.channel_count or min(codec.channels, MAX_CHANNELS)
        with _room():
            channels = (self._writer or Writer(count)).channels()
        duration_s = len(channels[0]) / SAMPLE_RATE_HZ
        if len(channels) == 2 and _same_sound(*channels):
            channels = channels[:1]
        return Recording(
            channels=channels,
            duration_s=duration_s,
            source_channels=count,
            sample_rate_hz=resampler.sample_rate_hz or codec.sample_rate,
            format=f"{self._container.format.name.partition(',')[0]}/{codec.name}",
            bit_rate_bps=codec.bit_rate or self._container.bit_rate or None,
            warnings=tuple(warnings),
        )

    @property
    def _written(self) -> int:
        return self._writer.bytes if self._writer else 0

    def _decode(self) -> None:
        for frame in _frames(self._container, self._stream, self._losses):
            gap_s = 0.0 if frame is None else self._losses.before(frame)
            if gap_s:
                for piece in self._resampler.flush():
                    self._write(piece)
                self._check_length(gap_s)
                self._write_silence(round(gap_s * SAMPLE_RATE_HZ))
            for piece in self._resampler.resample(frame):
                self._write(piece)
            self._check_length()

    def _write(self, piece: bytes) -> None:
        if self._writer is None:
            self._writer = Writer(self._resampler.channel_count)
        self._writer.write(piece)

    def _write_silence(self, frames: int) -> None:
        while frames > 0:
            some = min(frames, SAMPLE_RATE_HZ)
            self._write(bytes(some * self._bytes_per_frame))
            frames -= some

    @property
    def _bytes_per_frame(self) -> int:
        return 2 * self._resampler.channel_count

    def _check_length(self, more_s: float = 0.0) -> None:
        bytes_per_s = SAMPLE_RATE_HZ * self._bytes_per_frame
        if self._written > (self._max_duration_s - more_s) * bytes_per_s:
            limit = f"the limit of {self._max_duration_s:g} s"
            raise Rejected(f"the recording is longer than {limit}")


@contextmanager
def _room() -> Iterator[None]:
    import av

    try:
        yield
    except av.error.FFmpegError:  # Some of its subclasses are OSErrors, too.
        raise
    except OSError as error:
        raise Retry(
            _RETRY_ROOM_S,
            f"no room for the decoded sound in the folder of temporary files: {error.strerror}; "
            "let TMPDIR name one with 115 MB for each hour and channel",
        ) from error


def _frames(
    container: av.container.InputContainer, stream: av.AudioStream, losses: Losses
) -> Iterator[av.AudioFrame | None]:
    """Yield every frame that can be decoded, then None.

    Packets are decoded one by one, because the container's own `decode` stops at the first damaged
    packet and would silently drop the rest of the call.
    """
    import av

    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
        except av.error.FFmpegError as error:
            losses.breaks_off(error.strerror or type(error).__name__)
            break
        if packet is None:
            break
        try:
            yield from packet.decode()
            losses.packet(packet.size)
        except av.error.FFmpegError:
            losses.damaged(packet.size)
    yield None


class _Resampler:
    """Converts frames to interleaved int16 at 16 kHz with the channels of the first frame.

    The output is interleaved, although separate channels are needed, because PyAV (18.1) crashes
    with planar output of 8 or more channels: it reads beyond its array of planes.

    Attributes:
        channel_count, sample_rate_hz: of the first frame.
        changes: how often the format of the frames changed.
    """

    def __init__(self) -> None:
        self.channel_count = 0
        self.sample_rate_hz = 0
        self.changes = 0
        self._layout: av.AudioLayout | None = None
        self._inner: av.AudioResampler | None = None
        self._input: tuple[str, str, int] | None = None

    def resample(self, frame: av.AudioFrame | None) -> Iterator[bytes]:
        """The samples of one frame; for None, those that are still buffered."""
        if frame is not None:
            # Without time stamps the resampler adds no silence where they jump; losses.py does.
            frame.pts = None
            given = (frame.format.name, frame.layout.name, frame.sample_rate)
            if self._input is None:
                self._begin(frame)
            elif given != self._input:
                self.changes += 1
                yield from self.flush()
            self._input = given
        yield from self._pieces(frame)

    def flush(self) -> Iterator[bytes]:
        """The samples that are still buffered; the next frame begins anew."""
        yield from self._pieces(None)
        self._inner = None

    def _begin(self, frame: av.AudioFrame) -> None:
        self._layout = frame.layout
        self.sample_rate_hz = frame.sample_rate
        self.channel_count = frame.layout.nb_channels
        if self.channel_count > MAX_CHANNELS:
            raise Rejected(
                f"the recording has {self.channel_count} channels; the limit is {MAX_CHANNELS}"
            )

    def _pieces(self, frame: av.AudioFrame | None) -> Iterator[bytes]:
        import av

        if self._inner is None:
            if frame is None:
                return
            self._inner = av.AudioResampler("s16", self._layout, SAMPLE_RATE_HZ)
        for piece in self._inner.resample(frame):
            yield piece.to_ndarray().tobytes()


def _same_sound(left: Samples, right: Samples) -> bool:
    """Whether two channels have the same sound, apart from loudness, by their correlation.

    False if a channel is silent: then the channels differ, or both are silent and cost nothing.
    """
    import numpy as np

    products = np.zeros(3)
    block = 60 * SAMPLE_RATE_HZ  # Only a minute at a time is copied to float.
    for start in range(0, len(left), block):
        a = left[start : start + block].astype(np.float32)
        b = right[start : start + block].astype(np.float32)
        products += (np.dot(a, a), np.dot(b, b), np.dot(a, b))
    power_left, power_right, common = products
    if power_left == 0 or power_right == 0:
        return False
    return bool(common / np.sqrt(power_left * power_right) >= _SAME_SOUND_CORRELATION)

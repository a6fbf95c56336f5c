"""Decodes the bytes of a recording to samples for a speech engine.

1. Opens audio and video files of the formats listed below only. Playlists and other formats that
   can make FFmpeg open further files or addresses are refused.
2. Keeps all channels of the file separate, because the parties of a call often have one each. It
   never mixes channels.
3. Detects dual mono (the same sound on both channels), which is then transcribed once.
4. Decodes the intact parts of a damaged file and reports what was lost.
5. Limits the duration and the number of channels by what is decoded, not by the file's header.

Samples are int16 at 16 kHz: 32 kB per second and channel, half of the size of float32, because long
calls stay in memory for the whole transcription.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from conserver.errors import Rejected

if TYPE_CHECKING:
    import av
    import numpy as np
    import numpy.typing as npt

    Samples = npt.NDArray[np.int16]

SAMPLE_RATE_HZ = 16_000

# Bounds memory. No telephone system records more channels.
MAX_CHANNELS = 16

_FORMATS = (
    "wav,w64,aiff,au,caf,flac,ogg,mp3,aac,loas,mov,mp4,matroska,webm,amr,amrnb,amrwb,"
    "asf,avi,flv,mpegts,mpeg,ac3,eac3,gsm,nistsphere,ircam,voc,wv"
)

# Headerless audio: media type -> (FFmpeg's demuxer, default sample rate in Hz).
_RAW_FORMATS = {
    "audio/pcmu": ("mulaw", 8000),
    "audio/x-mulaw": ("mulaw", 8000),
    "audio/basic": ("mulaw", 8000),
    "audio/pcma": ("alaw", 8000),
    "audio/x-alaw": ("alaw", 8000),
    "audio/l16": ("s16be", 8000),
}
_MAGIC = (b"RIFF", b"RF64", b".snd", b"OggS", b"fLaC", b"ID3", b"FORM")

# The channels of a dual-mono call differ at most by the loss of their codec. Channels of two
# parties with an echo of each other correlate much less.
_SAME_SOUND_CORRELATION = 0.99


@dataclass(frozen=True, slots=True)
class Recording:
    """A decoded recording.

    Attributes:
        channels: int16 samples at 16 kHz, one array per channel (not contiguous if there are
            several); a single one for dual mono.
        duration_s: duration of the decoded sound.
        source_channels: number of channels in the file.
        sample_rate_hz: of the file, before resampling.
        format: container and codec, such as "wav/pcm_mulaw".
        bit_rate_bps: of the audio in the file; None if unknown.
        warnings: sentences about lost or unusual parts.
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


def decode(content: bytes, *, media_type: str = "", max_duration_s: float) -> Recording:
    """Decode the first audio stream of an audio or video file.

    Args:
        content: the whole file.
        media_type: the declared media type with parameters. Used only for headerless audio,
            because the content is more reliable.
        max_duration_s: a longer recording is refused as soon as so much of it is decoded.

    Raises:
        Rejected: the content is not decodable audio, or it exceeds a limit.
    """
    import av

    if not content:
        raise Rejected("the recording is empty (0 bytes)")
    try:
        with _open(content, media_type) as container:
            if not container.streams.audio:
                raise Rejected(f"the recording ({container.format.name}) holds no audio stream")
            return _decode_stream(container, container.streams.audio[0], max_duration_s)
    except av.error.FFmpegError as error:
        what = f", said to be {media_type}" if media_type else ""
        reason = error.strerror or type(error).__name__
        raise Rejected(
            f"the recording ({len(content)} bytes{what}) cannot be decoded: {reason}"
        ) from error


def _open(content: bytes, media_type: str) -> av.container.InputContainer:
    import av

    options = {"format_whitelist": _FORMATS, "protocol_whitelist": "none"}
    demuxer = None
    kind, _, parameters = media_type.partition(";")
    raw = _RAW_FORMATS.get(kind.strip().lower())
    if raw is not None and not content.startswith(_MAGIC):
        demuxer, rate_hz = raw
        channels = min(_parameter(parameters, "channels", 1), MAX_CHANNELS)
        options = {
            "sample_rate": str(_parameter(parameters, "rate", rate_hz)),
            "ch_layout": f"{channels}C",
        }
    return av.open(
        io.BytesIO(content), "r", format=demuxer, options=options, metadata_errors="ignore"
    )


def _parameter(parameters: str, name: str, otherwise: int) -> int:
    for parameter in parameters.split(";"):
        key, _, value = parameter.partition("=")
        if key.strip().lower() == name and value.strip(' "').isdecimal():
            return int(value.strip(' "')) or otherwise
    return otherwise


def _decode_stream(
    container: av.container.InputContainer, stream: av.AudioStream, max_duration_s: float
) -> Recording:
    import numpy as np

    warnings: list[str] = []
    sound = bytearray()
    resampler = _Resampler()
    for frame in _frames(container, stream, warnings):
        for piece in resampler.resample(frame):
            sound += piece
        if len(sound) > max_duration_s * SAMPLE_RATE_HZ * 2 * resampler.channel_count:
            raise Rejected(f"the recording is longer than the limit of {max_duration_s:g} s")
    if not sound:
        because = f": {'; '.join(warnings)}" if warnings else ""
        raise Rejected(f"the recording holds no sound that can be decoded{because}")
    if resampler.changes:
        warnings.append(f"the sound format changed {resampler.changes} times within the recording")
    mixed = np.frombuffer(sound, dtype=np.int16).reshape(-1, resampler.channel_count)
    # These are views, so that a long call is in memory once.
    channels = tuple(mixed[:, index] for index in range(resampler.channel_count))
    if len(channels) == 2 and _same_sound(*channels):
        channels = channels[:1]
    return Recording(
        channels=channels,
        duration_s=len(mixed) / SAMPLE_RATE_HZ,
        source_channels=resampler.channel_count,
        sample_rate_hz=resampler.sample_rate_hz,
        format=f"{container.format.name.partition(',')[0]}/{stream.codec_context.name}",
        bit_rate_bps=stream.codec_context.bit_rate or container.bit_rate or None,
        warnings=tuple(warnings),
    )


def _frames(
    container: av.container.InputContainer, stream: av.AudioStream, warnings: list[str]
) -> Iterator[av.AudioFrame | None]:
    """Yield every frame that can be decoded, then None; append losses to `warnings`.

    Packets are decoded one by one, because the container's own `decode` stops at the first damaged
    packet and would silently drop the rest of the call.
    """
    import av

    damaged = 0
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
        except av.error.FFmpegError as error:
            warnings.append(f"the file breaks off: {error.strerror}")
            break
        if packet is None:
            break
        try:
            yield from packet.decode()
        except av.error.FFmpegError:
            damaged += 1
    if damaged:
        warnings.append(f"{damaged} damaged packets of sound were skipped")
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
            # Time stamps may jump. Without them the resampler adds no silence.
            frame.pts = None
            given = (frame.format.name, frame.layout.name, frame.sample_rate)
            if self._input is None:
                self._begin(frame)
            elif given != self._input:
                self.changes += 1
                yield from self._pieces(None)
                self._inner = None
            self._input = given
        yield from self._pieces(frame)

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

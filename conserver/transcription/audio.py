"""From the bytes of a recording to samples that a speech engine can hear.

1. Opens audio and video files of the formats listed below, and nothing else: playlists and other
   formats that can make FFmpeg open further files or addresses are refused.
2. Keeps channels apart, as many as the file has: a call's parties often have one each. Nothing is
   mixed down, and a mono file stays one channel.
3. Finds dual mono (the same call on both channels), which is to be heard once.
4. Takes what can be had of a damaged file and says what was lost.
5. Is bounded: by the duration and the number of channels, whatever the file claims of itself.

Samples are int16 at 16 kHz, 32 kB per second and channel: half of what float32 would take for the
hours that a long call lasts in memory.
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

# More channels than any telephone system records. It bounds memory.
MAX_CHANNELS = 16

_FORMATS = (
    "wav,w64,aiff,au,caf,flac,ogg,mp3,aac,loas,mov,mp4,matroska,webm,amr,amrnb,amrwb,"
    "asf,avi,flv,mpegts,mpeg,ac3,eac3,gsm,nistsphere,ircam,voc,wv"
)

# Headerless audio: (FFmpeg's demuxer, sample rate where the media type names none).
_RAW_FORMATS = {
    "audio/pcmu": ("mulaw", 8000),
    "audio/x-mulaw": ("mulaw", 8000),
    "audio/basic": ("mulaw", 8000),
    "audio/pcma": ("alaw", 8000),
    "audio/x-alaw": ("alaw", 8000),
    "audio/l16": ("s16be", 8000),
}
_MAGIC = (b"RIFF", b"RF64", b".snd", b"OggS", b"fLaC", b"ID3", b"FORM")

# Both channels of a dual-mono call differ by what a lossy codec did to them, at most. Parties that
# hear each other's echo stay well below.
_SAME_SOUND_CORRELATION = 0.99


@dataclass(frozen=True, slots=True)
class Recording:
    """A decoded recording.

    Attributes:
        channels: int16 samples at 16 kHz, one array per channel (not contiguous where there are
            several); a single one for dual mono.
        duration_s: length of the sound that could be decoded.
        source_channels: number of channels in the file.
        sample_rate_hz: of the file, before resampling.
        format: container and codec, such as "wav/pcm_mulaw".
        bit_rate_bps: of the audio in the file; None where unknown.
        warnings: what was lost or looked odd, in sentences.
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
        """Whether the file's channels hold the same sound and are kept once."""
        return self.source_channels > len(self.channels)


def decode(content: bytes, *, media_type: str = "", max_duration_s: float) -> Recording:
    """Decode the first audio stream of an audio or video file.

    Args:
        content: the whole file.
        media_type: what the file is said to be, with parameters; consulted only for headerless
            audio, since the content is the better witness.
        max_duration_s: a longer recording is refused as soon as that much of it is decoded.

    Raises:
        Rejected: it is no audio that can be decoded, or it exceeds a limit.
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
    # Views, not copies: a long call is in memory once.
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
    """Every frame that can be decoded, then None. Notes in `warnings` what could not.

    Packets are decoded one by one: the container's own `decode` ends at the first damaged one and
    would silently drop the rest of the call.
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
    """Frames of any rate and format to interleaved int16 at 16 kHz, the first frame's channels.

    Interleaved although channels are wanted apart: planar output of 8 and more channels makes
    PyAV (18.1) read beyond its array of planes and takes the process down.

    Attributes:
        channel_count, sample_rate_hz: of the first frame.
        changes: how often a later frame was of another kind.
    """

    def __init__(self) -> None:
        self.channel_count = 0
        self.sample_rate_hz = 0
        self.changes = 0
        self._layout: av.AudioLayout | None = None
        self._inner: av.AudioResampler | None = None
        self._input: tuple[str, str, int] | None = None

    def resample(self, frame: av.AudioFrame | None) -> Iterator[bytes]:
        """The sound of one frame; of what is still held back, for None."""
        if frame is not None:
            # A file's clock may jump; sound is taken as it follows, so that nothing is padded.
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
    """Whether two channels hold one sound (loudness aside), by their correlation.

    A silent channel is not the same as one with speech, and two silent ones need no distinction.
    """
    import numpy as np

    products = np.zeros(3)
    block = 60 * SAMPLE_RATE_HZ  # Float copies are made of a minute at a time, not of hours.
    for start in range(0, len(left), block):
        a = left[start : start + block].astype(np.float32)
        b = right[start : start + block].astype(np.float32)
        products += (np.dot(a, a), np.dot(b, b), np.dot(a, b))
    power_left, power_right, common = products
    if power_left == 0 or power_right == 0:
        return False
    return bool(common / np.sqrt(power_left * power_right) >= _SAME_SOUND_CORRELATION)

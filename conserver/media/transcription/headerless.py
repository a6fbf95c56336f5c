"""Headerless audio: its media types and their parameters.

A telephone system that sends samples without a header names their format in the media type. Missing
parameters get the values that most systems use, and the result warns about the assumption, because
a wrong rate gives wrong words without any other sign.
"""

from __future__ import annotations

from dataclasses import dataclass

from conserver.errors import Rejected

MAX_CHANNELS = 16
"""More channels are refused, to limit memory. No telephone system records more."""

_RATE_HZ = 8000
_MULAW, _ALAW, _BIG, _LITTLE = "mulaw", "alaw", "s16be", "s16le"

# Media type -> FFmpeg's demuxer. Types of the first group have 8 kHz unless a parameter says
# otherwise (RFC 3551, RFC 2046). audio/L16 must name its rate (RFC 2586). The other types are in
# use without a standard.
_FIXED_RATE = {
    "audio/pcmu": _MULAW,
    "audio/pcma": _ALAW,
    "audio/basic": _MULAW,
    "audio/x-basic": _MULAW,
    "audio/mulaw": _MULAW,
    "audio/x-mulaw": _MULAW,
    "audio/ulaw": _MULAW,
    "audio/x-ulaw": _MULAW,
    "audio/mu-law": _MULAW,
    "audio/u-law": _MULAW,
    "audio/g711u": _MULAW,
    "audio/x-g711u": _MULAW,
    "audio/g711-mulaw": _MULAW,
    "audio/g711-ulaw": _MULAW,
    "audio/alaw": _ALAW,
    "audio/x-alaw": _ALAW,
    "audio/a-law": _ALAW,
    "audio/g711a": _ALAW,
    "audio/x-g711a": _ALAW,
    "audio/g711-alaw": _ALAW,
    "audio/g722": "g722",
    "audio/x-g722": "g722",
}
_LINEAR = {
    "audio/l16": _BIG,
    "audio/x-l16": _BIG,
    "audio/pcm": _LITTLE,
    "audio/x-pcm": _LITTLE,
    "audio/raw": _LITTLE,
    "audio/x-raw": _LITTLE,
    "audio/l16-le": _LITTLE,
}
_AMBIGUOUS = {
    "audio/g711": (_MULAW, "mu-law"),
    "audio/x-g711": (_MULAW, "mu-law"),
}


@dataclass(frozen=True, slots=True)
class Headerless:
    """How to read samples without a header.

    Attributes:
        demuxer: FFmpeg's.
        options: for the demuxer.
        guesses: sentences about assumed parameters.
    """

    demuxer: str
    options: dict[str, str]
    guesses: tuple[str, ...] = ()


def headerless(media_type: str) -> Headerless | None:
    """How to read audio of a media type; None if the media type is not a headerless one.

    Raises:
        Rejected: it names more channels than a recording may have.
    """
    kind, *parameters = (part.strip() for part in media_type.split(";"))
    kind = kind.lower()
    guesses = []
    if kind in _AMBIGUOUS:
        demuxer, law = _AMBIGUOUS[kind]
        guesses.append(f"the media type {kind} does not say which law: {law} was assumed")
    elif kind in _LINEAR:
        demuxer = _LINEAR[kind]
        if demuxer == _LITTLE and kind != "audio/l16-le":
            order = "signed 16 bits, little-endian, were assumed"
            guesses.append(f"the media type {kind} does not name the form of its samples: {order}")
    elif kind in _FIXED_RATE:
        demuxer = _FIXED_RATE[kind]
    else:
        return None
    rate_hz = _number(parameters, "rate") or _number(parameters, "sample_rate")
    if not rate_hz and kind in _LINEAR:
        guesses.append(f"the media type {media_type} names no rate: {_RATE_HZ} Hz was assumed")
    channels = _number(parameters, "channels") or 1
    if channels > MAX_CHANNELS:
        raise Rejected(f"the recording has {channels} channels; the limit is {MAX_CHANNELS}")
    if demuxer == "g722":  # FFmpeg's g722 demuxer has no options: always 16 kHz, one channel.
        return Headerless(demuxer, {}, tuple(guesses))
    options = {"sample_rate": str(rate_hz or _RATE_HZ), "ch_layout": f"{channels}C"}
    return Headerless(demuxer, options, tuple(guesses))


def _number(parameters: list[str], name: str) -> int:
    """The value of a parameter; 0 if it is missing or no positive number."""
    for parameter in parameters:
        key, _, value = parameter.partition("=")
        if key.strip().lower() == name and value.strip(' "').isdecimal():
            return int(value.strip(' "'))
    return 0

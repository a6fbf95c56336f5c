"""Recordings into vCons: one dialog, a party per channel, a uuid in order of time."""

from __future__ import annotations

import io
import wave
from pathlib import Path
from typing import Any

import pytest

from conserver.errors import Rejected
from conserver.operations import recordings
from conserver.vcon.document import Vcon, decode_body


def recording(channels: int, seconds: float = 0.5) -> bytes:
    """A silent WAV."""
    made = io.BytesIO()
    with wave.open(made, "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(b"\0\0" * int(8000 * seconds) * channels)
    return made.getvalue()


@pytest.mark.parametrize(("channels", "parties"), [(1, 0), (2, [0, 1])])
def test_recordings_become_vcons(tmp_path: Path, channels: int, parties: Any) -> None:
    """One dialog with the whole file in it; two channels are two parties."""
    path = tmp_path / "call.WAV"
    path.write_bytes(recording(channels))
    vcon = Vcon.parse(recordings.vcon_of(path))
    (dialog,) = vcon.dialogs
    assert len(vcon.parties) == channels
    assert dialog["parties"] == parties
    assert dialog["duration"] == 0.5
    assert dialog["mediatype"] == "audio/wav"
    assert decode_body(dialog) == path.read_bytes()
    assert vcon.uuid[14] == "8"


def test_what_is_no_recording_is_passed_on_as_it_is(tmp_path: Path) -> None:
    """The link that hears it decides what it is; here it has one channel and no known length."""
    path = tmp_path / "call.mp3"
    path.write_bytes(b"not really")
    (dialog,) = Vcon.parse(recordings.vcon_of(path)).dialogs
    assert dialog["mediatype"] == "audio/mpeg"
    assert "duration" not in dialog


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (b"RIFF\x24\0\0\0WAVEfmt ", "audio/wav"),
        (b"RIFF\x24\0\0\0WEBPVP8 ", ""),
        (b"\xff\xfb\x90\x64", "audio/mpeg"),
        (b"\xff\xf1\x50\x80", "audio/aac"),
        (b"\xff\xfe{\0", ""),  # text in UTF-16
        (b"\0\0\0\x20ftypM4A ", "audio/mp4"),
        (b"\0\0\0\x20ftypheic", ""),
        (b"\x1aE\xdf\xa3\x9fB\x86", "audio/x-matroska"),
        (b"#!AMR-WB\n", "audio/amr-wb"),
        (b"#!AMR\n", "audio/amr"),
        (b"%PDF-1.7", ""),
        (b"\xff", ""),
        (b"", ""),
    ],
)
def test_a_file_without_a_known_name_tells_what_it_is(
    tmp_path: Path, head: bytes, kind: str
) -> None:
    path = tmp_path / "recording 7"
    path.write_bytes(head)
    assert recordings.media_type_of(path) == kind


@pytest.mark.parametrize("name", ["call.ulaw", "call.alaw", "call.PCMA"])
def test_a_headerless_recording_lasts_as_long_as_its_bytes(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(bytes(12_000))
    (dialog,) = Vcon.parse(recordings.vcon_of(path)).dialogs
    assert (dialog["duration"], dialog["parties"]) == (1.5, 0)


@pytest.mark.parametrize("name", ["call.wav", "call.ulaw", "call"])
def test_a_recording_of_no_bytes_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.touch()
    with pytest.raises(Rejected, match="0 bytes"):
        recordings.vcon_of(path)


def test_new_uuids_are_version_8_and_in_order_of_time() -> None:
    """As the vCon draft wants them: what is made later sorts later."""
    made = [recordings.new_uuid() for _ in range(3)]
    assert len(set(made)) == 3
    assert all(uuid[14] == "8" and uuid[19] in "89ab" for uuid in made)

"""Recordings into vCons: one dialog, a party per channel, a uuid in order of time."""

from __future__ import annotations

import io
import wave
from pathlib import Path
from typing import Any

import pytest

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


def test_new_uuids_are_version_8_and_in_order_of_time() -> None:
    """As the vCon draft wants them: what is made later sorts later."""
    made = [recordings.new_uuid() for _ in range(3)]
    assert len(set(made)) == 3
    assert all(uuid[14] == "8" and uuid[19] in "89ab" for uuid in made)

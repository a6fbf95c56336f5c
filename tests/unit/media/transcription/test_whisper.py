"""The engine's own decisions, with a model that only pretends: languages, turns, memory, times."""

from __future__ import annotations

import importlib
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from conserver.errors import Cancelled, Retry
from conserver.media.transcription.audio import SAMPLE_RATE_HZ
from conserver.media.transcription.engine import Following, Heard, Identity, Listening, Segment
from conserver.media.transcription.voice import STRETCH_S
from conserver.media.transcription.whisper import WhisperTranscriber, _AtFirstUse
from tests.helpers import eventually
from tests.unit.media.transcription.sounds import silence, tone

IDENTITY = Identity("whisper", "faster-whisper", "fake", "cpu", "int8")
TONE = tone(440, 5, SAMPLE_RATE_HZ)
TWO_STRETCHES = np.concatenate([TONE, silence(STRETCH_S, SAMPLE_RATE_HZ), TONE])


def nothing() -> None:
    pass


@dataclass
class FakeModel:
    """Answers as faster-whisper does: a lazy generator, and numpy's numbers."""

    supported_languages: tuple[str, ...] = ("en", "de", "fr")
    detected: tuple[str, ...] = ("de", "fr")
    failure: Exception | None = None
    on_segment: Callable[[], None] = nothing
    calls: list[dict[str, Any]] = field(default_factory=list)

    def transcribe(self, samples: Any, **options: Any) -> tuple[Iterator[Any], Any]:
        assert samples.dtype == np.float32
        assert abs(samples).max() <= 1
        self.calls.append(options)
        language = options["language"] or self.detected[len(self.calls) - 1]
        info = SimpleNamespace(language=language, language_probability=np.float64(0.9))
        return self._segments(), info

    def _segments(self) -> Iterator[Any]:
        self.on_segment()
        if self.failure:
            raise self.failure
        word = SimpleNamespace(start=np.float64(1), end=np.float64(2), word=" hi", probability=0.8)
        yield SimpleNamespace(
            start=np.float64(1), end=np.float64(2), text=" hi", words=[word], temperature=None,
            avg_logprob=-0.1, no_speech_prob=0.0, compression_ratio=1.0,
        )  # fmt: skip


class Engine(WhisperTranscriber):
    """Hears one channel at a time."""

    def hear(self, samples: Any, listening: Listening, pulse: Callable[[], None]) -> Heard:
        return self.transcribe([samples], listening, Following(pulse)).channels[0]


def engine(model: FakeModel) -> Engine:
    return Engine(model, IDENTITY)


def test_times_count_from_the_start_of_the_recording_and_are_plain_floats() -> None:
    heard = engine(FakeModel()).hear(TWO_STRETCHES, Listening(), nothing)
    first, second = heard.segments
    assert (first.start_s, first.end_s, first.text) == (1, 2, "hi")
    assert STRETCH_S - 31 < second.start_s - 1 < STRETCH_S + 5
    assert second.words[0].start_s == second.start_s
    times = [first.start_s, first.end_s, second.words[0].start_s, heard.language_confidence]
    assert {type(time) for time in times} == {float}


def test_the_language_found_first_holds_for_the_channel() -> None:
    model = FakeModel()
    heard = engine(model).hear(TWO_STRETCHES, Listening(), nothing)
    assert [call["language"] for call in model.calls] == [None, "de"]
    assert (heard.language, heard.language_confidence) == ("de", 0.9)


def test_a_multilingual_channel_is_asked_anew() -> None:
    model = FakeModel()
    heard = engine(model).hear(TWO_STRETCHES, Listening(multilingual=True), nothing)
    assert [call["language"] for call in model.calls] == [None, None]
    assert heard.language == "de"


def test_a_given_language_is_certain() -> None:
    heard = engine(FakeModel()).hear(TONE, Listening(language="fr"), nothing)
    assert (heard.language, heard.language_confidence, heard.warnings) == ("fr", 1, ())


def test_a_language_that_the_model_lacks_is_told() -> None:
    model = FakeModel(supported_languages=("en",))
    heard = engine(model).hear(TONE, Listening(language="de"), nothing)
    assert heard.language == "en"
    assert heard.warnings == ("the model knows no 'de': it heard the channel as English",)


def test_translated_text_is_english_and_says_where_it_comes_from() -> None:
    model = FakeModel()
    heard = engine(model).hear(TWO_STRETCHES, Listening(translate=True), nothing)
    assert [(call["task"], call["language"]) for call in model.calls] == [
        ("translate", None),
        ("translate", "de"),
    ]
    assert (heard.language, heard.warnings) == ("en", ("translated from 'de'",))


def test_silence_never_reaches_the_model() -> None:
    model = FakeModel()
    heard = engine(model).hear(silence(10, SAMPLE_RATE_HZ), Listening(), nothing)
    assert model.calls == []
    assert (heard.segments, heard.language) == ((), None)


@pytest.mark.parametrize(
    "failure",
    [
        RuntimeError("CUDA failed with error out of memory"),
        RuntimeError("cuBLAS failed with status CUBLAS_STATUS_ALLOC_FAILED"),
        RuntimeError("std::bad_alloc"),
        MemoryError(),
    ],
)
def test_full_memory_is_tried_again_later(failure: Exception) -> None:
    with pytest.raises(Retry, match="out of memory") as caught:
        engine(FakeModel(failure=failure)).hear(TONE, Listening(), nothing)
    assert caught.value.after_s == 30


def test_other_failures_are_failures() -> None:
    with pytest.raises(RuntimeError, match="illegal instruction"):
        engine(FakeModel(failure=RuntimeError("illegal instruction"))).hear(
            TONE, Listening(), nothing
        )


def test_the_pulse_ends_the_work_and_frees_the_model() -> None:
    def cancel() -> None:
        raise Cancelled("no longer wanted")

    shared = engine(FakeModel())
    with pytest.raises(Cancelled):
        shared.hear(TONE, Listening(), cancel)
    assert shared.hear(TONE, Listening(), nothing).segments


def test_one_listens_at_a_time_and_whoever_waits_can_be_cancelled() -> None:
    listening, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        listening.set()
        assert go_on.wait(30)

    def cancel_while_waiting() -> None:
        if listening.is_set():
            raise Cancelled("no longer wanted")

    model = FakeModel(on_segment=hold)
    shared = engine(model)
    results: list[Segment] = []
    first = threading.Thread(
        target=lambda: results.extend(shared.hear(TONE, Listening(), nothing).segments)
    )
    first.start()
    try:
        assert listening.wait(30)
        with pytest.raises(Cancelled):
            shared.hear(TONE, Listening(), cancel_while_waiting)
        assert len(model.calls) == 1
    finally:
        go_on.set()
        first.join(30)
    eventually(lambda: len(results) == 1)


def test_what_stands_for_a_module_gives_nothing_before_the_module_is_there() -> None:
    """It would ask itself without end: whoever looks through all modules looks at it, too."""
    name = "conserver_no_such_module"
    sys.modules[name] = standin = _AtFirstUse(name)
    try:
        assert not hasattr(standin, "anything")
        assert not hasattr(importlib.import_module(name), "__file__")
    finally:
        del sys.modules[name]
    with pytest.raises(ModuleNotFoundError):
        standin.anything  # noqa: B018 - this imports it

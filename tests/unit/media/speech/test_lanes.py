"""Lanes with a real model: steps, memory that is full, batches that must not matter."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import pytest

from conserver.media.speech.batching import Batcher
from conserver.media.speech.lanes import Failed, Job, Lanes, Outcome
from conserver.media.speech.models import MakeModel, Models
from conserver.media.speech.whisper import WhisperBatches
from conserver.media.speech.windows import Answer, ModelInfo, WindowOptions
from conserver.media.speech.wire import SharedMel, spectrogram
from conserver.media.transcription.engine import Model
from tests.helpers import eventually
from tests.unit.media.speech.real import TINY, channels_of, english

OPTIONS = WindowOptions(language="en")


def nothing(*_: object) -> None:
    pass


class Scarce(WhisperBatches):
    """Has no room for more than so many rows at once."""

    rows_max = 2

    def generate(self, encoded: Sequence[Any], *args: Any) -> Any:
        if len(encoded) > self.rows_max:
            raise RuntimeError("CUDA failed with error out of memory")
        return super().generate(encoded, *args)


class Full(Scarce):
    """Has no room for one row, once it is warm."""

    def _warm_up(self) -> bool:
        self.rows_max = 1
        aligns = super()._warm_up()
        self.rows_max = 0
        return aligns


def lanes_of(make: MakeModel = WhisperBatches, rows_max: int = 8) -> Lanes:
    models = Models(workers=1, threads=1, ahead=16, make=make)
    lanes = Lanes(models, Batcher(rows_max), 1, nothing, nothing)
    lanes.start()
    return lanes


def results(lanes: Lanes, jobs: Sequence[Job]) -> list[Outcome]:
    """What came of jobs, in their order."""
    for job in jobs:
        lanes.put(job)
    eventually(lambda: len(lanes.finished) == len(jobs), 90)
    found = {id(job): outcome for job, outcome in lanes.finished}
    lanes.finished.clear()
    return [found[id(job)] for job in jobs]


def job_of(name: str, options: WindowOptions = OPTIONS, model: Model = TINY) -> Job:
    frames, bands = (1000, 80) if model is TINY else (3000, 80)
    sound = channels_of(name)[0].astype(np.float32) / np.float32(32768)
    mel = spectrogram(sound, bands, frames)
    return Job(object(), 0, model, options, SharedMel.of(mel), mel.shape[1])


def test_a_model_is_loaded_and_says_what_it_is() -> None:
    (info,) = results(lanes_of(), [Job("call", 0, TINY)])
    assert isinstance(info, ModelInfo)
    assert (info.bands, info.frames, info.languages, info.aligns) == (80, 1000, ("en",), True)
    assert info.identity.device == "cpu"


def test_windows_of_several_calls_are_understood_in_one_batch() -> None:
    jobs = [job_of(f"calls/{name}.wav") for name in ("mono-8k", "mono-16k", "silence")]
    lanes = lanes_of()
    first, second, third = results(lanes, jobs)
    assert isinstance(first, Answer)
    assert isinstance(second, Answer)
    assert isinstance(third, Answer)
    assert first.text == "yes please call seven two four"
    assert [word.text.strip() for word in second.words] == second.text.split()
    assert all(0 <= word.start_s <= word.end_s <= 3 for word in second.words)
    assert third.text == ""
    assert lanes.rows == 3


def test_a_model_that_is_not_there_is_tried_again_later() -> None:
    (failed,) = results(lanes_of(), [Job("call", 0, Model("/nowhere/at/all"))])
    assert isinstance(failed, Failed)
    assert failed.retry_s == 60
    assert "/nowhere/at/all" in failed.reason


def test_full_memory_makes_batches_smaller_and_loses_no_row() -> None:
    jobs = [job_of("calls/mono-8k.wav") for _ in range(8)]
    batcher: Batcher[Job] = Batcher(8)
    lanes = Lanes(Models(workers=1, threads=1, ahead=16, make=Scarce), batcher, 1, nothing, nothing)
    for job in jobs:
        lanes.put(job)
    lanes.start()
    eventually(lambda: len(lanes.finished) == len(jobs), 90)
    texts = {outcome.text for _, outcome in lanes.finished if isinstance(outcome, Answer)}
    assert texts == {"yes please call seven two four"}
    assert batcher.rows_max == 2


def test_one_row_that_does_not_fit_is_told_where_there_is_no_smaller_model() -> None:
    (failed,) = results(lanes_of(Full), [job_of("calls/mono-8k.wav")])
    assert isinstance(failed, Failed)
    assert "out of memory" in failed.reason


def test_a_row_that_fails_the_checks_is_tried_at_the_next_temperature() -> None:
    class Doubtful(WhisperBatches):
        """Doubts everything at first."""

        asked: ClassVar[list[float]] = []

        def generate(
            self, encoded: Any, languages: Any, options: Any, temperature: float
        ) -> list[Any]:
            self.asked.append(temperature)
            found = super().generate(encoded, languages, options, temperature)
            low = -2.0 if temperature == 0 else -0.1
            return [
                type(one)(one.tokens, one.text, low, 0.0, one.compression_ratio, one.temperature)
                for one in found
            ]

    (answer,) = results(lanes_of(Doubtful), [job_of("calls/mono-8k.wav")])
    assert isinstance(answer, Answer)
    assert Doubtful.asked[-2:] == [0.0, 0.4]
    assert answer.temperature == 0.4


def test_the_canary_sings_the_same_song() -> None:
    model = WhisperBatches(TINY, workers=1, threads=1, ahead=1)
    assert model.is_sane()
    model._canary = [token + 1 for token in model._canary]
    assert not model.is_sane()


def spectra(count: int) -> Callable[[WhisperBatches], list[Any]]:
    names = ["order", "window", "invoice", "address"]  # the short ones, each of its own length
    sounds = [
        channels_of(f"speech/{name}.wav")[0].astype(np.float32) / np.float32(32768)
        for name in names
    ]

    def encoded(model: WhisperBatches) -> list[Any]:
        mels = [spectrogram(sound, model.bands, model.frames) for sound in sounds]
        return (model.encode(mels) * (count // len(mels) + 1))[:count]

    return encoded


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_what_a_window_gives_does_not_depend_on_its_company() -> None:
    """At 1, 8 and 32 rows, in another order: the same tokens, in float32 on a CPU.

    32 rows are decoded without beams, which multiply the rows that the model computes by five.
    """
    model = WhisperBatches(english(), workers=1, threads=1, ahead=1)
    encoded = spectra(32)(model)
    for size, options in ((8, OPTIONS), (32, replace(OPTIONS, beam_size=1))):
        alone = [model.generate([row], ["en"], options, 0.0)[0].tokens for row in encoded[:4]]
        numbers = [int(number) for number in np.random.default_rng(3).permutation(size)]
        batch = model.generate([encoded[n] for n in numbers], ["en"] * size, options, 0.0)
        found = {n: one.tokens for n, one in zip(numbers, batch, strict=True)}
        assert [found[n] for n in range(size)] == alone * (size // 4)

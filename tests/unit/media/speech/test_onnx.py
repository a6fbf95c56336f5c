"""onnx-asr itself with small true models: what is understood, and what is said of broken ones."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conserver.errors import Cancelled, Retry
from conserver.media.speech import onnx_inside
from conserver.media.speech.batching import Batcher
from conserver.media.speech.lanes import Job, Lanes, Outcome
from conserver.media.speech.models import Models, size_bytes
from conserver.media.speech.onnx import OnnxBatches
from conserver.media.speech.tokens import Token, words_of
from conserver.media.speech.windows import Answer, ModelInfo, WindowOptions
from conserver.media.speech.wire import SharedMel, whole_frames
from conserver.media.transcription.engine import Following, Listening, Model
from conserver.media.transcription.in_process import is_out_of_memory
from tests.helpers import eventually
from tests.unit.media.speech.tones import Sound, aed_model, ctc_model, spoken, tdt_model


def nothing(*_: object) -> None:
    pass


@pytest.fixture(scope="module")
def ctc(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return ctc_model(tmp_path_factory.mktemp("ctc"))


def load(model: Model) -> OnnxBatches:
    return OnnxBatches(model, workers=1, threads=1, ahead=16)


@pytest.fixture(scope="module")
def batches(ctc: Model) -> OnnxBatches:
    return load(ctc)


def texts(answers: Sequence[Answer]) -> list[str]:
    return [answer.text for answer in answers]


def test_words_follow_from_the_sound_and_have_its_times(batches: OnnxBatches) -> None:
    sounds = [spoken("seven four two"), spoken("two seven"), spoken("four", 0.8)]
    first, second, third = batches.hear(sounds, ["", "en", ""], words=True)
    assert texts([first, second, third]) == ["seven four two", "two seven", "four"]
    assert [word.text for word in first.words] == [" seven", " four", " two"]
    assert [word.start_s for word in first.words] == pytest.approx([0.5, 1.5, 2.5], abs=0.1)
    assert all(word.start_s < word.end_s <= word.start_s + 0.3 for word in first.words)
    assert all(0.9 < word.confidence <= 1 for word in first.words)
    assert (first.language, second.language) == ("", "en")
    assert -0.1 < first.avg_logprob <= 0


def test_company_in_a_batch_changes_nothing(batches: OnnxBatches) -> None:
    sounds = [spoken("seven four two"), spoken("two", 0.9), spoken("four two seven seven", 0.7)]
    alone = [batches.hear([sound], [""], words=True)[0] for sound in sounds]
    together = batches.hear(sounds, [""] * 3, words=True)
    assert texts(alone) == texts(together)
    for one, other in zip(alone, together, strict=True):
        assert [(word.text, word.start_s, word.end_s) for word in one.words] == [
            (word.text, word.start_s, word.end_s) for word in other.words
        ]


def test_without_words_there_is_text_alone(batches: OnnxBatches) -> None:
    (answer,) = batches.hear([spoken("two four")], [""], words=False)
    assert (answer.text, answer.words) == ("two four", ())


def test_very_short_and_silent_sound_is_nothing(batches: OnnxBatches) -> None:
    sounds = [np.zeros(samples, np.int16) for samples in (160, 16_000)]
    assert texts(batches.hear(sounds, ["", ""], words=True)) == ["", ""]


def test_a_model_says_what_it_is(ctc: Model, batches: OnnxBatches) -> None:
    info = batches.info
    assert (info.bands, info.frames, info.languages, info.aligns) == (0, 2000, (), True)
    assert (info.detects, info.warnings) == (False, ())
    assert (info.identity.provider, info.identity.device) == ("nemo", "cpu")
    assert info.identity.product.startswith("onnx-asr ")
    assert info.identity.model == Path(ctc.name).name
    assert ModelInfo.load(json.loads(json.dumps(info.dump()))) == info


class Deaf(OnnxBatches):
    """Computes something else than at first, once it is told to."""

    deaf = False

    def _recognize(self, sounds: Sequence[Sound], language: str) -> list[Any]:
        heard = [np.zeros_like(sound) for sound in sounds] if self.deaf else sounds
        return super()._recognize(heard, language)


def test_the_canary_tells_that_a_device_computes_rubbish(ctc: Model) -> None:
    batches = Deaf(ctc, workers=1, threads=1, ahead=1)
    assert batches.is_sane()
    batches.deaf = True
    assert not batches.is_sane()


def test_a_transducer_with_durations_is_understood(tmp_path: Path) -> None:
    batches = load(tdt_model(tmp_path / "parakeet"))
    (answer,) = batches.hear([spoken("four seven two", bands=128)], ["en"], words=True)
    assert answer.text == "four seven two"
    assert [word.start_s for word in answer.words] == pytest.approx([0.5, 1.5, 2.5], abs=0.1)


def test_a_model_that_is_told_the_language_writes_in_it_and_says_what_it_lacks(
    tmp_path: Path,
) -> None:
    batches = load(aed_model(tmp_path / "canary"))
    assert (batches.info.languages, batches.info.aligns) == (("de", "en"), False)
    assert batches.info.warnings == (
        "the model tells no times: words have none, segments those of the windows of speech",
    )
    sounds = [spoken("two seven four", bands=128), spoken("four two seven", bands=128)] * 2
    answers = batches.hear(sounds, ["en", "de", "de", "en"], words=True)
    english, german = {"two", "seven", "four"}, {"zwei", "sieben", "vier"}
    assert [set(answer.text.split()) for answer in answers] == [english, german, german, english]
    assert [answer.language for answer in answers] == ["en", "de", "de", "en"]
    assert all(answer.words == () for answer in answers)


def test_the_files_of_a_quantization_are_taken(tmp_path: Path) -> None:
    model = ctc_model(tmp_path / "ctc", "int8")
    assert load(model).info.identity.compute_type == "int8"
    assert size_bytes(model) == (
        (tmp_path / "ctc" / "model.int8.onnx").stat().st_size
        + (tmp_path / "ctc" / "vocab.txt").stat().st_size
    )


def spoilt(folder: Path, how: str) -> Model:
    model = ctc_model(folder)
    match how:
        case "graph":
            (folder / "model.onnx").write_bytes(b"no graph")
        case "vocabulary":
            (folder / "vocab.txt").write_text("a 0\n<blk> 1\n")
        case "bands":
            config = json.loads((folder / "config.json").read_text())
            (folder / "config.json").write_text(json.dumps({**config, "features_size": 128}))
    return model


@pytest.mark.parametrize("how", ["graph", "vocabulary", "bands"])
def test_a_broken_model_is_tried_again_later_and_named(tmp_path: Path, how: str) -> None:
    model = spoilt(tmp_path / "mine", how)
    with pytest.raises(Retry, match=r"the model \S+mine cannot be loaded on cpu: ") as caught:
        load(model)
    assert caught.value.after_s == 60


def test_a_gpu_that_is_asked_for_and_not_there_is_told(ctc: Model) -> None:
    with pytest.raises(Retry, match="onnxruntime cannot use a GPU here"):
        load(Model(ctc.name, engine="onnx", device="cuda"))


def test_full_memory_of_onnxruntime_is_known() -> None:
    text = "Failed to allocate memory for requested buffer of size 1073741824"
    assert is_out_of_memory(RuntimeError(f"[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : {text}"))


# In the lanes of a transcriber.


class Scarce(OnnxBatches):
    """Has no room for more than two rows at once."""

    def hear(self, sounds: Sequence[Sound], languages: Sequence[str], *, words: bool) -> Any:
        if len(sounds) > 2:
            raise RuntimeError("Failed to allocate memory for requested buffer of size 9")
        return super().hear(sounds, languages, words=words)


def job_of(words: str, model: Model) -> Job:
    samples = whole_frames(spoken(words).astype(np.float32) / np.float32(32768))
    options = WindowOptions(language="en")
    return Job(object(), 0, model, options, SharedMel.of(samples), len(samples) // 160)


def test_windows_of_several_calls_share_batches_and_full_memory_loses_none(ctc: Model) -> None:
    said = ["two", "four", "seven four", "two two seven", "four seven"]
    models = Models(workers=1, threads=1, ahead=16, make=Scarce)
    batcher: Batcher[Job] = Batcher(8)
    lanes = Lanes(models, batcher, 1, nothing, nothing)
    jobs = [job_of(words, ctc) for words in said]
    for job in jobs:
        lanes.put(job)
    lanes.start()
    eventually(lambda: len(lanes.finished) == len(jobs), 50)
    found: dict[int, Outcome] = {id(job): outcome for job, outcome in lanes.finished}
    answers = [found[id(job)] for job in jobs]
    assert [one.text for one in answers if isinstance(one, Answer)] == said
    assert batcher.rows_max == 2


# In the worker itself.


def test_a_call_is_heard_in_this_process_channel_by_channel(ctc: Model) -> None:
    transcriber = onnx_inside.shared(ctc)
    assert onnx_inside.shared(ctc) is transcriber
    done: list[tuple[float, float]] = []
    long, short = "two four seven " * 9, "seven two"  # The first takes two windows.
    heard = transcriber.transcribe(
        [spoken(long), spoken(short)],
        Listening(language="de", vad=False),
        Following(nothing, lambda now_s, all_s: done.append((now_s, all_s))),
    )
    said = [[word for one in channel.segments for word in one.words] for channel in heard.channels]
    assert [[word.text.strip() for word in one] for one in said] == [long.split(), short.split()]
    starts = [word.start_s for word in said[0]]
    # The first word of an utterance begins with its first sound, which is the chord here.
    assert starts == pytest.approx([at + 0.5 for at in range(27)], abs=0.25)
    assert [one.language for one in heard.channels] == ["de", "de"]
    assert done[-1][0] == pytest.approx(done[-1][1])


def test_without_a_language_none_is_told(ctc: Model) -> None:
    heard = onnx_inside.shared(ctc).transcribe(
        [spoken("two")], Listening(vad=False), Following(nothing)
    )
    assert [one.language for one in heard.channels] == [None]
    assert heard.channels[0].segments[0].text == "two"


def test_a_call_that_is_cancelled_ends(ctc: Model) -> None:
    def pulse() -> None:
        raise Cancelled("by somebody")

    with pytest.raises(Cancelled):
        onnx_inside.shared(ctc).transcribe([spoken("two")], Listening(vad=False), Following(pulse))


class Counting(OnnxBatches):
    """Counts the windows that it computes."""

    count = 0

    def hear(self, sounds: Sequence[Sound], languages: Sequence[str], *, words: bool) -> Any:
        self.count += len(sounds)
        return super().hear(sounds, languages, words=words)


def test_a_long_call_goes_on_from_what_was_kept_of_it(ctc: Model) -> None:
    batches = Counting(ctc, workers=1, threads=1, ahead=1)
    transcriber = onnx_inside.OnnxTranscriber(batches, keep_every_s=0)
    channels, how = [spoken("two four seven " * 40)], Listening(vad=False)
    whole = transcriber.transcribe(channels, how, Following(nothing))
    windows, batches.count = batches.count, 0
    kept: list[dict[str, Any]] = []

    def pulse() -> None:
        if kept:
            raise Cancelled("its worker ends")

    with pytest.raises(Cancelled):
        transcriber.transcribe(channels, how, Following(pulse, keep=kept.append))
    once = json.loads(json.dumps(kept[0]))  # As a vCon holds it.
    again = transcriber.transcribe(channels, how, Following(nothing, kept=once))
    assert again == whole
    assert batches.count == windows > len(once["answers"]) > 0


def test_what_was_kept_of_another_way_to_hear_a_call_is_not_used(ctc: Model) -> None:
    transcriber = onnx_inside.OnnxTranscriber(load(ctc))
    other = {"digest": "another", "answers": {"0": {}}}
    following = Following(nothing, kept=other)
    heard = transcriber.transcribe([spoken("two")], Listening(vad=False), following)
    assert heard.channels[0].segments[0].text == "two"


def test_whoever_listens_is_told_the_text_so_far(ctc: Model) -> None:
    told: list[str] = []
    following = Following(nothing, heard=lambda channels, _: told.append(channels[0][-1].text))
    call = [spoken("two four seven " * 40)]
    heard = onnx_inside.shared(ctc).transcribe(call, Listening(vad=False), following)
    assert told
    assert set(told) <= {one.text for one in heard.channels[0].segments}


# Words from tokens.


def words(*tokens: str, length_s: float = 10.0) -> list[tuple[str, float, float]]:
    listed = [Token(text, float(number), 0.0) for number, text in enumerate(tokens)]
    return [(word.text, word.start_s, word.end_s) for word in words_of(listed, length_s)]


def test_pieces_and_marks_become_words() -> None:
    assert words(" hel", "lo", ",", " wor", "ld", " !") == [
        (" hello,", 0, 1.24), (" world!", 3, 4.24),
    ]  # fmt: skip
    assert words("d", "a", " ", "n", "e") == [(" da", 0, 1.24), (" ne", 3, 4.24)]
    assert words(" ¿", "Qué", "?", " No") == [(" ¿Qué?", 1, 1.24), (" No", 3, 3.24)]
    assert words("你", "好", "。", " ok") == [("你", 0, 0.24), ("好。", 1, 1.24), (" ok", 3, 3.24)]


def test_words_end_where_the_next_begins_and_within_the_window() -> None:
    listed = [Token(" a", 0.0, -0.1), Token(" b", 0.1, -2.0), Token(" c", 0.5, 0.5)]
    found = words_of(listed, 0.6)
    assert [(word.start_s, word.end_s) for word in found] == [(0, 0.1), (0.1, 0.34), (0.5, 0.6)]
    assert [word.confidence for word in found] == [0.9048, 0.1353, 1.0]


def test_of_no_tokens_and_of_spaces_there_are_no_words() -> None:
    assert words() == []
    assert words(" ", " ") == []
    assert words(".") == [(" .", 0, 0.24)]

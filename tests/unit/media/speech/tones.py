"""Small models for onnx-asr that are true ones: what they write follows from the sound.

Each of three tones has a word. The models have NeMo's files, inputs and outputs: the library's own
spectrogram (each band normalized over the window) goes through a matrix that looks at the band of
each tone. All tones at once are no word: such a chord stands before each word, so that every band
has been loud in every window, whatever is said there. Their vocabulary has a full stop, which no
sound makes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from conserver.media.transcription.audio import SAMPLE_RATE_HZ
from conserver.media.transcription.engine import Model

Sound = npt.NDArray[np.int16]

BANDS = {80: {"seven": 12, "four": 30, "two": 50}, 128: {"seven": 19, "four": 48, "two": 80}}
"""The band of each word's tone, for spectrograms of 80 and of 128 bands."""
SUBSAMPLING = 8
BLANK = 4
_PROMPT = (
    "\u2581", "<|startofcontext|>", "<|startoftranscript|>", "<|emo:undefined|>", "<|en|>",
    "<|de|>", "<|pnc|>", "<|noitn|>", "<|notimestamp|>", "<|nodiarize|>",
)  # fmt: skip
_GAIN = 8.0
_HIGH = 1.0  # A band is over this, in its own standard deviations, while its tone lasts.


def hz_of(word: str, bands: int = 80) -> float:
    """The tone of a word: the centre of its band on Slaney's mel scale."""
    slope, knee = 3 / 200, 1000.0
    log_step = math.log(6.4) / 27
    top = knee * slope + math.log(SAMPLE_RATE_HZ / 2 / knee) / log_step
    mel = (BANDS[bands][word] + 1) * top / (bands + 1)
    return mel / slope if mel < knee * slope else knee * math.exp((mel - knee * slope) * log_step)


def spoken(words: str, every_s: float = 1.0, bands: int = 80) -> Sound:
    """Tones of 0.4 s for words, every so many seconds; the first begins at half of that."""
    spelt = words.split()
    sound = np.zeros(round((len(spelt) + 0.5) * every_s * SAMPLE_RATE_HZ), dtype=np.float32)
    for number, word in enumerate(spelt):
        start_s = (number + 0.5) * every_s
        _add(sound, start_s - 0.2, 0.1, [hz_of(one, bands) for one in BANDS[bands]])
        _add(sound, start_s, 0.4, [hz_of(word, bands)])
    return np.round(sound * 32767).astype(np.int16)


def _add(sound: npt.NDArray[np.float32], start_s: float, length_s: float, hz: list[float]) -> None:
    times = np.arange(round(length_s * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    envelope = 0.3 * np.hanning(len(times)) ** 0.25
    first = round(start_s * SAMPLE_RATE_HZ)
    for one in hz:
        sound[first : first + len(times)] += envelope * np.sin(2 * math.pi * one * times)


def ctc_model(folder: Path, quantization: str = "") -> Model:
    """A model like Parakeet CTC: one graph from the spectrogram to the shares of tokens."""
    helper = _helper(folder, "nemo-conformer-ctc", 80)
    nodes = [
        *_scores(helper, 80),
        helper.make_node("LogSoftmax", ["scores"], ["logprobs"], axis=-1),
    ]
    name = f"model.{quantization}.onnx" if quantization else "model.onnx"
    _write(
        folder / name,
        nodes,
        [("audio_signal", "f", ["batch", 80, "time"]), ("length", "i", ["batch"])],
        [("logprobs", "f", ["batch", "frames", BLANK + 1])],
    )
    return Model(str(folder), engine="onnx", device="cpu", quantization=quantization or None)


def tdt_model(folder: Path) -> Model:
    """A model like Parakeet TDT 0.6b v3: an encoder, and a decoder that knows the last token."""
    helper = _helper(folder, "nemo-conformer-tdt", 128)
    eight, one = _constant("eight", [SUBSAMPLING]), _constant("one", [1])
    _write(
        folder / "encoder-model.onnx",
        [
            *_scores(helper, 128),
            helper.make_node("Transpose", ["scores"], ["outputs"], perm=[0, 2, 1]),
            eight,
            one,
            helper.make_node("Sub", ["length", "one"], ["last"]),
            helper.make_node("Div", ["last", "eight"], ["frames_less"]),
            helper.make_node("Add", ["frames_less", "one"], ["encoded_lengths"]),
        ],
        [("audio_signal", "f", ["batch", 128, "time"]), ("length", "i", ["batch"])],
        [("outputs", "f", ["batch", BLANK + 1, "frames"]), ("encoded_lengths", "i", ["batch"])],
    )
    # A token is not told twice while its tone lasts; one frame at a time, of the steps 0 to 4.
    told = np.diag([-100.0] * BLANK + [0.0]).astype(np.float32)
    steps = np.array([[0, 9, 0, 0, 0]], dtype=np.float32)
    state = ["layers", 1, 2]
    _write(
        folder / "decoder_joint-model.onnx",
        [
            _constant("told", told),
            _constant("steps", steps),
            _constant("flat", [1, BLANK + 1]),
            _constant("four", [1, 1, 1, BLANK + 6]),
            helper.make_node("Reshape", ["encoder_outputs", "flat"], ["encoded"]),
            helper.make_node("Gather", ["told", "targets"], ["found"], axis=0),
            helper.make_node("Reshape", ["found", "flat"], ["before"]),
            helper.make_node("Add", ["encoded", "before"], ["tokens"]),
            helper.make_node("Concat", ["tokens", "steps"], ["joined"], axis=-1),
            helper.make_node("Reshape", ["joined", "four"], ["outputs"]),
            helper.make_node("Identity", ["input_states_1"], ["output_states_1"]),
            helper.make_node("Identity", ["input_states_2"], ["output_states_2"]),
            helper.make_node("Identity", ["target_length"], ["prednet_lengths"]),
        ],
        [
            ("encoder_outputs", "f", [1, BLANK + 1, 1]),
            ("targets", "i", [1, 1]),
            ("target_length", "i", [1]),
            ("input_states_1", "f", [1, 1, 2]),
            ("input_states_2", "f", [1, 1, 2]),
        ],
        [
            ("outputs", "f", [1, 1, 1, BLANK + 6]),
            ("prednet_lengths", "i", [1]),
            ("output_states_1", "f", [1, *state[1:]]),
            ("output_states_2", "f", [1, *state[1:]]),
        ],
    )
    return Model(str(folder), engine="onnx", device="cpu")


def aed_model(folder: Path) -> Model:
    """A model like Canary: told the language, and without times.

    Its decoder tells the tones of the window, the clearest first and each once, in the words of the
    language that stands in the prompt.
    """
    helper = _helper(folder, "nemo-conformer-aed", 128)
    german = ["sieben", "vier", "zwei"]
    english = list(BANDS[128])
    tokens = [*(f"\u2581{word}" for word in [*english, *german]), "<|endoftext|>", *_PROMPT]
    lines = [f"{token} {number}\n" for number, token in enumerate(tokens)]
    (folder / "vocab.txt").write_text("".join(lines), encoding="utf-8")
    count, end = len(tokens), len(english) + len(german)
    weights = np.hstack([_weights(128), _weights(128), np.zeros((128, count - end), np.float32)])
    bias = np.full(count, -1000, dtype=np.float32)
    bias[:end], bias[end] = 0, _GAIN * _HIGH
    _write(
        folder / "encoder-model.onnx",
        [
            _constant("one", [1]),
            *_frames(helper, weights, bias, "encoder_embeddings"),
            _constant("two", [2]),
            helper.make_node("Shape", ["encoder_embeddings"], ["shape"]),
            helper.make_node("Slice", ["shape", "starts", "two"], ["rows"]),
            helper.make_node("Expand", ["one", "rows"], ["encoder_mask"]),
        ],
        [("audio_signal", "f", ["batch", 128, "time"]), ("length", "i", ["batch"])],
        [
            ("encoder_embeddings", "f", ["batch", "frames", count]),
            ("encoder_mask", "i", ["batch", "frames"]),
        ],
    )
    # What stands before excludes itself, and a language the words of the other one.
    excluded = np.diag(np.full(count, -100, dtype=np.float32))
    excluded[end, end] = 0
    excluded[tokens.index("<|de|>"), : len(english)] = -100
    excluded[tokens.index("<|en|>"), len(english) : end] = -100
    _write(
        folder / "decoder-model.onnx",
        [
            _constant("each", np.eye(count, dtype=np.float32)),
            _constant("excluded", excluded),
            _constant("first", [0]),
            _constant("second", [1]),
            helper.make_node("Gather", ["each", "input_ids"], ["given"]),
            helper.make_node("ReduceSum", ["given", "second"], ["new"]),
            helper.make_node("Unsqueeze", ["new", "first"], ["new_state"]),
            helper.make_node(
                "Concat", ["decoder_mems", "new_state"], ["decoder_hidden_states"], axis=2
            ),
            helper.make_node("Squeeze", ["decoder_hidden_states", "first"], ["state"]),
            helper.make_node("ReduceSum", ["state", "second"], ["before"]),
            helper.make_node("MatMul", ["before", "excluded"], ["against"]),
            helper.make_node("ReduceMax", ["encoder_embeddings"], ["heard"], axes=[1]),
            helper.make_node("Add", ["heard", "against"], ["scores"]),
            helper.make_node("LogSoftmax", ["scores"], ["logits"], axis=-1),
        ],
        [
            ("input_ids", "i", ["batch", "length"]),
            ("encoder_embeddings", "f", ["batch", "frames", count]),
            ("encoder_mask", "i", ["batch", "frames"]),
            ("decoder_mems", "f", [1, "batch", "before", count]),
        ],
        [
            ("logits", "f", ["batch", 1, count]),
            ("decoder_hidden_states", "f", [1, "batch", "after", count]),
        ],
    )
    return Model(str(folder), engine="onnx", device="cpu")


def _helper(folder: Path, model_type: str, bands: int) -> Any:
    from onnx import helper

    folder.mkdir(parents=True, exist_ok=True)
    config = {"model_type": model_type, "features_size": bands, "subsampling_factor": SUBSAMPLING}
    (folder / "config.json").write_text(json.dumps(config))
    tokens = [*(f"\u2581{word}" for word in BANDS[bands]), ".", "<blk>"]
    lines = [f"{token} {number}\n" for number, token in enumerate(tokens)]
    (folder / "vocab.txt").write_text("".join(lines), encoding="utf-8")
    return helper


def _scores(helper: Any, bands: int) -> list[Any]:
    """Every eighth frame of the spectrogram, and from its bands the score of each token."""
    weights = np.hstack([_weights(bands), np.zeros((bands, 2), dtype=np.float32)])
    bias = np.array([0, 0, 0, -100, _GAIN * _HIGH], dtype=np.float32)
    return _frames(helper, weights, bias, "scores")


def _weights(bands: int) -> npt.NDArray[np.float32]:
    """A tone speaks for its own word and against the others."""
    weights = np.zeros((bands, len(BANDS[bands])), dtype=np.float32)
    for band in BANDS[bands].values():
        weights[band] = -0.75 * _GAIN
    for number, band in enumerate(BANDS[bands].values()):
        weights[band, number] = _GAIN
    return weights


def _frames(helper: Any, weights: Any, bias: Any, name: str) -> list[Any]:
    return [
        _constant("weights", weights),
        _constant("bias", bias),
        _constant("starts", [0]),
        _constant("ends", [2**31]),
        _constant("axes", [1]),
        _constant("every", [SUBSAMPLING]),
        helper.make_node("Transpose", ["audio_signal"], ["in_time"], perm=[0, 2, 1]),
        helper.make_node("Slice", ["in_time", "starts", "ends", "axes", "every"], ["some"]),
        helper.make_node("MatMul", ["some", "weights"], ["weighed"]),
        helper.make_node("Add", ["weighed", "bias"], [name]),
    ]


def _constant(name: str, value: Any) -> Any:
    from onnx import helper, numpy_helper

    array = value if isinstance(value, np.ndarray) else np.array(value, dtype=np.int64)
    return helper.make_node("Constant", [], [name], value=numpy_helper.from_array(array, name))


def _write(
    path: Path,
    nodes: Sequence[Any],
    inputs: Sequence[tuple[str, str, list[Any]]],
    outputs: Sequence[tuple[str, str, list[Any]]],
) -> None:
    from onnx import TensorProto, checker, helper, save

    kinds = {"f": TensorProto.FLOAT, "i": TensorProto.INT64}

    def declared(parts: Sequence[tuple[str, str, list[Any]]]) -> list[Any]:
        return [helper.make_tensor_value_info(name, kinds[kind], s) for name, kind, s in parts]

    graph = helper.make_graph(list(nodes), path.stem, declared(inputs), declared(outputs))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    checker.check_model(model)
    save(model, path)

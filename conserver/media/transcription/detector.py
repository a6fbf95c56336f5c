"""Finds speech: the Silero network that faster-whisper carries, computed by numpy.

faster-whisper computes the network with onnxruntime. Importing onnxruntime starts a thread, so it
cannot be loaded before a fork, and it takes 15 MB in each worker. This module computes the network
(four small convolutions and one LSTM) with numpy; all workers share the memory of its weights. If
faster-whisper brings another file than the one known here, faster-whisper computes the network.

Source: https://github.com/snakers4/silero-vad, version 6. The rules for speech are those of
faster_whisper/vad.py, except its limits for the longest and the shortest stretch.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from conserver.media.transcription.audio import SAMPLE_RATE_HZ
from conserver.media.transcription.onnx_weights import float_weights

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Floats = npt.NDArray[np.float32]
    Probabilities = Callable[[Floats], Floats]

KNOWN_SHA256 = "4cbf549b8326f60f80f2536d9eefeb450a9abe83365a098031c89719f1be17d2"
"""The hash of the network's file."""

CHUNK = 512
"""Samples per probability of speech."""

_CONTEXT = 64  # Samples before a chunk that the network gets with the chunk.
_FRAME, _HOP = 256, 128
_BINS = _FRAME // 2 + 1
_STRIDES = (1, 2, 2, 1)
_AT_ONCE = 64  # Chunks. 256 are as fast, and take 4 MB more of a worker for a moment.
_QUIETER = 0.15  # Speech ends at a probability below the threshold minus this.
_LEAST = 0.01


def load() -> None:
    """Read the weights. Call this before a fork, so that all children share their memory."""
    _network()


def speech(
    sound: Floats, *, threshold: float, pause_ms: int, padding_ms: int
) -> list[tuple[int, int]]:
    """The stretches of speech: (first sample, end sample), in order.

    Args:
        sound: from -1 to 1, at 16 kHz.
        threshold: the least probability of speech at which a stretch begins.
        pause_ms: a pause of this length ends a stretch.
        padding_ms: each stretch is widened by this on both sides, as far as there is room.
    """
    stretches = list(_stretches(_network()(sound), len(sound), threshold, _samples(pause_ms)))
    return padded(stretches, len(sound), _samples(padding_ms))


def _samples(length_ms: int) -> int:
    return length_ms * SAMPLE_RATE_HZ // 1000


def _stretches(
    probabilities: Floats, length: int, threshold: float, pause: int
) -> Iterator[tuple[int, int]]:
    quiet = max(threshold - _QUIETER, _LEAST)
    start = end = -1
    for number, probability in enumerate(probabilities.tolist()):
        at = number * CHUNK
        if probability >= threshold:
            start, end = (at if start < 0 else start), -1
        elif probability < quiet and start >= 0:
            end = at if end < 0 else end
            if at - end >= pause:
                yield start, end
                start = end = -1
    if 0 <= start < length:
        yield start, length


def padded(
    stretches: Sequence[tuple[int, int]], length: int, padding: int
) -> list[tuple[int, int]]:
    """Widen each stretch on both sides. If two would meet, each gets half of the pause."""
    found = []
    before = padding
    for number, (start, end) in enumerate(stretches):
        after = padding
        if number + 1 < len(stretches):
            pause = stretches[number + 1][0] - end
            after = padding if pause >= 2 * padding else pause // 2
        found.append((max(0, start - before), min(length, end + after)))
        before = after
    return found


@functools.cache
def _network() -> Probabilities:
    from faster_whisper.utils import get_assets_path

    return network_in(Path(get_assets_path()))


def network_in(folder: Path) -> Probabilities:
    """The network of the file in the folder; `by_onnxruntime` if its hash is not KNOWN_SHA256."""
    for path in sorted(folder.glob("silero_vad*.onnx")):
        model = path.read_bytes()
        if hashlib.sha256(model).hexdigest() == KNOWN_SHA256:
            return Network(float_weights(model))
    return by_onnxruntime


def by_onnxruntime(sound: Floats) -> Floats:
    """The probabilities of speech, computed by faster-whisper with its own file."""
    import numpy as np
    from faster_whisper.vad import get_vad_model

    found = get_vad_model()(np.pad(sound, (0, CHUNK - len(sound) % CHUNK)))
    return np.asarray(found, dtype=np.float32).reshape(-1)


class Network:
    """The network with its weights. Safe to use from several threads."""

    def __init__(self, weights: dict[str, Floats]) -> None:
        """
        Args:
            weights: by their names in the file.
        """
        self._basis = weights["encoder.feature_extractor.forward_basis_buffer"][:, 0].T
        self._layers = [
            # The weights (out, in, 3) as one matrix for three adjacent frames.
            (
                weights[f"encoder.conv_layers.{number}.weight"].transpose(2, 1, 0).reshape(-1, out),
                weights[f"encoder.conv_layers.{number}.bias"],
                stride,
            )
            for number, stride in enumerate(_STRIDES)
            for out in [len(weights[f"encoder.conv_layers.{number}.bias"])]
        ]
        self._from_input = weights["onnx::LSTM_209"][0].T
        self._from_state = weights["onnx::LSTM_210"][0]
        self._offsets = weights["onnx::LSTM_211"][0].reshape(2, -1).sum(axis=0)
        self._output = weights["decoder.conv1d.weight"][0, :, 0]
        self._bias = weights["decoder.conv1d.bias"][0]

    def __call__(self, sound: Floats) -> Floats:
        """The probability of speech in each chunk. Silence pads the last chunk."""
        import numpy as np

        count = len(sound) // CHUNK + 1
        heard = np.zeros(_CONTEXT + count * CHUNK, dtype=np.float32)
        heard[_CONTEXT : _CONTEXT + len(sound)] = sound
        found = np.empty(count, dtype=np.float32)
        hidden = cell = np.zeros(len(self._output), dtype=np.float32)
        for first in range(0, count, _AT_ONCE):
            last = min(first + _AT_ONCE, count)
            part = heard[first * CHUNK : last * CHUNK + _CONTEXT]
            chunks = np.lib.stride_tricks.sliding_window_view(part, _CONTEXT + CHUNK)[::CHUNK]
            given = self._encoded(chunks) @ self._from_input + self._offsets
            for number, gates in enumerate(given, first):
                hidden, cell = self._step(gates, hidden, cell)
                found[number] = np.maximum(hidden, 0) @ self._output
        return _sigmoid(found + self._bias)

    def _encoded(self, chunks: Floats) -> Floats:
        """The encoder's output for chunks with their contexts: (chunks, 128)."""
        import numpy as np

        mirrored = np.pad(chunks, ((0, 0), (0, _CONTEXT)), mode="reflect")
        frames = np.lib.stride_tricks.sliding_window_view(mirrored, _FRAME, axis=1)[:, ::_HOP]
        waves = frames @ self._basis
        values = np.hypot(waves[..., :_BINS], waves[..., _BINS:])
        for weight, bias, stride in self._layers:
            wide = np.pad(values, ((0, 0), (1, 1), (0, 0)))
            taps = [wide[:, tap : tap + values.shape[1] : stride] for tap in range(3)]
            values = np.maximum(np.concatenate(taps, axis=2) @ weight + bias, 0)
        encoded: Floats = values[:, 0]
        return encoded

    def _step(self, gates: Floats, hidden: Floats, cell: Floats) -> tuple[Floats, Floats]:
        """One step of the LSTM: its next hidden state and cell."""
        import numpy as np

        gates = gates + self._from_state @ hidden
        size = len(cell)
        opened = _sigmoid(gates[: 3 * size])  # Input, output, forget: ONNX' order.
        cell = opened[2 * size :] * cell + opened[:size] * np.tanh(gates[3 * size :])
        return opened[size : 2 * size] * np.tanh(cell), cell


def _sigmoid(values: Floats) -> Floats:
    import numpy as np

    opened: Floats = 0.5 + 0.5 * np.tanh(0.5 * values)
    return opened

"""Makes the input of a model from a window, and passes it in shared memory.

The worker makes it. process.packets sends the descriptor of the memory to the transcriber.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from conserver.media.speech.windows import SAMPLES_PER_FRAME, ModelInfo

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Mel = npt.NDArray[np.float16]
    Sound = npt.NDArray[np.int16]

_SOUND_SAMPLES_MIN = 400  # The samples of one frame.


class SharedMel:
    """A spectrogram, or samples, in shared memory. The system frees the memory when every process
    has closed it.
    """

    def __init__(self, descriptor: int) -> None:
        """descriptor: of the memory; `close` closes it."""
        self.descriptor = descriptor

    @classmethod
    def of(cls, mel: Mel | Sound) -> SharedMel:
        """Copy a spectrogram, or samples, to new shared memory."""
        shared = cls(os.memfd_create("conserver-window", os.MFD_CLOEXEC))
        data = memoryview(mel.tobytes())
        while data:
            data = data[os.write(shared.descriptor, data) :]
        return shared

    def read_into(self, target: Mel | Sound) -> None:
        """Copy the content into a contiguous array of the same shape."""
        view = memoryview(target.data).cast("B")
        offset = 0
        while offset < len(view):
            count = os.preadv(self.descriptor, [view[offset:]], offset)
            if not count:
                raise ValueError(f"a window of {offset} bytes where {len(view)} were announced")
            offset += count

    def close(self) -> None:
        """Close the descriptor. Closing twice is harmless."""
        if self.descriptor >= 0:
            with contextlib.suppress(OSError):
                os.close(self.descriptor)
            self.descriptor = -1


def shared_window(sound: npt.NDArray[np.float32], info: ModelInfo) -> tuple[SharedMel, int]:
    """The model's input for a sound, in shared memory, and its number of frames."""
    if info.bands:
        mel = spectrogram(sound, info.bands, info.frames)
        return SharedMel.of(mel), int(mel.shape[1])
    samples = whole_frames(sound)
    return SharedMel.of(samples), len(samples) // SAMPLES_PER_FRAME


def whole_frames(sound: npt.NDArray[np.float32]) -> Sound:
    """The samples as int16. Silence fills the last frame."""
    import numpy as np

    samples = np.zeros(-(-len(sound) // SAMPLES_PER_FRAME) * SAMPLES_PER_FRAME, dtype=np.int16)
    samples[: len(sound)] = np.clip(np.rint(sound * 32768), -32768, 32767)
    return samples


def spectrogram(sound: npt.NDArray[np.float32], bands: int, frames_max: int) -> Mel:
    """The log-mel spectrogram of a sound, of at most `frames_max` frames, as float16."""
    import numpy as np

    frames = min(frames_max, -(-len(sound) // SAMPLES_PER_FRAME))
    if len(sound) < _SOUND_SAMPLES_MIN:
        sound = np.pad(sound, (0, _SOUND_SAMPLES_MIN - len(sound)))
    mel = _extractor(bands)(sound)[:, :frames]
    return np.ascontiguousarray(mel, dtype=np.float16)


@lru_cache(maxsize=4)
def _extractor(bands: int) -> Callable[[npt.NDArray[np.float32]], Any]:
    from faster_whisper.feature_extractor import FeatureExtractor

    extractor: Callable[[npt.NDArray[np.float32]], Any] = FeatureExtractor(feature_size=bands)
    return extractor

"""Spectrograms on their way to a transcriber, in shared memory; process.packets carries them."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Mel = npt.NDArray[np.float16]


class SharedMel:
    """A spectrogram in shared memory. Its memory is free when every process has closed it."""

    def __init__(self, descriptor: int) -> None:
        """Takes over the descriptor."""
        self.descriptor = descriptor

    @classmethod
    def of(cls, mel: Mel) -> SharedMel:
        """A spectrogram, copied there."""
        shared = cls(os.memfd_create("conserver-window", os.MFD_CLOEXEC))
        data = memoryview(mel.tobytes())
        while data:
            data = data[os.write(shared.descriptor, data) :]
        return shared

    def read_into(self, target: Mel) -> None:
        """Copy it into an array of its shape, which is contiguous."""
        view = memoryview(target.data).cast("B")
        offset = 0
        while offset < len(view):
            count = os.preadv(self.descriptor, [view[offset:]], offset)
            if not count:
                raise ValueError(f"a window of {offset} bytes where {len(view)} were announced")
            offset += count

    def close(self) -> None:
        """Give it back; closing twice is harmless."""
        if self.descriptor >= 0:
            with contextlib.suppress(OSError):
                os.close(self.descriptor)
            self.descriptor = -1

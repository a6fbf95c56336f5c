"""The decoded sound of a recording: a short one in memory, a longer one in an unnamed file.

An hour of stereo has 230 MB. Speech engines use at most a minute of it at once, so the sound of a
long call stays in a file. `Samples` is the interface of a channel; a numpy array has it, too.
"""

from __future__ import annotations

import os
import tempfile
import weakref
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Block = npt.NDArray[np.int16]

MEMORY_BYTES_MAX = 16 << 20
"""A larger decoded recording goes to a file. The limit is four minutes of stereo."""

_BYTES = 2  # of a sample


class Samples(Protocol):
    """One channel: int16 at 16 kHz."""

    def __len__(self) -> int:
        """How many samples it has."""

    def __getitem__(self, part: slice, /) -> Block:
        """Some of the samples, at most a few minutes."""


class Writer:
    """Takes interleaved samples as they are decoded."""

    def __init__(self, channel_count: int, memory_bytes_max: int = MEMORY_BYTES_MAX) -> None:
        self._channel_count = channel_count
        self._memory_bytes_max = memory_bytes_max
        self._memory = bytearray()
        self._file: _File | None = None
        self.bytes = 0

    def write(self, data: bytes) -> None:
        """Add whole frames. Raises OSError: there is no disk space for the file."""
        self._memory += data
        self.bytes += len(data)
        if len(self._memory) > self._memory_bytes_max:
            self._flush()

    def channels(self) -> tuple[Samples, ...]:
        """The channels of the written sound. Afterwards nothing more can be written. Raises
        OSError.
        """
        import numpy as np

        if self._file is None:
            mixed = np.frombuffer(self._memory, np.int16).reshape(-1, self._channel_count)
            return tuple(mixed[:, index] for index in range(self._channel_count))
        self._flush()
        frames = self.bytes // (_BYTES * self._channel_count)
        return tuple(
            _FileChannel(self._file, index, self._channel_count, frames)
            for index in range(self._channel_count)
        )

    def _flush(self) -> None:
        if self._file is None:
            self._file = _File()
        self._file.append(self._memory)
        self._memory = bytearray()


def silence(samples: Samples, start: int, end: int) -> None:
    """Replace a stretch of a channel by silence. samples: from a Writer. Raises OSError."""
    if isinstance(samples, _FileChannel):
        samples.silence(start, end)
    else:
        samples[start:end] = 0  # type: ignore[index]


class _File:
    """A file in TMPDIR without a name. The system removes it when its last channel is closed."""

    def __init__(self) -> None:
        with tempfile.TemporaryFile() as file:
            self.descriptor = os.dup(file.fileno())
        weakref.finalize(self, os.close, self.descriptor)
        self._end = 0

    def append(self, data: bytearray) -> None:
        self.write(data, self._end)
        self._end += len(data)

    def write(self, data: bytes | bytearray | memoryview, at: int) -> None:
        view = memoryview(data)
        while view:
            count = os.pwrite(self.descriptor, view, at)
            view, at = view[count:], at + count

    def read(self, count: int, at: int) -> bytearray:
        found = bytearray(count)
        view, done = memoryview(found), 0
        while done < count:
            got = os.preadv(self.descriptor, [view[done:]], at + done)
            if not got:
                raise OSError("the file of the decoded sound was cut off")
            done += got
        return found


class _FileChannel:
    """One channel of a file with interleaved samples."""

    def __init__(self, file: _File, index: int, channel_count: int, frames: int) -> None:
        self._file = file
        self._index = index
        self._channel_count = channel_count
        self._frames = frames

    def __len__(self) -> int:
        return self._frames

    def __getitem__(self, part: slice) -> Block:
        start, end = self._bounds(part)
        block: Block = self._mixed(start, end)[:, self._index].copy()
        return block

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        """The whole channel as an array."""
        return self[:].astype(dtype or "int16", copy=False)

    def silence(self, start: int, end: int) -> None:
        """Overwrite a stretch with zeros."""
        mixed = self._mixed(start, end)
        mixed[:, self._index] = 0
        self._file.write(mixed.data.cast("B"), start * self._width)

    @property
    def _width(self) -> int:
        return _BYTES * self._channel_count

    def _bounds(self, part: slice) -> tuple[int, int]:
        start, end, step = part.indices(self._frames)
        if step != 1:
            raise ValueError("a channel is read in one direction, sample by sample")
        return start, max(start, end)

    def _mixed(self, start: int, end: int) -> Block:
        import numpy as np

        data = self._file.read((end - start) * self._width, start * self._width)
        return np.frombuffer(data, np.int16).reshape(-1, self._channel_count)

"""Loads models in a worker itself, once per process, and lets one call at a time use a model.

Transcribers (conserver.media.speech) do not use this module: their lanes use a model in parallel.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

from conserver.errors import Retry
from conserver.media.transcription.engine import Model

_OUT_OF_MEMORY = (
    "out of memory",
    "alloc_failed",
    "bad_alloc",
    "bad allocation",
    "get_temporary_buffer",
    "allocate memory",  # onnxruntime
    "cublas_status_not_initialized",  # A handle is created while memory is full.
)
_CPU_THREADS_MAX = 4  # More threads make one call hardly faster.
_RETRY_MEMORY_S = 30.0
_PULSE_S = 1.0

Loaded = TypeVar("Loaded")


class OnePerProcess(Generic[Loaded]):
    """The loaded models of one engine. A model is loaded at its first use, and shared by threads.

    Do not load a model before a fork: neither CTranslate2's nor onnxruntime's objects survive it.
    """

    def __init__(self, load: Callable[[Model], Loaded]) -> None:
        """
        Args:
            load: loads a model. Its exceptions reach the caller of `get`; the next call of `get`
                tries again.
        """
        self._load = load
        self._loaded: dict[tuple[int, Model], Loaded] = {}
        self._loading = threading.Lock()

    def get(self, model: Model) -> Loaded:
        """The loaded model of this process. The first call loads it."""
        # With the process id in the key, a child neither uses nor frees its parent's objects.
        key = (os.getpid(), model)
        with self._loading:
            if key not in self._loaded:
                self._loaded[key] = self._load(model)
            return self._loaded[key]


class Turns:
    """A lock for a model, so that one call at a time computes with it."""

    def __init__(self) -> None:
        self._turn = threading.Lock()

    @contextmanager
    def hold(self, pulse: Callable[[], None]) -> Iterator[None]:
        """Wait for a turn, and hold it within the `with` block.

        Args:
            pulse: called once at the beginning, and about once a second while waiting.

        Raises:
            Retry: memory was full while computing; it may be free later.
        """
        pulse()
        while not self._turn.acquire(timeout=_PULSE_S):
            pulse()
        try:
            yield
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            # Python's own MemoryError has no text.
            text = ": ".join(filter(None, ("out of memory while transcribing", str(error))))
            raise Retry(_RETRY_MEMORY_S, text) from error
        finally:
            self._turn.release()


def cpu_threads(model: Model) -> int:
    """The number of CPU threads of a model in a worker."""
    return model.cpu_threads or min(_CPU_THREADS_MAX, len(os.sched_getaffinity(0)))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether CTranslate2, cuBLAS, Thrust, onnxruntime or Python ran out of memory.

    A transcriber goes on after these errors; after any other error of the library it ends.
    """
    text = str(error).lower()
    return isinstance(error, MemoryError) or any(sign in text for sign in _OUT_OF_MEMORY)

"""The models that one device holds.

Equal models are loaded once. Different models share the device by turns, batch by batch. If their
weights exceed the configured memory, the least recently used model is dropped. A model that does
not fit in one precision is loaded in the next smaller one, and finally on the CPU, if that is
allowed. It keeps this form.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from conserver.errors import Retry
from conserver.media.speech.onnx import OnnxBatches
from conserver.media.speech.whisper import WhisperBatches
from conserver.media.speech.windows import ModelInfo
from conserver.media.transcription import onnx_models
from conserver.media.transcription.engine import Model
from conserver.media.transcription.models import ModelMissingError, find_model
from conserver.telemetry import log

_SMALLER = "int8_float16"

Batches = WhisperBatches | OnnxBatches
"""A loaded model of either engine."""


class MakeModel(Protocol):
    """A function that loads a model; see `WhisperBatches`."""

    def __call__(self, model: Model, *, workers: int, threads: int, ahead: int) -> Batches:
        """Raises Retry if it cannot be loaded now."""


def load_batches(model: Model, *, workers: int, threads: int, ahead: int) -> Batches:
    """Load a model with its engine."""
    make = OnnxBatches if model.engine == "onnx" else WhisperBatches
    return make(model, workers=workers, threads=threads, ahead=ahead)


class Models:
    """Loads models at their first use. Safe to use from several threads."""

    def __init__(
        self,
        *,
        workers: int,
        threads: int,
        ahead: int,
        memory_bytes: int = 0,
        allow_cpu: bool = False,
        make: MakeModel = load_batches,
    ) -> None:
        """
        Args:
            workers, threads, ahead: as for `WhisperBatches`.
            memory_bytes: the limit for the weights of all models; 0 means none. A single model is
                held even if it is larger.
            allow_cpu: whether a model that does not fit on the GPU may be loaded on the CPU.
            make: loads a model.
        """
        self._workers = workers
        self._threads = threads
        self._ahead = ahead
        self._memory_bytes = memory_bytes
        self._allow_cpu = allow_cpu
        self._make = make
        self._lock = threading.Lock()
        self._loaded: dict[Model, Batches] = {}  # The most recently used one is last.
        self._used: dict[Model, int] = {}
        self._instead: dict[Model, Model] = {}
        self._log = log.get_logger()

    @contextmanager
    def using(self, model: Model) -> Iterator[Batches]:
        """The model, loaded. It is not dropped within the `with` block.

        Raises:
            Retry: it cannot be loaded now.
        """
        with self._lock:
            loaded = self._loaded.pop(model, None) or self._load(model)
            self._loaded[model] = loaded
            self._used[model] = self._used.get(model, 0) + 1
        try:
            yield loaded
        finally:
            with self._lock:
                self._used[model] -= 1

    def info(self, model: Model) -> ModelInfo | None:
        """The data of a loaded model that clients get; None if it is not loaded."""
        loaded = self._loaded.get(model)
        return loaded.info if loaded else None

    def step_down(self, model: Model, seen: Batches) -> bool:
        """Load the model in its next smaller form from now on.

        Args:
            seen: the loaded model that ran out of memory. If another thread has replaced it
                already, nothing is done.

        Returns:
            False if there is no smaller form.
        """
        with self._lock:
            if self._loaded.get(model) is not seen:
                return True
            identity = seen.info.identity
            now = self._instead.get(model, model)
            has_smaller = now.engine == "whisper" and identity.compute_type != _SMALLER
            if identity.device == "cuda" and has_smaller:
                smaller = replace(now, compute_type=_SMALLER)
            elif identity.device == "cuda" and self._allow_cpu:
                smaller = replace(now, device="cpu", compute_type="auto")
            else:
                return False
            self._log.warning(
                "model_stepped_down",
                model=model.name,
                device=smaller.device,
                compute_type=smaller.compute_type,
                reason="it had no room for a single window",
            )
            self._instead[model] = smaller
            del self._loaded[model]
            return True

    def _load(self, model: Model) -> Batches:
        wanted = self._instead.get(model, model)
        self._make_room(model)
        loaded = self._make(wanted, workers=self._workers, threads=self._threads, ahead=self._ahead)
        identity = loaded.info.identity
        self._log.info(
            "model_loaded",
            model=model.name,
            device=identity.device,
            compute_type=identity.compute_type,
            word_times=loaded.info.aligns,
        )
        return loaded

    def _make_room(self, model: Model) -> None:
        if not self._memory_bytes:
            return
        held = {one: size_bytes(one) for one in self._loaded}
        needed = size_bytes(model)
        for one in list(self._loaded):
            if sum(held.values()) + needed <= self._memory_bytes:
                return
            if not self._used.get(one):
                self._log.info("model_dropped", model=one.name, reason="another one needs its room")
                del self._loaded[one], held[one]


def size_bytes(model: Model) -> int:
    """The size of a model's weights on disk; 0 if they are not there."""
    try:
        if model.engine == "onnx":
            return onnx_models.find(model).size_bytes
        return Path(find_model(model), "model.bin").stat().st_size
    except (OSError, Retry, ModelMissingError):
        return 0

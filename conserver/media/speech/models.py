"""The models that one device holds.

Equal models are loaded once. Different ones share the device by turns, batch by batch; where they
would need more than the memory granted, the one that was used longest ago goes first. A model that
does not fit in one precision is loaded again in the next smaller one, at last on the CPU if that is
allowed, and stays so.
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
    """What loads a model; see `WhisperBatches`."""

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
            memory_bytes: how much the weights of all models may have together; 0 is no limit. One
                model is held whatever it has.
            allow_cpu: whether a model that the GPU has no room for may be moved to the CPU.
            make: loads a model.
        """
        self._workers = workers
        self._threads = threads
        self._ahead = ahead
        self._memory_bytes = memory_bytes
        self._allow_cpu = allow_cpu
        self._make = make
        self._lock = threading.Lock()
        self._loaded: dict[Model, Batches] = {}  # The one used last is last.
        self._used: dict[Model, int] = {}
        self._instead: dict[Model, Model] = {}
        self._log = log.get_logger()

    @contextmanager
    def using(self, model: Model) -> Iterator[Batches]:
        """The model, loaded; it is not dropped meanwhile.

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
        """What is told of a model that is loaded; None if it is not."""
        loaded = self._loaded.get(model)
        return loaded.info if loaded else None

    def step_down(self, model: Model, seen: Batches) -> bool:
        """Load it in a smaller form from now on.

        Args:
            seen: what ran out of memory; nothing is done if another thread has replaced it.

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

"""Chooses the engine for the links of this worker: the host's transcribers, or a model in it."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from conserver.media.speech import onnx_inside
from conserver.media.speech.client import SharedTranscriber
from conserver.media.transcription import whisper
from conserver.media.transcription.engine import Model, Transcriber


class Engines:
    """Makes one engine per model."""

    def __init__(self) -> None:
        self._addresses: tuple[str, ...] = ()
        self._shared: dict[Model, SharedTranscriber] = {}
        self._lock = threading.Lock()

    def use_transcribers(self, addresses: Sequence[str]) -> None:
        """Use these transcribers. If there are none, every model is loaded in this process."""
        with self._lock:
            self._addresses = tuple(addresses)
            self._shared.clear()

    def open(self, model: Model) -> Transcriber:
        """The engine for a model; an `engine.OpenTranscriber`."""
        with self._lock:
            if self._addresses:
                if model not in self._shared:
                    self._shared[model] = SharedTranscriber(self._addresses, model)
                return self._shared[model]
        if model.engine == "onnx":
            return onnx_inside.shared(model)
        return whisper.shared(model)


engines = Engines()
"""The engines of this process. The worker's main loop calls `use_transcribers`."""

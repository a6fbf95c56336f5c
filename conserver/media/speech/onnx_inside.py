"""The engine that runs onnx-asr in the worker itself, for hosts without transcribers.

It computes the same windows and batches as a transcriber, in the thread of the link, one call at a
time.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from conserver.errors import Retry
from conserver.media.speech import packing
from conserver.media.speech.assembly import segments_by_channel
from conserver.media.speech.onnx import WINDOW_S, OnnxBatches
from conserver.media.speech.packing import Plan, speech_s
from conserver.media.speech.planning import Planning
from conserver.media.speech.windows import Answer, WindowOptions
from conserver.media.speech.wire import whole_frames
from conserver.media.transcription.audio import SAMPLE_RATE_HZ
from conserver.media.transcription.engine import CallHeard, Following, Heard, Listening, Model
from conserver.media.transcription.whisper import is_out_of_memory

if TYPE_CHECKING:
    from conserver.media.transcription.samples import Samples

_ROWS = 4
_THREADS_MAX = 4
_PULSE_S = 1.0
_RETRY_MEMORY_S = 30.0

_loaded: dict[tuple[int, Model], OnnxTranscriber] = {}
_loading = threading.Lock()


def shared(model: Model) -> OnnxTranscriber:
    """The process's transcriber of this model; the first call loads it.

    Raises:
        Retry: it cannot be loaded now.
    """
    key = (os.getpid(), model)  # With the process id, a child does not use its parent's model.
    with _loading:
        if key not in _loaded:
            threads = model.cpu_threads or min(_THREADS_MAX, len(os.sched_getaffinity(0)))
            batches = OnnxBatches(model, workers=1, threads=threads, ahead=_ROWS)
            _loaded[key] = OnnxTranscriber(batches)
        return _loaded[key]


class OnnxTranscriber:
    """A loaded model; implements `engine.Transcriber`."""

    def __init__(self, batches: OnnxBatches) -> None:
        self._batches = batches
        self._turn = threading.Lock()

    def transcribe(
        self, channels: Sequence[Samples], listening: Listening, following: Following
    ) -> CallHeard:
        """Transcribe a call, a few windows at a time."""
        info = self._batches.info
        options, told = WindowOptions.of(listening).suited(info)
        coming = packing.plans(
            channels, listening, WINDOW_S * SAMPLE_RATE_HZ, following.pulse, together=False
        )
        planning = Planning(channels, coming)
        answers: dict[int, Answer] = {}
        done_s = 0.0
        while True:
            planning.find(len(answers) + _ROWS)
            plans = planning.known[len(answers) :]
            if not plans:
                break
            for answer in self._heard(plans, channels, options, following.pulse):
                answers[len(answers)] = answer
            done_s += sum(map(speech_s, plans))
            following.progress(done_s, planning.total_s())
        found = segments_by_channel(planning.known, answers, len(channels))
        language = options.language or None
        warnings = (*told, *info.warnings)
        heard = [
            Heard(
                tuple(segments),
                language if segments or listening.language else None,
                1.0 if language and segments else 0.0,
                warnings,
            )
            for segments in found
        ]
        return CallHeard(info.identity, tuple(heard))

    def _heard(
        self,
        plans: Sequence[Plan],
        channels: Sequence[Samples],
        options: WindowOptions,
        pulse: Callable[[], None],
    ) -> list[Answer]:
        with packing.computing:
            sounds = [whole_frames(packing.sound_of(plan, channels)) for plan in plans]
        with self._taking_turns(pulse):
            try:
                languages = [options.language or ""] * len(sounds)
                return self._batches.hear(sounds, languages, words=options.words)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                reason = f"out of memory while transcribing: {error}"
                raise Retry(_RETRY_MEMORY_S, reason) from error

    @contextmanager
    def _taking_turns(self, pulse: Callable[[], None]) -> Iterator[None]:
        pulse()
        while not self._turn.acquire(timeout=_PULSE_S):
            pulse()
        try:
            yield
        finally:
            self._turn.release()

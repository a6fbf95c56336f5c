"""The engine that runs onnx-asr in the worker itself, for hosts without transcribers.

It computes the same windows and batches as a transcriber, in the thread of the link, one call at a
time. The state that it keeps of a long call has the same form, so either goes on with the other's.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from itertools import islice
from typing import TYPE_CHECKING

from conserver.media.speech import packing
from conserver.media.speech.answered import Answered
from conserver.media.speech.client import KEEP_EVERY_S
from conserver.media.speech.onnx import WINDOW_S, OnnxBatches
from conserver.media.speech.packing import Plan
from conserver.media.speech.planning import Planning
from conserver.media.speech.windows import Answer, WindowOptions
from conserver.media.speech.wire import whole_frames
from conserver.media.transcription.audio import SAMPLE_RATE_HZ
from conserver.media.transcription.engine import CallHeard, Following, Heard, Listening, Model
from conserver.media.transcription.in_process import OnePerProcess, Turns, cpu_threads

if TYPE_CHECKING:
    from conserver.media.transcription.samples import Samples

_ROWS = 4


class OnnxTranscriber:
    """A loaded model; implements `engine.Transcriber`."""

    def __init__(self, batches: OnnxBatches, keep_every_s: float = KEEP_EVERY_S) -> None:
        """keep_every_s: the interval at which the results so far of a call are kept."""
        self._batches = batches
        self._keep_every_s = keep_every_s
        self._turns = Turns()

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
        answered = Answered(planning, len(channels))
        how = options.dump(), info.identity.model
        if following.kept:
            planning.find()
            if following.kept.get("digest") == planning.digest(*how):
                answered.load(following.kept["answers"])
        kept_at_s = time.monotonic()
        while True:
            planning.find(len(planning.known) + _ROWS)
            numbers = list(islice(answered.missing, _ROWS))
            if not numbers:
                break
            plans = [answered.plan(number) for number in numbers]
            answers = self._heard(plans, channels, options, following.pulse)
            for number, answer in zip(numbers, answers, strict=True):
                answered.take(number, answer)
            following.progress(answered.done_s, planning.total_s())
            if answered.complete:
                continue
            if following.heard:
                following.heard(answered.segments(), answered.until_s)
            if following.keep and time.monotonic() - kept_at_s >= self._keep_every_s:
                planning.find()
                following.keep({"digest": planning.digest(*how), "answers": answered.dump()})
                kept_at_s = time.monotonic()
        language = options.language or None
        warnings = (*told, *info.warnings)
        heard = [
            Heard(
                tuple(segments),
                language if segments or listening.language else None,
                1.0 if language and segments else 0.0,
                warnings,
            )
            for segments in answered.segments()
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
        languages = [options.language or ""] * len(sounds)
        with self._turns.hold(pulse):
            return self._batches.hear(sounds, languages, words=options.words)


def _load(model: Model) -> OnnxTranscriber:
    return OnnxTranscriber(OnnxBatches(model, workers=1, threads=cpu_threads(model), ahead=_ROWS))


shared = OnePerProcess(_load).get
"""The process's transcriber of a model; raises Retry while it cannot be loaded."""

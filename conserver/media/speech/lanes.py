"""The lanes: threads of the transcriber that take batches, compute them, and report the results.

1. Only lanes call CTranslate2 or onnxruntime.
2. If memory is full, batches have half as many rows (windows) from then on. If a single row does
   not fit, the model is loaded in its next smaller form. Any other error of the library ends the
   process, because results after an error of the device cannot be trusted. Workers then send the
   windows again.
3. The canary: every 500 batches, and after memory was full, a lane computes a fixed input. If its
   tokens differ from those of the first time, the process ends.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from conserver.errors import EXIT_CHILD, EXIT_INSANE, Retry
from conserver.media.speech.batching import Batcher
from conserver.media.speech.meters import SpeechMeters
from conserver.media.speech.models import Batches, Models
from conserver.media.speech.onnx import OnnxBatches
from conserver.media.speech.whisper import Candidate, WhisperBatches, best
from conserver.media.speech.windows import SAMPLES_PER_FRAME, Answer, ModelInfo, WindowOptions
from conserver.media.speech.wire import SharedMel
from conserver.media.transcription.engine import Model
from conserver.media.transcription.in_process import is_out_of_memory
from conserver.process import failpoints
from conserver.telemetry import log
from conserver.telemetry.traces import TRACES

if TYPE_CHECKING:
    from conserver.media.speech.whisper import Encoded

CANARY_BATCHES = 500
_RETRY_MEMORY_S = 30.0

Languages = list[tuple[str, float]]


@dataclass(eq=False)
class Job:
    """A window to compute, or, if `options` is None, a model to load."""

    call: Hashable
    number: int
    model: Model
    options: WindowOptions | None = None
    mel: SharedMel | None = None
    frames: int = 0
    suspicion: int = 0
    crowd: int = 1
    trace: str = ""
    """The span of the link that waits for the job, as a W3C traceparent; "" if traces are off."""
    encoded: Encoded | None = None
    tried: list[Candidate] = field(default_factory=list)
    waits_since_s: float = 0.0
    """When it was put into the queue, by time.monotonic()."""

    @property
    def temperature(self) -> float:
        """The temperature of the next try."""
        assert self.options is not None
        return self.options.temperatures[len(self.tried)]

    @property
    def key(self) -> Hashable:
        """Jobs with equal keys may be computed in one batch; languages may differ."""
        how = self.options
        if how is None:
            return (self.model,)
        if how.language is None:
            return (self.model, how.each_language)
        return (
            self.model, self.temperature, how.beam_size, how.translate, how.words, how.prompt,
            how.hotwords,
        )  # fmt: skip

    def close(self) -> None:
        """Free the window's shared memory."""
        self.encoded = None
        if self.mel is not None:
            self.mel.close()


@dataclass(frozen=True, slots=True)
class Failed:
    """Why a job cannot be computed now, and when it may be tried again."""

    reason: str
    retry_s: float


Outcome = Answer | Languages | ModelInfo | Failed


class Lanes:
    """All lanes of a transcriber, and the jobs that wait for them."""

    def __init__(
        self,
        models: Models,
        batcher: Batcher[Job],
        count: int,
        tell: Callable[[str, Sequence[Job]], None],
        wake: Callable[[], None],
        meters: SpeechMeters | None = None,
    ) -> None:
        """
        Args:
            models: the models of the device.
            batcher: has the waiting jobs.
            count: the number of lanes.
            tell: called in a lane's thread with "started" and the rows of a batch before it
                begins, and with "resting" and those of its rows that have to wait again.
            wake: called in a lane's thread when it has added to `finished`.
            meters: count the computed rows.
        """
        self._meters = meters
        self.finished: deque[tuple[Job, Outcome]] = deque()
        """The results of jobs, the oldest first. The service's thread takes them from the left."""
        self.rows = 0
        """Rows computed since the start."""
        self.longest_s = 0.0
        """The duration of the longest batch."""
        self._models = models
        self._batcher = batcher
        self._tell = tell
        self._wake = wake
        self._changed = threading.Condition()
        self._began_s: dict[int, float] = {}
        self._batches = 0
        self._sing = False
        self._log = log.get_logger()
        self._threads = [
            threading.Thread(target=self._run, args=(number,), name=f"lane-{number}", daemon=True)
            for number in range(count)
        ]

    def start(self) -> None:
        """Start the threads; they end with the process."""
        for thread in self._threads:
            thread.start()

    def put(self, job: Job) -> None:
        """Add a job, which waits for a lane."""
        job.waits_since_s = time.monotonic()
        with self._changed:
            self._batcher.put(job, job.waits_since_s)
            self._changed.notify()

    def drop(self, call: Hashable) -> None:
        """Remove the waiting jobs of a call. Its jobs in a running batch are still computed."""
        with self._changed:
            gone = [job for job in self._batcher if job.call is call]
            self._batcher.drop(call)
        for job in gone:
            job.close()

    @property
    def waiting(self) -> int:
        """How many rows wait."""
        return len(self._batcher)

    def at_work_s(self, now_s: float) -> float:
        """For how long the oldest running batch has been computed; 0 if none runs."""
        began_s = min(list(self._began_s.values()), default=now_s)
        return now_s - began_s

    def _run(self, lane: int) -> None:
        try:
            while True:
                number, jobs = self._take()
                self._began_s[lane] = began_s = time.monotonic()
                self._tell("started", jobs)
                if jobs[0].options is not None:
                    failpoints.at("batch")
                with _span_of(jobs):
                    waited_s = began_s - min(job.waits_since_s for job in jobs)
                self._compute(jobs)
                if jobs[0].options is not None:
                    took_s = time.monotonic() - began_s
                    self.longest_s = max(self.longest_s, took_s)
                    if self._meters is not None:
                        self._meters.batch(len(jobs), took_s, waited_s)
                del self._began_s[lane]
                with self._changed:
                    self._batcher.finish(number)
                    self._changed.notify_all()
                self._wake()
        except BaseException:  # noqa: BLE001 - any error ends this process
            self._log.exception("batch_failed", what="the transcriber ends; windows are sent again")
            os._exit(EXIT_CHILD)

    def _take(self) -> tuple[int, list[Job]]:
        with self._changed:
            while True:
                now_s = time.monotonic()
                taken = self._batcher.take(len(self._threads), now_s)
                if taken is not None:
                    return taken
                self._changed.wait(self._batcher.due_in_s(now_s) or None)

    def _compute(self, jobs: list[Job]) -> None:
        try:
            with self._models.using(jobs[0].model) as model:
                try:
                    self._check(model)
                    self._step(model, jobs)
                except (RuntimeError, MemoryError) as error:
                    if not is_out_of_memory(error):
                        raise
                    self._shrink(model, jobs, error)
        except Retry as error:
            for job in jobs:
                self._finish(job, Failed(str(error), error.after_s or _RETRY_MEMORY_S))

    def _step(self, model: Batches, jobs: list[Job]) -> None:
        """Compute the next step of each job. All jobs of a batch are at the same step."""
        how = jobs[0].options
        if how is None:
            for job in jobs:
                self._finish(job, model.info)
            return
        if isinstance(model, OnnxBatches):
            self._hear(model, jobs, how)
            return
        self._encode(model, jobs)
        encoded = [job.encoded for job in jobs if job.encoded is not None]
        self.rows += len(jobs)
        if how.language is None:
            for job, found in zip(jobs, model.languages(encoded), strict=True):
                assert job.options is not None
                if job.options.each_language:
                    job.options = job.options.speaking(found[0][0])
                    self._put_again(job)
                else:
                    self._finish(job, found)
            return
        self._decode(model, jobs, encoded, how)

    def _hear(self, model: OnnxBatches, jobs: list[Job], how: WindowOptions) -> None:
        """Compute the jobs with onnx-asr, in one step."""
        import numpy as np

        sounds = []
        for job in jobs:
            sound = np.empty(job.frames * SAMPLES_PER_FRAME, dtype=np.int16)
            assert job.mel is not None
            job.mel.read_into(sound)
            sounds.append(sound)
        self.rows += len(jobs)
        languages = [job.options.language or "" for job in jobs if job.options]
        for job, answer in zip(jobs, model.hear(sounds, languages, words=how.words), strict=True):
            self._finish(job, answer)

    def _encode(self, model: WhisperBatches, jobs: list[Job]) -> None:
        import numpy as np

        fresh = [job for job in jobs if job.encoded is None]
        mels = []
        for job in fresh:
            mel = np.empty((model.bands, job.frames), dtype=np.float16)
            assert job.mel is not None
            job.mel.read_into(mel)
            mels.append(mel)
        for job, encoded in zip(fresh, model.encode(mels), strict=True):
            job.encoded = encoded

    def _decode(
        self,
        model: WhisperBatches,
        jobs: list[Job],
        encoded: list[Encoded],
        how: WindowOptions,
    ) -> None:
        languages = [job.options.language or "en" for job in jobs if job.options]
        found = model.generate(encoded, languages, how, jobs[0].temperature)
        settled: list[tuple[int, Candidate]] = []
        for row, (job, candidate) in enumerate(zip(jobs, found, strict=True)):
            job.tried.append(candidate)
            if candidate.good or len(job.tried) == len(how.temperatures):
                settled.append((row, best(job.tried)))
            else:
                self._put_again(job)
        words: list[Any] = [()] * len(settled)
        if how.words and model.info.aligns and settled:
            words = model.words(
                [encoded[row] for row, _ in settled],
                [languages[row] for row, _ in settled],
                [candidate.tokens for _, candidate in settled],
                [jobs[row].frames for row, _ in settled],
                translate=how.translate,
            )
        for (row, candidate), timed in zip(settled, words, strict=True):
            answer = model.answer(candidate, languages[row], timed, translate=how.translate)
            self._finish(jobs[row], answer)

    def _check(self, model: Batches) -> None:
        """Compute the canary's input, if it is due."""
        self._batches += 1
        if not self._sing and self._batches % CANARY_BATCHES:
            return
        self._sing = False
        if not model.is_sane():
            self._log.critical(
                "device_computes_rubbish",
                model=model.info.identity.model,
                what="a fixed input gave other tokens than at first; the transcriber starts again",
            )
            os._exit(EXIT_INSANE)

    def _shrink(self, model: Batches, jobs: list[Job], error: BaseException) -> None:
        """Memory is full: use smaller batches, then a smaller model; else fail the jobs."""
        self._sing = True
        unfinished = [job for job in jobs if job not in {done for done, _ in self.finished}]
        if len(jobs) > 1:
            with self._changed:
                self._batcher.rows_max = max(1, min(self._batcher.rows_max, len(jobs) // 2))
            self._log.warning(
                "memory_full", rows=len(jobs), rows_max=self._batcher.rows_max, reason=str(error)
            )
            self._count_full("rows")
        elif not self._models.step_down(jobs[0].model, model):
            self._log.error("memory_full", rows=1, reason=str(error))
            self._count_full("failed")
            for job in unfinished:
                self._finish(job, Failed(f"out of memory: {error}", _RETRY_MEMORY_S))
            return
        else:
            self._count_full("model")
        for job in unfinished:
            self._put_again(job)

    def _count_full(self, step: str) -> None:
        if self._meters is not None:
            self._meters.out_of_memory(step)

    def _put_again(self, job: Job) -> None:
        self._tell("resting", [job])
        self.put(job)

    def _finish(self, job: Job, outcome: Outcome) -> None:
        if not isinstance(outcome, list):  # The row waits until the worker has set its language.
            job.close()
        if self._meters is not None and isinstance(outcome, (Answer, Failed)) and job.options:
            kind = "answered" if isinstance(outcome, Answer) else "failed"
            self._meters.window(kind, job.frames)
        self.finished.append((job, outcome))
        self._wake()


def _span_of(jobs: Sequence[Job]) -> AbstractContextManager[object]:
    """The span of a batch, linked to the spans of all links whose windows are in it."""
    otel = TRACES.otel
    if otel is None or jobs[0].options is None:
        return nullcontext()
    named = [otel.remote({"traceparent": trace}) for trace in {job.trace for job in jobs}]
    attributes = {"conserver.rows": len(jobs), "conserver.model": jobs[0].model.name}
    links = [one for one in named if one is not None]
    return otel.span("transcribe batch", links=links, attributes=attributes)

"""Transcribes a call on a server that has OpenAI's transcription routes: vLLM, speaches, a cloud.

1. The worker finds the speech and packs it into windows, as for a transcriber, but of one channel
   each. It does not rely on the server: many invent text for silence, and lose the times of longer
   files. It sends windows as WAV, several at once.
2. If no language is given, the first window is sent alone, and the others with the language that
   the server found in it.
3. conserver.outbound.endpoint decides what an error of the server means (retry, rejection). Answers
   before the error are kept in the vCon, so that they are not paid again.

OpenAI's reference: https://platform.openai.com/docs/api-reference/audio/createTranscription
"""

from __future__ import annotations

import contextvars
import hashlib
import importlib
import io
import threading
import time
import uuid
import wave
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

import orjson
from pydantic import AnyHttpUrl, Field, SecretStr

from conserver.errors import Retry
from conserver.media.speech import packing
from conserver.media.speech.client import KEEP_EVERY_S
from conserver.media.speech.packing import Plan, speech_s
from conserver.media.speech.remote_answers import Said, heard_in, read
from conserver.media.transcription.audio import SAMPLE_RATE_HZ
from conserver.media.transcription.engine import (
    CallHeard,
    Following,
    Heard,
    Identity,
    Listening,
    Model,
    OpenTranscriber,
    Segment,
)
from conserver.outbound import endpoint, pace
from conserver.outbound.faults import FailedAttemptError

if TYPE_CHECKING:
    from conserver.media.transcription.samples import Samples

_MAX_ANSWER_BYTES = 16_777_216
_PULSE_S = 1.0
# At a limited rate, a call waits this long for its turn. Parking the item instead would mean to
# decode the recording again.
_LONGEST_TURN_S = 60.0
_NO_SCORES = "the server tells no scores: the confidences are not measured"


class ServerOptions(endpoint.CallOptions):
    """The server's address, and the form of the requests.

    Attributes:
        provider: the server's name in the results.
        response_format: `verbose_json` has times, but some models only know `json`.
        window_s: the most sound in a request.
        parallel: how many requests of one call are made at once.
        requests_per_minute: the limit for this worker; None means no limit.
    """

    base_url: AnyHttpUrl
    api_key: SecretStr = SecretStr("")
    provider: str = Field(default="openai", pattern=r"^[a-z0-9_.-]{1,40}$")
    response_format: Literal["verbose_json", "json"] = "verbose_json"
    window_s: float = Field(default=30, ge=5, le=600)
    parallel: int = Field(default=4, ge=1, le=64)
    requests_per_minute: float | None = Field(default=None, gt=0)
    read_timeout_s: float = Field(default=300, gt=0)

    def url(self, path: str) -> str:
        """The URL of one of the server's routes."""
        return f"{str(self.base_url).rstrip('/')}/{path}"


class RemoteTranscriber:
    """The engine that uses such a server. Thread-safe."""

    def __init__(
        self, server: ServerOptions, model: str, keep_every_s: float = KEEP_EVERY_S
    ) -> None:
        self._server = server
        self._model = model
        self._keep_every_s = keep_every_s

    def transcribe(
        self, channels: Sequence[Samples], listening: Listening, following: Following
    ) -> CallHeard:
        """See `engine.Transcriber`. Raises FailedAttemptError if an answer has no transcript."""
        call = _Call(self._server, self._model, channels, listening, following)
        return call.run(self._keep_every_s)


class _Call:
    """The transcription of one call."""

    def __init__(
        self,
        server: ServerOptions,
        model: str,
        channels: Sequence[Samples],
        listening: Listening,
        following: Following,
    ) -> None:
        self._server = server
        self._model = model
        self._channels = channels
        self._listening = listening
        self._language = listening.language
        self._following = following
        self._plans: list[Plan] = []
        self._said: dict[int, Said] = {}
        self._digest = ""
        self._kept_at_s = time.monotonic()
        self._kept_count = 0
        self._patience = _Patience(following.throttle)

    def run(self, keep_every_s: float) -> CallHeard:
        """Get answers for all windows."""
        with packing.computing:
            self._plans += packing.plans(
                self._channels,
                self._listening,
                round(self._server.window_s * SAMPLE_RATE_HZ),
                self._following.pulse,
                together=False,
            )
        self._take_kept()
        with ThreadPoolExecutor(self._server.parallel, "remote-speech") as pool:
            missing = [number for number in range(len(self._plans)) if number not in self._said]
            one_language = not (self._language or self._listening.multilingual)
            if missing and one_language:
                self._work(pool, missing[:1], keep_every_s)
                self._language = self._said[missing[0]].language
                missing = missing[1:]
            self._work(pool, missing, keep_every_s)
        return self._heard()

    def _work(self, pool: ThreadPoolExecutor, numbers: Sequence[int], keep_every_s: float) -> None:
        # Each request runs in a copy of this context, so that its span gets the right parent.
        waiting: dict[Future[Said], int] = {
            pool.submit(contextvars.copy_context().run, self._ask, number): number
            for number in numbers
        }
        try:
            while waiting:
                done, _ = wait(waiting, timeout=_PULSE_S, return_when=FIRST_COMPLETED)
                self._following.pulse()
                for future in done:
                    self._said[waiting[future]] = future.result()
                    del waiting[future]
                if done:
                    self._progressed()
                if time.monotonic() - self._kept_at_s >= keep_every_s:
                    self._keep()
        except BaseException as error:
            self._patience.stopped.set()
            self._collect(waiting)
            if isinstance(error, Retry | FailedAttemptError):
                self._keep()
            raise

    def _collect(self, waiting: dict[Future[Said], int]) -> None:
        """After a failure: start no further requests, and take the answers to running ones."""
        for future, number in waiting.items():
            if not future.cancel() and future.exception() is None:
                self._said[number] = future.result()

    def _ask(self, number: int) -> Said:
        """Send one window. Returns the server's answer."""
        server, listening = self._server, self._listening
        url = server.url("audio/translations" if listening.translate else "audio/transcriptions")
        if server.requests_per_minute is not None:
            limit = server.requests_per_minute
            pace.keep(url, self._model, limit, self._patience, _LONGEST_TURN_S)
        body, headers = _form(url, self._fields(), self._wav(number))
        # If the server supports this header, a repeated request is not paid twice.
        headers["idempotency-key"] = str(uuid.uuid4())
        if key := server.api_key.get_secret_value():
            headers["authorization"] = f"Bearer {key}"
        answer = endpoint.post(url, body, headers, server, self._patience, _MAX_ANSWER_BYTES)
        return read(answer.content, url)

    def _fields(self) -> dict[str, Any]:
        listening = self._listening
        fields: dict[str, Any] = {
            "model": self._model,
            "response_format": self._server.response_format,
            "language": None if listening.translate else self._language,
            "prompt": listening.prompt,
            "hotwords": listening.hotwords,
            # Without a temperature, servers raise it by themselves for text that looks wrong.
            "temperature": str(listening.temperatures[0]) if listening.temperatures[0] else None,
        }
        if self._server.response_format == "verbose_json":
            parts = ["segment", "word"] if listening.words else ["segment"]
            fields["timestamp_granularities[]"] = parts
        return {name: value for name, value in fields.items() if value}

    def _wav(self, number: int) -> bytes:
        import numpy as np

        sound = packing.sound_of(self._plans[number], self._channels)
        target = io.BytesIO()
        with wave.open(target, "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(SAMPLE_RATE_HZ)
            file.writeframes(np.rint(sound * 32768).astype("<i2").tobytes())
        return target.getvalue()

    # What was answered.

    def _take_kept(self) -> None:
        places = [[[one.channel, one.start, one.length] for one in plan] for plan in self._plans]
        what = [places, asdict(self._listening), self._model, str(self._server.base_url)]
        self._digest = hashlib.sha256(orjson.dumps(what)).hexdigest()
        kept = self._following.kept
        if kept and kept.get("digest") == self._digest:
            self._said = {int(number): Said.load(one) for number, one in kept["said"].items()}
            self._language = kept["language"]

    def _keep(self) -> None:
        self._kept_at_s = time.monotonic()
        if self._following.keep and len(self._said) > self._kept_count:
            self._kept_count = len(self._said)
            said = {str(number): one.dump() for number, one in self._said.items()}
            self._following.keep({"digest": self._digest, "language": self._language, "said": said})

    def _progressed(self) -> None:
        done_s = sum(speech_s(self._plans[number]) for number in self._said)
        self._following.progress(done_s, sum(map(speech_s, self._plans)))
        missing = [plan for number, plan in enumerate(self._plans) if number not in self._said]
        if self._following.heard and missing:
            until = min(plan[0].start for plan in missing)
            self._following.heard(self._segments(), until / SAMPLE_RATE_HZ)

    def _segments(self) -> list[list[Segment]]:
        channels: list[list[Segment]] = [[] for _ in self._channels]
        for number in sorted(self._said):
            plan = self._plans[number]
            channels[plan[0].channel] += heard_in(plan, self._said[number])
        return channels

    def _heard(self) -> CallHeard:
        server = urlsplit(str(self._server.base_url))
        identity = Identity(
            provider=self._server.provider,
            product=server.netloc.rpartition("@")[2],
            model=self._model,
            device="server",
            compute_type="unknown",
        )
        heard = []
        for channel, segments in enumerate(self._segments()):
            said = [
                one for number, one in self._said.items()
                if self._plans[number][0].channel == channel and one.text
            ]  # fmt: skip
            warnings = (_NO_SCORES,) if any(not one.scored for one in said) else ()
            heard.append(Heard(tuple(segments), self._language_of(said), 0.0, warnings))
        return CallHeard(identity, tuple(heard))

    def _language_of(self, said: Sequence[Said]) -> str | None:
        if self._listening.translate and said:
            return "en"
        if self._listening.language:
            return self._listening.language
        spoken = [one.language for one in said if one.language]
        return max(spoken, key=spoken.count) if spoken else None


class _Patience:
    """The limits of a request in a thread. The link's thread watches the limits of the item."""

    def __init__(self, throttle: Callable[[float], None]) -> None:
        self.stopped = threading.Event()
        self.throttle = throttle

    def remaining_s(self) -> float | None:
        """None: no time limit."""
        return None

    def check_cancelled(self) -> None:
        """Raises Retry once another request of the call has failed, or the call has ended."""
        if self.stopped.is_set():
            raise Retry(None, "the call has ended")


def _form(url: str, fields: dict[str, Any], sound: bytes) -> tuple[bytes, dict[str, str]]:
    """multipart/form-data of a request: its body, and the header that names it."""
    httpx = importlib.import_module("httpx")
    files = {"file": ("speech.wav", sound, "audio/wav")}
    request = httpx.Request("POST", url, data=fields, files=files)
    return request.read(), {"content-type": request.headers["content-type"]}


def opener(server: ServerOptions) -> OpenTranscriber:
    """An `OpenTranscriber` that uses this server for every model."""

    def open_it(model: Model) -> RemoteTranscriber:
        return RemoteTranscriber(server, model.name)

    return open_it

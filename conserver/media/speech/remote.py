"""A call through a server that speaks OpenAI's transcription routes: vLLM, speaches, a cloud.

1. Finds the speech and packs it into windows as for a transcriber of our own, of one channel each:
   such servers have no or another voice detector, invent text for silence, and lose the times of
   longer files. The windows travel as WAV, several of a call at once.
2. Without a language, the first window is heard alone, and the others in the language found.
3. What an endpoint's trouble means is conserver.outbound.endpoint's to say. What was answered
   before it is kept, so that it is not paid again.

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
# Waiting for its turn at a limited rate is what a call is for; parking it would decode it again.
_LONGEST_TURN_S = 60.0
_NO_SCORES = "the server tells no scores: the confidences are not measured"


class ServerOptions(endpoint.CallOptions):
    """Where the server is, and how it is asked.

    Attributes:
        provider: who it is, for the results.
        response_format: `verbose_json` has times; some models know only `json`.
        window_s: how much sound a request has at most.
        parallel: requests of one call at once.
        requests_per_minute: of this process; None is no limit.
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
        """One of its routes."""
        return f"{str(self.base_url).rstrip('/')}/{path}"


class RemoteTranscriber:
    """An engine behind HTTP. Safe to use from several threads."""

    def __init__(
        self, server: ServerOptions, model: str, keep_every_s: float = KEEP_EVERY_S
    ) -> None:
        self._server = server
        self._model = model
        self._keep_every_s = keep_every_s

    def transcribe(
        self, channels: Sequence[Samples], listening: Listening, following: Following
    ) -> CallHeard:
        """See `engine.Transcriber`; also raises FailedAttemptError for an answer that is none."""
        call = _Call(self._server, self._model, channels, listening, following)
        return call.run(self._keep_every_s)


class _Call:
    """One call, from its samples to what was heard."""

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
        """Have every window answered."""
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
        # Each request in a copy of this context, so that a trace knows its parent.
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
        """After a failure: no new requests, and the answers to those under way."""
        for future, number in waiting.items():
            if not future.cancel() and future.exception() is None:
                self._said[number] = future.result()

    def _ask(self, number: int) -> Said:
        """One window, one request."""
        server, listening = self._server, self._listening
        url = server.url("audio/translations" if listening.translate else "audio/transcriptions")
        if server.requests_per_minute is not None:
            limit = server.requests_per_minute
            pace.keep(url, self._model, limit, self._patience, _LONGEST_TURN_S)
        body, headers = _form(url, self._fields(), self._wav(number))
        # The server's, if it knows such keys: a request that is repeated is not paid twice.
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
            # 0, or nothing, lets a server raise it by itself where the text looks wrong.
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
    """What a request in a thread asks; the thread of the link watches the item's own limits."""

    def __init__(self, throttle: Callable[[float], None]) -> None:
        self.stopped = threading.Event()
        self.throttle = throttle

    def remaining_s(self) -> float | None:
        """No limit of its own."""
        return None

    def check_cancelled(self) -> None:
        """Raises Retry once the call has failed or ended elsewhere."""
        if self.stopped.is_set():
            raise Retry(None, "the call has ended")


def _form(url: str, fields: dict[str, Any], sound: bytes) -> tuple[bytes, dict[str, str]]:
    """multipart/form-data of a request: its body, and the header that names it."""
    httpx = importlib.import_module("httpx")
    files = {"file": ("speech.wav", sound, "audio/wav")}
    request = httpx.Request("POST", url, data=fields, files=files)
    return request.read(), {"content-type": request.headers["content-type"]}


def opener(server: ServerOptions) -> OpenTranscriber:
    """Opens this server, whichever model it is asked for."""

    def open_it(model: Model) -> RemoteTranscriber:
        return RemoteTranscriber(server, model.name)

    return open_it

"""Transcribes a call through a transcriber. Runs in the worker, in the thread of the link.

1. Finds the speech and packs it into windows. In a long call, most windows are found while the
   transcriber computes the first ones. The spectrogram of a window is made just before it is sent.
2. Waits for a slot, then keeps several windows under way. Meanwhile it calls `pulse` about once a
   second.
3. Lets the transcriber detect the language from the first windows, unless it is given.
4. If the transcriber dies, sends all unanswered windows to its replacement. Windows that were being
   computed become suspects. If a window was being computed at three deaths, the recording is
   rejected.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING

from conserver.errors import Rejected, Retry
from conserver.media.speech import packing
from conserver.media.speech.answered import Answered
from conserver.media.speech.planning import Planning, where
from conserver.media.speech.windows import (
    SAMPLES_PER_FRAME,
    Answer,
    ModelInfo,
    WindowOptions,
    model_message,
)
from conserver.media.speech.wire import shared_window
from conserver.media.transcription.engine import (
    CallHeard,
    Following,
    Heard,
    Listening,
    Model,
    Segment,
)
from conserver.process import packets
from conserver.process.packets import Gone, Message
from conserver.telemetry import traces

if TYPE_CHECKING:
    from conserver.media.transcription.samples import Samples

DEATHS_MAX = 3
"""A window that was being computed at so many deaths of a transcriber is not sent again."""

KEEP_EVERY_S = 120.0
"""The interval at which the results so far of a long call are kept in its vCon."""

_PULSE_S = 1.0
_LANGUAGE_WINDOWS = 3  # The number of windows that decide the language of a call.
_FRAMES_FOR_SEVERAL = 3000


class SharedTranscriber:
    """The engine that uses the transcribers of this host. Thread-safe."""

    def __init__(
        self, addresses: Sequence[str], model: Model, keep_every_s: float = KEEP_EVERY_S
    ) -> None:
        """
        Args:
            addresses: of the transcribers, one per device. A call goes to the one with the fewest
                calls of this worker.
            model: the model to use. Its `device_index` is the index of a transcriber; with 0 any
                transcriber is used.
            keep_every_s: the interval at which the results so far of a call are kept.
        """
        self._keep_every_s = keep_every_s
        self._addresses = tuple(addresses)
        # Each transcriber sees only its own device, as device 0.
        self._model, self._number = replace(model, device_index=0), model.device_index
        self._lock = threading.Lock()
        self._busy = dict.fromkeys(self._addresses, 0)

    def transcribe(
        self, channels: Sequence[Samples], listening: Listening, following: Following
    ) -> CallHeard:
        """See `engine.Transcriber`."""
        with self._chosen() as address:
            call = _Call(address, self._model, channels, listening, following)
            return call.run(self._keep_every_s)

    @contextmanager
    def _chosen(self) -> Iterator[str]:
        with self._lock:
            if self._number:
                address = self._addresses[self._number % len(self._addresses)]
            else:
                # If several are equal, workers begin with different ones.
                first = os.getpid() % len(self._addresses)
                turn = self._addresses[first:] + self._addresses[:first]
                address = min(turn, key=self._busy.__getitem__)
            self._busy[address] += 1
        try:
            yield address
        finally:
            with self._lock:
                self._busy[address] -= 1


class _Call:
    """The transcription of one call."""

    def __init__(
        self,
        address: str,
        model: Model,
        channels: Sequence[Samples],
        listening: Listening,
        following: Following,
    ) -> None:
        self._address = address
        self._model = model
        self._channels = channels
        self._listening = listening
        self._options = self._asked = WindowOptions.of(listening)
        self._following = following
        self._info: ModelInfo | None = None
        self._planning = Planning(channels, iter(()))
        self._answered = Answered(self._planning, len(channels))
        self._deaths: dict[int, int] = defaultdict(int)
        self._crowds: dict[int, int] = {}
        self._begun: set[int] = set()
        self._votes: dict[int, list[tuple[str, float]]] = {}
        self._sure = 1.0
        self._warnings: list[str] = []
        self._kept_at_s = time.monotonic()
        self._told_at_s = -_PULSE_S
        self._keep_every_s = KEEP_EVERY_S

    def run(self, keep_every_s: float) -> CallHeard:
        """Get answers for all windows. After a transcriber's death, use its replacement."""
        self._keep_every_s = keep_every_s
        while True:
            self._following.pulse()
            try:
                connection = packets.connect(self._address)
            except Gone:
                # Nobody listens at the address: the supervisor has ended, and this worker will.
                threading.Event().wait(_PULSE_S)
                continue
            try:
                with connection:
                    connection.settimeout(_PULSE_S)
                    return self._converse(connection)
            except Gone:
                self._suspect()

    def _converse(self, connection: socket.socket) -> CallHeard:
        self._send(connection, {"type": "open", "model": model_message(self._model)})
        info = ModelInfo.load(self._expect(connection, "info"))
        if self._info is None:
            self._prepare(info)
        self._info = info
        if not self._answered.complete:
            self._send(connection, {"type": "begin"})
            self._expect(connection, "admitted")
            self._exchange(connection, info)
        return self._heard(info)

    def _prepare(self, info: ModelInfo) -> None:
        """Begin to plan the windows, and take over kept answers."""
        self._options, told = self._options.suited(info)
        self._warnings = [*told, *info.warnings]
        # Channels share windows only if the times of words can show the channel of a word. Models
        # with a shorter input than Whisper's confuse several speakers in a window. For models that
        # take samples, a fuller window costs more, so sharing saves nothing.
        together = (
            self._options.words
            and info.aligns
            and info.bands > 0
            and not self._options.each_language
            and not self._listening.channels_apart
            and info.frames >= _FRAMES_FOR_SEVERAL
        )
        self._asked = self._options
        coming = packing.plans(
            self._channels,
            self._listening,
            info.frames * SAMPLES_PER_FRAME,
            self._following.pulse,
            together=together,
        )
        self._planning = Planning(self._channels, coming)
        self._answered = Answered(self._planning, len(self._channels))
        kept = self._following.kept
        if not kept:
            # This shows whether there is speech; without it no slot is needed. The first windows
            # also decide the language together.
            self._planning.find(_LANGUAGE_WINDOWS)
            return
        self._planning.find()
        if kept.get("digest") == self._digest(info):
            self._answered.load(kept["answers"])
            if kept.get("language"):
                self._options = self._options.speaking(kept["language"])
                self._sure = kept["sure"]

    def _digest(self, info: ModelInfo) -> str:
        """Identifies windows, options and model: kept answers are used only if it is equal."""
        return self._planning.digest(self._asked.dump(), info.identity.model)

    def _exchange(self, connection: socket.socket, info: ModelInfo) -> None:
        """Send windows and receive answers until all windows are answered."""
        under_way: set[int] = set()
        while not self._answered.complete:
            for number in self._sendable(under_way, info.ahead):
                self._send_window(connection, info, number)
                under_way.add(number)
            if not self._planning.complete and not packets.has_news(connection):
                self._planning.find(len(self._planning.known) + 1)
                continue
            message = self._next(connection)
            match message["type"]:
                case "answer":
                    number = message["id"]
                    self._answered.take(number, Answer.load(message["answer"]))
                    under_way.discard(number)
                    self._begun.discard(number)
                    self._progressed()
                case "languages":
                    self._begun.discard(message["id"])
                    self._votes[message["id"]] = message["languages"]
                    if self._vote(under_way):
                        waiting = sorted(self._votes)
                        language = self._options.language
                        speak = {"type": "speak", "ids": waiting, "language": language}
                        self._send(connection, speak)
                case "started":
                    self._begun.update(message["ids"])
                    self._crowds.update(dict.fromkeys(message["ids"], message["crowd"]))
                case "resting":
                    self._begun.difference_update(message["ids"])
                case other:
                    raise RuntimeError(f"the transcriber sent {other!r} in the middle of a call")

    def _sendable(self, under_way: set[int], ahead: int) -> Iterator[int]:
        """The windows to send now."""
        decided = self._options.language is not None or self._options.each_language
        most = ahead if decided else min(ahead, _LANGUAGE_WINDOWS)
        room = most - len(under_way)
        missing = (number for number in self._answered.missing if number not in under_way)
        yield from islice(missing, max(0, room))

    def _send_window(self, connection: socket.socket, info: ModelInfo, number: int) -> None:
        with packing.computing:
            sound = packing.sound_of(self._answered.plan(number), self._channels)
            shared, frames = shared_window(sound, info)
        try:
            self._send(
                connection,
                {
                    "type": "window",
                    "id": number,
                    "frames": frames,
                    "options": self._options.dump(),
                    "suspicion": self._deaths[number],
                    "crowd": self._crowds.get(number, 1),
                    "trace": traces.traceparent(),
                },
                shared.descriptor,
            )
        finally:
            shared.close()

    def _vote(self, under_way: set[int]) -> bool:
        """Decide the language once it was detected in all windows that were sent."""
        if len(self._votes) < len(under_way):
            return False
        shares: dict[str, float] = defaultdict(float)
        for languages in self._votes.values():
            for language, share in languages:
                shares[language] += share
        language = max(shares, key=shares.__getitem__)
        self._sure = shares[language] / len(self._votes)
        self._options = self._options.speaking(language)
        return True

    def _suspect(self) -> None:
        """The transcriber has died: make suspects of the windows that it was computing."""
        for number in sorted(self._begun):
            self._deaths[number] += 1
            if self._deaths[number] >= DEATHS_MAX:
                place = where(self._answered.plan(number))
                raise Rejected(f"{place} ended the transcriber {DEATHS_MAX} times")
        self._begun.clear()
        self._votes.clear()

    def _progressed(self) -> None:
        self._following.progress(self._answered.done_s, self._planning.total_s())
        if self._answered.complete:
            return
        if self._following.heard:
            self._tell_heard(self._following.heard)
        keep = self._following.keep
        if keep and self._info and time.monotonic() - self._kept_at_s >= self._keep_every_s:
            self._kept_at_s = time.monotonic()
            self._planning.find()
            keep(
                {
                    "digest": self._digest(self._info),
                    "language": self._options.language,
                    "sure": self._sure,
                    "answers": self._answered.dump(),
                }
            )

    def _tell_heard(self, tell: Callable[[list[list[Segment]], float], None]) -> None:
        """Report the segments so far, about once a second."""
        now_s = time.monotonic()
        if now_s - self._told_at_s < _PULSE_S:
            return
        self._told_at_s = now_s
        tell(self._answered.segments(), self._answered.until_s)

    def _heard(self, info: ModelInfo) -> CallHeard:
        found = self._answered.segments()
        spoken = self._options.language
        warnings = tuple(self._warnings)
        if self._options.translate and spoken not in (None, "en") and self._planning.known:
            warnings = (*warnings, f"translated from {spoken!r}")
            spoken = "en"
        heard = []
        for channel, segments in enumerate(found):
            language = spoken or self._answered.most_spoken(channel) or None
            if not segments and self._listening.language is None:
                language = None
            sure = round(self._sure, 4) if language else 0.0
            heard.append(Heard(tuple(segments), language, sure, warnings))
        return CallHeard(info.identity, tuple(heard))

    # The connection.

    def _send(self, connection: socket.socket, message: Message, descriptor: int = -1) -> None:
        while not packets.send(connection, message, descriptor):
            self._following.pulse()

    def _next(self, connection: socket.socket) -> Message:
        """Wait for the next message, for any time.

        Raises:
            Gone: the transcriber has ended.
            Retry: the transcriber cannot work now.
        """
        while True:
            received = packets.receive(connection)
            self._following.pulse()
            if received is None:
                continue
            message, _ = received
            if message["type"] == "failed":
                raise Retry(message["retry_s"], message["reason"])
            return message

    def _expect(self, connection: socket.socket, kind: str) -> Message:
        message = self._next(connection)
        if message.pop("type") != kind:
            raise RuntimeError(f"the transcriber did not answer with {kind!r}")
        return message

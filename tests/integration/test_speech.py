"""Calls through a transcriber process: what is understood, and what its death costs."""

from __future__ import annotations

import os
import resource
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from conserver.errors import Cancelled, Rejected, Retry
from conserver.media.speech.client import SharedTranscriber
from conserver.media.speech.devices import cpu_environment
from conserver.media.speech.service_options import ServiceOptions
from conserver.media.speech.standalone import NotStarted, Running, running
from conserver.media.speech.windows import WindowOptions, model_message
from conserver.media.speech.wire import SharedMel
from conserver.media.transcription.audio import SAMPLE_RATE_HZ
from conserver.media.transcription.conversation import text_until
from conserver.media.transcription.engine import CallHeard, Following, Listening, Model
from conserver.process import packets
from tests.helpers import eventually
from tests.unit.media.speech.real import TINY, channels_of, english

EVERY_S = 5
TEXT = "yes please call seven two four"
OPTIONS = ServiceOptions(rows=4, lanes=2, slots=8, models=(TINY,))


def nothing(*_: object) -> None:
    pass


@pytest.fixture(scope="module")
def shared() -> Iterator[Running]:
    """A transcriber that no test ends."""
    with running(OPTIONS) as transcriber:
        yield transcriber


def hear(
    transcriber: Running,
    *channels: Any,
    following: Following | None = None,
    model: Model = TINY,
    **options: Any,
) -> CallHeard:
    client = SharedTranscriber([transcriber.address], model)
    return client.transcribe(channels, Listening(**options), following or Following(nothing))


def texts(heard: CallHeard) -> list[list[str]]:
    return [[segment.text for segment in channel.segments] for channel in heard.channels]


def test_a_transcriber_on_the_cpu_is_started_with_huge_pages(shared: Running) -> None:
    environ = Path(f"/proc/{shared.process.pid}/environ").read_text().split("\0")
    expected = {f"{name}={value}" for name, value in cpu_environment(os.environ).items()}
    assert expected <= set(environ)


def test_windows_beyond_the_limit_of_open_files_let_the_call_come_again() -> None:
    usual = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(256, usual[1]), usual[1]))
    try:
        with running(OPTIONS) as transcriber:
            pid = transcriber.process.pid
            assert pid is not None
            limits = resource.prlimit(pid, resource.RLIMIT_NOFILE)
            assert limits == (usual[1], usual[1])
            used = {int(path.name) for path in Path(f"/proc/{pid}/fd").iterdir()}
            # One number is free for the call's connection, and none for a window.
            _, beyond = sorted(set(range(len(used) + 2)) - used)[:2]
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (beyond, usual[1]))
            with pytest.raises(Retry, match="too many open files"):
                hear(transcriber, *channels_of("calls/mono-8k.wav"))
            resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)
            assert texts(hear(transcriber, *channels_of("calls/mono-8k.wav"))) == [[TEXT]]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, usual)


def test_channels_without_samples_are_heard_as_silence(shared: Running) -> None:
    empty = np.empty(0, dtype=np.int16)
    assert texts(hear(shared, empty)) == [[]]
    assert texts(hear(shared, empty, empty, channels_apart=True)) == [[], []]


def long_call(times: int) -> Any:
    """The same words every five seconds; three of them fill a window."""
    sound = channels_of("calls/mono-8k.wav")[0]
    return np.concatenate(
        [sound, np.zeros(EVERY_S * SAMPLE_RATE_HZ - len(sound), np.int16)] * times
    )


def test_channels_are_understood_and_keep_their_times(shared: Running) -> None:
    heard = hear(shared, *channels_of("calls/stereo.wav"))
    assert texts(heard) == [
        ["hello customer", "yes please call seven two four", "thank you goodbye"],
        ["hello agent please help", "four two seven"],
    ]
    assert heard.identity.product.startswith("faster-whisper")
    first, last = heard.channels[0].segments[0], heard.channels[0].segments[-1]
    assert 0 <= first.start_s <= 0.5
    assert 10.3 <= last.end_s <= 11.3
    assert [word.text.strip() for word in first.words] == ["hello", "customer"]


def test_times_are_right_after_long_pauses(shared: Running) -> None:
    (channel,) = hear(shared, long_call(3)).channels
    assert [segment.text for segment in channel.segments] == [TEXT] * 3
    starts = [segment.start_s for segment in channel.segments]
    assert starts[2] - starts[0] == pytest.approx(2 * EVERY_S, abs=0.2)


def test_silence_costs_nothing(shared: Running) -> None:
    heard = hear(shared, np.zeros(10 * SAMPLE_RATE_HZ, np.int16))
    assert texts(heard) == [[]]
    assert heard.channels[0].language is None


def test_many_calls_at_once_get_what_they_would_get_alone(shared: Running) -> None:
    sounds = [channels_of("calls/mono-8k.wav"), channels_of("calls/mono-16k.wav")] * 8
    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda sound: texts(hear(shared, *sound)), sounds))
    assert found == [[[TEXT]], [["thank you customer goodbye"]]] * 8


@pytest.mark.real_time
def test_a_short_call_does_not_wait_for_a_long_one(shared: Running) -> None:
    done_s: list[float] = []
    begun = threading.Event()

    def progress(now_s: float, _all_s: float) -> None:
        done_s.append(now_s)
        begun.set()

    with ThreadPoolExecutor(1) as pool:
        sound = long_call(75)
        long = pool.submit(hear, shared, sound, following=Following(nothing, progress))
        assert begun.wait(60)
        before = len(done_s)
        assert texts(hear(shared, *channels_of("calls/mono-8k.wav"))) == [[TEXT]]
        # The batches at work, its own and its neighbour in the other lane, and one to spare.
        assert len(done_s) - before <= 4 * OPTIONS.rows
        assert texts(long.result(100)) == [[TEXT] * 75]
    assert len(done_s) == 25


def test_who_listens_hears_the_beginning_before_the_end(shared: Running) -> None:
    told: list[tuple[str, float]] = []

    def listen(channels: Any, until_s: float) -> None:
        told.append((text_until(channels, until_s), until_s))

    for channels in ([long_call(150)], channels_of("calls/stereo.wav")):
        told.clear()
        heard = hear(shared, *channels, following=Following(nothing, heard=listen))
        whole = text_until([one.segments for one in heard.channels], 1e9)
        assert all(whole.startswith(text) for text, _ in told)
        assert [until_s for _, until_s in told] == sorted(until_s for _, until_s in told)
        if len(channels) == 1:
            assert any(text for text, _ in told)


def test_cancelling_takes_effect_between_windows_and_frees_the_slot() -> None:
    cancelled = threading.Event()

    def pulse() -> None:
        if cancelled.is_set():
            raise Cancelled("no longer wanted")

    with running(ServiceOptions(rows=1, slots=1, models=(TINY,))) as transcriber:
        follow = Following(pulse, lambda *_: cancelled.set())
        with pytest.raises(Cancelled):
            hear(transcriber, long_call(90), following=follow)
        assert texts(hear(transcriber, *channels_of("calls/mono-8k.wav"))) == [[TEXT]]


def test_a_worker_that_dies_frees_its_slot_and_takes_its_windows_out() -> None:
    with running(ServiceOptions(rows=1, slots=1, models=(TINY,))) as transcriber:
        dying = packets.connect(transcriber.address)
        packets.send(dying, {"type": "open", "model": model_message(TINY)})
        packets.receive(dying)
        packets.send(dying, {"type": "begin"})
        assert packets.receive(dying) == ({"type": "admitted"}, -1)
        dying.close()
        assert texts(hear(transcriber, *channels_of("calls/mono-8k.wav"))) == [[TEXT]]


def test_what_was_kept_is_not_computed_again(shared: Running) -> None:
    counts: list[float] = []
    kept: dict[str, Any] = {}
    sound = long_call(12)
    client = SharedTranscriber([shared.address], TINY, keep_every_s=0.0)
    follow = Following(nothing, keep=kept.update)
    before = client.transcribe([sound], Listening(), follow)
    assert len(kept["answers"]) == 3  # The last one ends the call.
    follow = Following(nothing, lambda done_s, _: counts.append(done_s), kept=kept)
    after = client.transcribe([sound], Listening(), follow)
    assert texts(after) == texts(before)
    assert len(counts) == 1
    # What was kept of other options is of no use.
    client.transcribe([sound], Listening(beam_size=1), follow)
    assert len(counts) == 5  # Four windows, and the one from before.


def test_a_model_that_cannot_be_loaded_lets_the_call_come_again(shared: Running) -> None:
    with pytest.raises(Retry, match="cannot be loaded"):
        hear(shared, np.zeros(100, np.int16), model=Model("/nowhere/at/all", device="cpu"))


def test_a_transcriber_that_is_killed_in_the_middle_costs_no_call() -> None:
    begun = threading.Event()
    follow = Following(nothing, lambda *_: begun.set())
    with running(OPTIONS) as transcriber, ThreadPoolExecutor(2) as pool:
        calls = [
            pool.submit(hear, transcriber, long_call(60), following=follow),
            pool.submit(hear, transcriber, *channels_of("calls/mono-16k.wav")),
        ]
        assert begun.wait(60)
        for _ in range(2):
            assert transcriber.process.pid is not None
            os.kill(transcriber.process.pid, signal.SIGKILL)
            transcriber.again()
        assert texts(calls[0].result(100)) == [[TEXT] * 60]
        assert texts(calls[1].result(100)) == [["thank you customer goodbye"]]


class SlowToSend:
    """Options that wait, when they are sent to a new process, until they are let go."""

    models = OPTIONS.models

    def __init__(self) -> None:
        self.begun, self.let_go = threading.Event(), threading.Event()

    def __reduce__(self) -> tuple[Any, ...]:
        self.begun.set()
        assert self.let_go.wait(60)
        return copy, (OPTIONS,)


def test_a_replacement_that_is_being_created_is_killed_as_well() -> None:
    """As by Ctrl-C while a transcriber that has died is replaced: nobody prints a traceback."""
    with running(OPTIONS) as transcriber, ThreadPoolExecutor(2) as pool:
        options = SlowToSend()
        transcriber.options = cast("ServiceOptions", options)
        assert transcriber.process.pid is not None
        os.kill(transcriber.process.pid, signal.SIGKILL)
        replaced = pool.submit(transcriber.again)
        assert options.begun.wait(60)
        killed = pool.submit(transcriber.kill)
        eventually(lambda: transcriber.killed)
        options.let_go.set()
        killed.result(60)
        with pytest.raises(NotStarted, match="ended with code"):
            replaced.result(60)
        assert not transcriber.process.is_alive()
        with pytest.raises(NotStarted, match="was killed"):
            transcriber.revive()


class Reviver:
    """Starts a transcriber again whenever it has died, as the supervisor does."""

    def __init__(self, transcriber: Running) -> None:
        self.deaths = 0
        self._transcriber = transcriber
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Reviver:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ended.is_set():
            self._transcriber.process.join(0.05)
            if not self._transcriber.process.is_alive():
                self.deaths += 1
                self._transcriber.again()


def test_a_window_that_kills_three_times_is_the_recordings_fault(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CONSERVER_FAILPOINTS", "batch:kill")
    with running(OPTIONS) as transcriber, Reviver(transcriber) as reviver:
        with pytest.raises(Rejected, match=r"channel 0 from 0\.\d s to 2\.\d s ended the"):
            hear(transcriber, *channels_of("calls/mono-8k.wav"))
        eventually(lambda: reviver.deaths >= 3)


class Poisoner:
    """Sends a window that ends every transcriber, as often as it is let, beside honest calls."""

    def __init__(self, address: str) -> None:
        self.suspicion = 0
        self._address = address
        self._crowd = 1

    def run(self) -> None:
        while self.suspicion < 3:
            with packets.connect(self._address) as connection:
                try:
                    self._send(connection)
                except packets.Gone:
                    self.suspicion += 1

    def _send(self, connection: Any) -> None:
        packets.send(connection, {"type": "open", "model": model_message(TINY)})
        packets.receive(connection)
        # Its memory holds less than it says.
        mel = SharedMel.of(np.zeros((80, 10), np.float16))
        options = WindowOptions(language="en").dump()
        message = {
            "type": "window", "id": 0, "frames": 900, "options": options,
            "suspicion": self.suspicion, "crowd": self._crowd,
        }  # fmt: skip
        packets.send(connection, message, mel.descriptor)
        mel.close()
        while received := packets.receive(connection):
            self._crowd = received[0].get("crowd", self._crowd)


def test_a_window_that_kills_takes_no_other_call_along() -> None:
    with running(OPTIONS) as transcriber, Reviver(transcriber) as reviver:
        with ThreadPoolExecutor(9) as pool:
            calls = [
                pool.submit(hear, transcriber, *channels_of("calls/mono-8k.wav")) for _ in range(8)
            ]
            poisoner = Poisoner(transcriber.address)
            pool.submit(poisoner.run).result(100)
            found = [texts(call.result(100)) for call in calls]
        assert found == [[[TEXT]]] * 8
        eventually(lambda: reviver.deaths >= 3)
        assert reviver.deaths == 3


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_true_speech_is_told_on_the_way_as_it_stands_at_the_end() -> None:
    """Real English, with its punctuation and its sentences over the edges of windows."""
    names = ("address", "garden", "invoice", "meeting", "order")
    pause = np.zeros(SAMPLE_RATE_HZ, np.int16)
    sound = np.concatenate(
        [part for name in names for part in (*channels_of(f"speech/{name}.wav"), pause)]
    )
    told: list[str] = []

    def listen(channels: Any, until_s: float) -> None:
        told.append(text_until(channels, until_s))

    with running(ServiceOptions(rows=1, models=(english(),))) as transcriber:
        follow = Following(nothing, heard=listen)
        heard = hear(
            transcriber, sound, following=follow, model=english(), beam_size=1, temperatures=(0.0,)
        )
    whole = " ".join(segment.text for segment in heard.channels[0].segments)
    assert any(told)
    assert all(whole.startswith(text) for text in told)

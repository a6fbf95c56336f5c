"""The transcribe link with a real model on real sound: the calls of scripts/data, word for word."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conserver.links.transcribe import Options, run
from conserver.media.transcription import audio, whisper
from conserver.media.transcription.engine import Following, Listening, Model
from conserver.vcon.document import Vcon, encode_body
from tests.unit.links.stage import Context
from tests.unit.media.transcription.sounds import silence, wav
from tests.unit.media.transcription.wtf_rules import check_wtf

DATA = Path(__file__).parents[2] / "scripts" / "data"
MODEL = Model(str(DATA / "tiny-whisper"), device="cpu", cpu_threads=1)

STEREO = [
    ("Agent", "hello customer"),
    ("+12025550100", "hello agent please help"),
    ("Agent", "yes please call seven two four"),
    ("+12025550100", "four two seven"),
    ("Agent", "thank you goodbye"),
]


def call(name: str) -> bytes:
    return (DATA / "calls" / name).read_bytes()


def vcon_of(*recordings: bytes, parties: Any = (0, 1)) -> Vcon:
    dialogs = [
        {
            "type": "recording",
            "parties": parties,
            "mediatype": "audio/wav",
            "encoding": "base64url",
            "body": encode_body(content),
        }
        for content in recordings
    ]
    people = [{"name": "Agent"}, {"tel": "tel:+12025550100"}]
    document = {"uuid": "u1", "parties": people, "dialog": dialogs}
    return Vcon.parse(json.dumps(document).encode())


def transcribe(vcon: Vcon, **options: Any) -> list[dict[str, Any]]:
    """The analyses of a run, as they are once written and read again."""
    chosen = Options(model=MODEL.name, device="cpu", cpu_threads=1, **options)
    run(vcon, chosen, Context())
    return Vcon.parse(vcon.dump()).analysis


def text_of(content: bytes, **options: Any) -> str:
    transcript = transcribe(vcon_of(content), **options)[0]
    text = transcript["body"]["transcript"]
    assert isinstance(text, str)
    return text


@pytest.mark.parametrize("options", [{}, {"vad": False, "words": False}], ids=["default", "bare"])
@pytest.mark.parametrize("samples", [0, 1, 80])
def test_a_call_that_was_hung_up_at_once_has_an_empty_transcript(
    samples: int, options: dict[str, Any]
) -> None:
    transcript, wtf = transcribe(vcon_of(wav(silence(samples / 8000))), **options)
    assert transcript["body"]["transcript"] == wtf["body"]["transcript"]["text"] == ""
    check_wtf(wtf["body"])


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("mono-8k.wav", "yes please call seven two four"),
        ("mono-16k.wav", "thank you customer goodbye"),
        ("dual-mono.wav", "yes please call seven two four"),
        ("silence.wav", ""),
    ],
)
@pytest.mark.parametrize("options", [{}, {"vad": False, "words": False}], ids=["default", "bare"])
def test_calls_are_understood(name: str, text: str, options: dict[str, Any]) -> None:
    assert text_of(call(name), **options) == text


def test_a_call_on_two_channels_reads_as_a_conversation() -> None:
    transcript, wtf = transcribe(vcon_of(call("stereo.wav")))
    paragraphs = [f"{speaker}: {text}" for speaker, text in STEREO]
    assert transcript["body"]["paragraphs"]["transcript"] == "\n\n".join(paragraphs)
    body = wtf["body"]
    check_wtf(body)
    assert [segment["speaker"] for segment in body["segments"]] == [0, 1, 0, 1, 0]
    assert body["speakers"]["1"]["label"] == "+12025550100"
    assert body["transcript"]["language"] == "en"
    assert body["quality"]["multiple_speakers"] is True
    assert body["quality"]["processing_warnings"] == []
    assert body["metadata"]["audio"] == {
        "duration": 11.3, "sample_rate": 8000, "channels": 2, "format": "wav/pcm_mulaw",
        "bitrate": 128,
    }  # fmt: skip
    assert len(body["words"]) == sum(len(text.split()) for _, text in STEREO)
    # The first turn begins after 0.3 s, the last one ends half a second before the end.
    assert 0 <= body["segments"][0]["start"] <= 0.5
    assert 10.3 <= body["segments"][-1]["end"] <= 11.3


def test_the_same_call_with_its_parties_the_other_way_round() -> None:
    transcript = transcribe(vcon_of(call("stereo.wav"), parties=[1, 0]))[0]
    first = transcript["body"]["paragraphs"]["transcript"].partition("\n")[0]
    assert first == "+12025550100: hello customer"


def test_silence_is_a_result() -> None:
    transcript, wtf = transcribe(vcon_of(call("silence.wav")))
    assert transcript["body"]["paragraphs"] == {"transcript": "", "paragraphs": []}
    check_wtf(wtf["body"])
    assert wtf["body"]["transcript"]["language"] == "und"


def test_prompt_and_hotwords_are_taken() -> None:
    text = text_of(call("mono-16k.wav"), prompt="A phone call.", hotwords="customer")
    assert "customer" in text


def test_a_long_recording_is_heard_in_stretches_with_the_right_times() -> None:
    speech = audio.decode(call("mono-16k.wav"), max_duration_s=10).channels[0]
    pause = np.zeros(310 * audio.SAMPLE_RATE_HZ, np.int16)
    sound = np.concatenate([speech, pause, speech])
    found = whisper.shared(MODEL).transcribe([sound], Listening(), Following(lambda: None))
    heard = found.channels[0]
    assert [segment.text for segment in heard.segments] == ["thank you customer goodbye"] * 2
    first, second = heard.segments
    away_s = (len(speech) + len(pause)) / audio.SAMPLE_RATE_HZ
    assert second.end_s - first.end_s == pytest.approx(away_s, abs=0.1)


def test_equal_options_share_a_model_and_threads_may_use_it() -> None:
    first = whisper.shared(MODEL)
    assert whisper.shared(Model(MODEL.name, device="cpu", cpu_threads=1)) is first
    assert whisper.shared(Model(MODEL.name, device="cpu", cpu_threads=2)) is not first
    texts: list[str] = []
    threads = [
        threading.Thread(target=lambda: texts.append(text_of(call("mono-8k.wav"))))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(100)
    assert texts == ["yes please call seven two four"] * 4


_CHILD = """
import multiprocessing, sys
from conserver.media.transcription import audio, whisper
from conserver.media.transcription.engine import Following, Listening, Model

def listen(folder, call):
    heard = whisper.shared(Model(folder)).transcribe(
        audio.decode(open(call, "rb").read(), max_duration_s=60).channels,
        Listening(), Following(lambda: None))
    print(heard.channels[0].segments[0].text, flush=True)

if __name__ == "__main__":
    method, folder, call = sys.argv[1:]
    whisper.prepare(Model(folder))
    children = [
        multiprocessing.get_context(method).Process(target=listen, args=(folder, call))
        for _ in range(2)
    ]
    for child in children:
        child.start()
    for child in children:
        child.join(100)
    print([child.exitcode for child in children])
"""


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_children_listen_and_end_under_every_start_method(method: str, tmp_path: Path) -> None:
    script = tmp_path / "listen.py"
    script.write_text(_CHILD)
    answer = subprocess.run(
        [sys.executable, script, method, MODEL.name, DATA / "calls" / "mono-8k.wav"],
        capture_output=True, text=True, timeout=110, check=False, cwd=DATA.parents[1],
        env={"PYTHONPATH": str(DATA.parents[1]), "HF_HUB_OFFLINE": "1"},
    )  # fmt: skip
    assert answer.stderr == ""
    assert answer.stdout.splitlines() == ["yes please call seven two four"] * 2 + ["[0, 0]"]

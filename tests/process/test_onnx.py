"""onnx-asr under the true command: a folder, tones in a recording, and the analyses in the vCon."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
import redis

from conserver.vcon.document import encode_body
from tests.daemon import Daemon
from tests.unit.media.speech.tones import spoken, tdt_model
from tests.unit.media.transcription.sounds import wav

UUID = "0198e2f0-0000-8000-8000-000000000013"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return tdt_model(tmp_path_factory.mktemp("models") / "parakeet").name


def config_of(model: str, **options: Any) -> dict[str, Any]:
    hear = {"engine": "onnx", "model": model, "vad": False, "language": "en", **options}
    return {
        "links": {"hear": {"module": "links.transcribe", "options": hear}},
        "chains": {
            "calls": {"links": ["hear"], "ingress_lists": ["calls"], "egress_lists": ["heard"]}
        },
    }


def push(client: redis.Redis) -> None:
    """A stereo recording: each party says something of its own."""
    first, second = spoken("two four seven", bands=128), spoken("seven", 2, bands=128)
    second = np.pad(second, (0, len(first) - len(second)))
    dialog = {
        "type": "recording", "parties": [0, 1], "mediatype": "audio/wav",
        "encoding": "base64url", "body": encode_body(wav(first, second, rate_hz=16_000)),
    }  # fmt: skip
    parties = [{"name": "Ada"}, {"name": "Ben"}]
    vcon = {"vcon": "0.0.1", "uuid": UUID, "parties": parties, "dialog": [dialog]}
    client.set(f"vcon:{UUID}", orjson.dumps(vcon))
    client.rpush("calls", UUID)


def analyses(client: redis.Redis) -> dict[str, dict[str, Any]]:
    raw = client.get(f"vcon:{UUID}")
    assert isinstance(raw, bytes)
    found = {}
    for analysis in orjson.loads(raw)["analysis"]:
        body = analysis["body"]
        assert analysis["product"] == f"onnx-asr {version('onnx-asr')} (parakeet)"
        found[analysis["type"]] = orjson.loads(body) if isinstance(body, str) else body
    return found


@pytest.fixture(params=["1", "0"], ids=["transcriber", "in the worker"])
def daemon(
    request: pytest.FixtureRequest, tmp_path: Path, redis_url: str, model: str
) -> Iterator[Daemon]:
    one = Daemon(
        tmp_path / "host", redis_url, config_of(model), CONSERVER_TRANSCRIBERS=request.param
    )
    yield one.start()
    one.destroy()


def test_a_recording_becomes_words_with_times(daemon: Daemon, client: redis.Redis) -> None:
    push(client)
    daemon.until(lambda: client.llen("heard") == 1, 30)
    found = analyses(client)
    text = found["transcript"]["paragraphs"]["transcript"]
    assert text.replace("\n\n", " | ") == "Ada: two | Ben: seven | Ada: four seven"
    assert found["transcript"]["detected_language"] == "en"
    words = found["wtf_transcription"]["words"]
    assert [(word["text"], word["speaker"]) for word in words] == [
        ("two", 0), ("seven", 1), ("four", 0), ("seven", 0),
    ]  # fmt: skip
    # The first word of an utterance begins with its first sound, which is the chord here.
    assert [word["start"] for word in words] == pytest.approx([0.5, 1, 1.5, 2.5], abs=0.25)
    metadata = found["wtf_transcription"]["metadata"]
    assert (metadata["provider"], metadata["model"]) == ("nemo", "parakeet")
    assert "beam_size" not in metadata["options"]


def test_a_transcriber_of_it_that_is_killed_costs_no_call(
    tmp_path: Path, redis_url: str, client: redis.Redis, model: str
) -> None:
    daemon = Daemon(tmp_path / "host", redis_url, config_of(model))
    try:
        daemon.start()
        (pid,) = daemon.until(lambda: daemon.pids("transcriber"))
        os.kill(pid, signal.SIGKILL)
        push(client)
        daemon.until(lambda: client.llen("heard") == 1, 30)
        assert analyses(client)["transcript"]["transcript"] == "two seven four seven"
    finally:
        daemon.destroy()

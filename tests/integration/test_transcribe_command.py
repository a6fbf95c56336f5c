"""`conserver transcribe`: files to text without a queue."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.unit.media.speech.real import DATA, TINY
from tests.unit.media.speech.tones import ctc_model

CALLS = DATA / "calls"


def transcribe(*words: str | Path, cwd: Path = DATA) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "conserver", "transcribe", *words],
        capture_output=True, text=True, timeout=110, check=False, cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(DATA.parents[1]), "HF_HUB_OFFLINE": "1"},
    )  # fmt: skip


def test_text_comes_in_the_order_of_the_files_and_what_is_none_is_told(tmp_path: Path) -> None:
    broken = tmp_path / "broken.wav"
    broken.write_bytes(b"RIFF....")
    answer = transcribe(CALLS / "mono-8k.wav", broken, CALLS / "mono-16k.wav", "--model", TINY.name)
    assert answer.stdout == "yes please call seven two four\nthank you customer goodbye\n"
    assert "broken.wav: the recording" in answer.stderr
    assert answer.returncode == 1


def test_a_file_per_recording(tmp_path: Path) -> None:
    answer = transcribe(
        CALLS / "stereo.wav", "--model", TINY.name, "--format", "verbose_json", "-o", tmp_path
    )
    assert (answer.returncode, answer.stdout) == (0, "")
    body = json.loads((tmp_path / "stereo.json").read_text())
    assert body["text"].startswith("hello customer hello agent")


def test_onnx_asr_writes_what_its_model_knows(tmp_path: Path) -> None:
    """Real speech is no tones, so which of the words is of no interest."""
    folder = ctc_model(tmp_path / "parakeet").name
    answer = transcribe(
        CALLS / "mono-8k.wav", "--engine", "onnx", "--model", folder, "--format", "verbose_json"
    )
    assert (answer.returncode, answer.stderr) == (0, "")
    said = json.loads(answer.stdout)["text"].split()
    assert said
    assert set(said) <= {"seven", "four", "two"}


def test_what_onnx_asr_cannot_do_is_refused_before_anything_is_loaded(tmp_path: Path) -> None:
    folder = ctc_model(tmp_path / "parakeet").name
    for words, told in (
        (["--model", folder, "--translate"], "--translate: --engine onnx has none"),
        (["--model", folder, "--quantization", "int8"], "it lacks model?int8.onnx"),
    ):
        answer = transcribe(CALLS / "mono-8k.wav", "--engine", "onnx", *words)
        assert answer.returncode == 2, words
        assert told in " ".join(answer.stderr.split()), answer.stderr


def test_wrong_words_are_refused_before_anything_is_loaded() -> None:
    for words in (
        ["--model", "/nowhere"],
        ["--format", "docx", "--model", TINY.name],
        ["--language", "klingon", "--model", TINY.name],
    ):
        answer = transcribe(CALLS / "mono-8k.wav", *words)
        assert answer.returncode == 2, words
        assert words[0] in answer.stderr

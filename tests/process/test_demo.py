"""scripts/demo with its Redis, its daemon and its recordings; no process is left when it ends."""

from __future__ import annotations

import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import httpx
import orjson
import pytest
from demorun.__main__ import CALLS
from demorun.english import english_model
from demorun.stage import TINY_MODEL, Model

from tests.helpers import eventually
from tests.installation import is_installed
from tests.unit.media.speech.real import english

ROOT = Path(__file__).parents[2]
SAID = {
    "dual-mono": "yes please call seven two four",
    "mono-16k": "thank you customer goodbye",
    "mono-8k": "yes please call seven two four",
    "silence": "",
    "stereo": "hello customer hello agent please help yes please call seven two four"
    " four two seven thank you goodbye",
}
_TIMEOUT_S = 180


class Demo:
    """The demo in its own data folder, without the installation that precedes it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.process: subprocess.Popen[str] | None = None

    def start(self, *words: str) -> subprocess.Popen[str]:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "demorun", "--data", str(self.folder), *words],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": f"{ROOT / 'scripts'}:{ROOT}"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        return self.process

    def __call__(self, *words: str) -> tuple[int, str]:
        """Run it until it exits. Returns the exit code and the output."""
        process = self.start(*words)
        output, _ = process.communicate(timeout=_TIMEOUT_S)
        return process.returncode, output

    def running(self) -> list[str]:
        """The command lines of the processes in its folder: its Redis and its daemon."""
        found = []
        for entry in Path("/proc").iterdir():
            try:
                if entry.name.isdigit() and (entry / "cwd").readlink().is_relative_to(self.folder):
                    found.append((entry / "cmdline").read_text())
            except OSError:
                continue
        return found

    def transcripts(self) -> dict[str, str]:
        """The transcripts in the database, by subject."""
        with closing(sqlite3.connect(self.folder / "vcons.db")) as database:
            rows = database.execute("SELECT vcon FROM vcons").fetchall()
        found = {}
        for (text,) in rows:
            vcon = orjson.loads(text)
            bodies = [a["body"] for a in vcon["analysis"] if a["type"] == "transcript"]
            assert len(bodies) == 1, "each was transcribed once"
            found[vcon["subject"]] = bodies[0]["transcript"]
        return found

    def files(self) -> set[str]:
        """The subjects of the vCons in the file storage."""
        paths = (self.folder / "files").glob("*/*/*/*.json")
        return {orjson.loads(path.read_bytes())["subject"] for path in paths}


@pytest.fixture
def demo() -> Iterator[Demo]:
    """A demo that is killed after the test.

    Its folder has a short name, because Rich continues a long one on the next line.
    """
    with tempfile.TemporaryDirectory(prefix="demo-") as folder:
        made = Demo(Path(folder, "data"))
        yield made
        if made.process is not None:
            made.process.kill()
            made.process.communicate()
        eventually(lambda: not made.running())


def test_every_sample_arrives_is_shown_and_is_found(demo: Demo) -> None:
    code, output = demo()
    assert code == 0, output
    assert demo.transcripts() == SAID
    assert demo.files() == set(SAID)
    eventually(lambda: not demo.running())
    for name, text in SAID.items():
        assert f"{name}.wav" in output
        if name != "stereo":
            assert text in output
    assert re.search(r"party 1 +hello customer .*\n.*party 2 +hello agent please help", output)
    assert output.count("source:demo, desk:front") == len(SAID)
    assert output.count("vcons.db, uuid") == len(SAID)
    assert output.count("(nobody speaks)") == 1
    assert "hello [customer]" in output, "what the search has found"
    assert "WHERE vcons_text MATCH 'customer'" in output
    assert "What next" in output
    code, output = demo("--search", "goodbye customer")
    assert code == 0
    assert "thank you [customer] [goodbye]" in output
    assert demo("--search", "invoice")[0] == 1
    assert demo("--search", '"')[0] == 1


def test_killing_the_worker_loses_and_doubles_nothing(demo: Demo) -> None:
    code, output = demo("--kill")
    assert code == 0, output
    assert demo.transcripts() == SAID
    events = [word for word in output.split() if word.startswith(("child_", "items_"))]
    assert events == ["child_died", "items_returned", "child_ready"]


def test_own_recordings_and_other_files(demo: Demo, tmp_path: Path) -> None:
    mine = tmp_path / "my call ${x}.wav"
    shutil.copy(CALLS / "stereo.wav", mine)
    (tmp_path / "noise.mp3").write_bytes(b"no music " * 400)
    (tmp_path / "text.txt").write_text("no recording")
    words = [str(mine), str(tmp_path / "noise.mp3"), str(tmp_path / "text.txt")]
    code, output = demo(*words, "--model", str(TINY_MODEL))
    assert code == 1, output
    assert demo.transcripts() == {"my call ${x}": SAID["stereo"]}
    assert "knows 20 English words" in output
    assert re.search(r"dead +rejected: transcribe: dialog 0: the recording", output)
    assert re.search(r"refused +neither a vCon", output)


def test_real_english_is_understood_without_a_download(demo: Demo) -> None:
    english()  # Skips where its package is not installed.
    speech = CALLS.parent / "speech"
    code, output = demo(str(speech / "weather.wav"))
    assert code == 0, output
    assert "the smallest model of English there is" in output
    truth = orjson.loads((speech / "truth.json").read_text())["weather.wav"]
    spoken = {word for turn in truth for word in re.findall(r"[a-z]+", turn["text"].lower())}
    heard = set(re.findall(r"[a-z]+", demo.transcripts()["weather"].lower()))
    assert len(spoken & heard) > 0.7 * len(spoken), (spoken, heard)


def test_another_model_under_the_name_of_the_english_one_is_not_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "models_of_another"
    (package / "model").mkdir(parents=True)
    (package / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert english_model("models_of_another") is None, "no file"
    (package / "model" / "model.bin").write_bytes(b"another")
    assert english_model("models_of_another") is None
    assert english_model("no_such_package") is None


def test_searching_before_the_first_demo(demo: Demo) -> None:
    code, output = demo("--search", "hello")
    assert (code, "run scripts/demo first" in output) == (1, True)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_process_is_left_after_a_signal(demo: Demo, number: signal.Signals) -> None:
    process = demo.start("--stay", str(CALLS / "mono-16k.wav"))
    assert process.stdout is not None
    seen = ""
    while "Ctrl-C here ends it" not in seen:
        line = process.stdout.readline()
        assert line, seen
        seen += line
    told = re.search(r"The dashboard: (\S+)", seen + process.stdout.readline())
    assert told is not None
    assert "calls" in httpx.get(told[1], timeout=60).text
    # The supervisor, the coordinator, the worker, the API, the transcriber, multiprocessing's
    # helper for spawned children, and the Redis.
    eventually(lambda: len(demo.running()) == 7)
    if number == signal.SIGINT:
        assert "another demo is using" in Demo(demo.folder)()[1]
    process.send_signal(number)
    rest, _ = process.communicate(timeout=_TIMEOUT_S)
    eventually(lambda: not demo.running())
    if number == signal.SIGKILL:
        assert process.returncode == -signal.SIGKILL
    else:
        assert process.returncode == 0, rest
        assert "What next" in rest


def test_a_missing_file_or_model_is_reported(demo: Demo) -> None:
    code, output = demo("nowhere.wav")
    assert (code, "there is no nowhere.wav" in output) == (2, True)
    code, output = demo("--model", "/no/such/folder")
    assert (code, "/no/such/folder" in output) == (1, True)
    eventually(lambda: not demo.running())


def test_a_model_that_cannot_be_fetched_ends_it_soon(
    demo: Demo, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine without a network sees the reason at once, and not a timeout after ten minutes."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    code, output = demo("--model", "nobody/has-this")
    assert code == 1
    text = " ".join(output.split())
    assert "transcribe has failed 3 times: the model nobody/has-this cannot be" in text, output
    eventually(lambda: not demo.running())


def test_a_model_of_ones_own() -> None:
    """A folder is never looked up on the hub; a name may be; only our own model has more."""
    ours = {"model": str(TINY_MODEL), "language": "en", "compute_type": "float32"}
    assert Model().options() == ours
    assert Model("small").options() == {"model": "small", "local_files_only": False}
    folder = Model(str(ROOT), "de").options()
    assert folder == {"model": str(ROOT), "language": "de"}


def test_the_command_itself(tmp_path: Path) -> None:
    """The shell script finds its installation from any folder, and passes its arguments on."""
    if not is_installed("all", "demo"):
        pytest.skip("scripts/install has not been run for this code, and a test does not install")
    done = subprocess.run(
        [ROOT / "scripts" / "demo", "--data", str(tmp_path), "--search", "hello"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 1
    assert "run scripts/demo first" in done.stderr

"""`conserver transcribe`: files to text without a queue."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from tests.helpers import eventually
from tests.unit.media.speech.real import DATA, TINY
from tests.unit.media.speech.tones import ctc_model

CALLS = DATA / "calls"


ENVIRONMENT = {**os.environ, "PYTHONPATH": str(DATA.parents[1]), "HF_HUB_OFFLINE": "1"}


def transcribe(
    *words: str | Path, cwd: Path = DATA, failpoints: str = "", limited: bool = False
) -> subprocess.CompletedProcess[str]:
    """limited: no file and no shared memory may be larger than 4 KiB (8 of 512 bytes)."""
    limits = ["sh", "-c", 'ulimit -f 8; exec "$@"', "sh"] if limited else []
    return subprocess.run(
        [*limits, sys.executable, "-m", "conserver", "transcribe", *words],
        capture_output=True, text=True, timeout=110, check=False, cwd=cwd,
        # Python would write files of bytecode, cut them at the limit, and fail to read them later.
        env={**ENVIRONMENT, "CONSERVER_FAILPOINTS": failpoints, "PYTHONDONTWRITEBYTECODE": "1"},
    )  # fmt: skip


def test_text_comes_in_the_order_of_the_files_and_what_is_none_is_told(tmp_path: Path) -> None:
    broken = tmp_path / "broken.wav"
    broken.write_bytes(b"RIFF....")
    first, last = CALLS / "mono-8k.wav", CALLS / "mono-16k.wav"
    answer = transcribe(first, broken, last, "--model", TINY.name)
    assert answer.stdout == (
        f"==> {first} <==\nyes please call seven two four\n"
        f"\n==> {last} <==\nthank you customer goodbye\n"
    )
    assert "broken.wav: the recording" in answer.stderr
    assert answer.returncode == 1


def test_a_name_with_a_newline_is_shown_on_one_line(tmp_path: Path) -> None:
    odd = tmp_path / "a\nb.wav"
    odd.write_bytes((CALLS / "mono-8k.wav").read_bytes())
    answer = transcribe(odd, CALLS / "mono-16k.wav", "--model", TINY.name)
    assert answer.stdout.splitlines()[0] == f"==> {tmp_path}/a\\nb.wav <=="


def test_output_that_cannot_be_written_is_told_in_one_line() -> None:
    words = ["transcribe", str(CALLS / "mono-8k.wav"), "--model", TINY.name]
    with Path("/dev/full").open("wb") as full:
        answer = subprocess.run(
            [sys.executable, "-m", "conserver", *words],
            stdout=full, stderr=subprocess.PIPE, text=True, timeout=110, check=False, cwd=DATA,
            env=ENVIRONMENT,
        )  # fmt: skip
    told = "conserver: standard output or a file cannot be written: No space left on device\n"
    assert (answer.returncode, answer.stderr) == (1, told)


def test_each_of_several_objects_in_json_names_its_file() -> None:
    files = ["calls/mono-8k.wav", "calls/mono-16k.wav"]
    answer = transcribe(*files, "--model", TINY.name, "--format", "json")
    found = [json.loads(line) for line in answer.stdout.splitlines()]
    assert [one["file"] for one in found] == files
    assert [one["text"].split()[0] for one in found] == ["yes", "thank"]


def test_what_the_system_refuses_is_not_told_of_the_recording() -> None:
    """The windows of a recording are shared memory, which has a limit here."""
    unreadable = "/proc/self/mem"  # its first page is nobody's
    answer = transcribe(CALLS / "mono-8k.wav", unreadable, "--model", TINY.name, limited=True)
    assert (answer.returncode, answer.stdout) == (1, "")
    assert "mono-8k.wav: cannot be transcribed: File too large" in answer.stderr
    assert f"{unreadable}: cannot be read: " in answer.stderr


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


def test_what_cannot_be_written_is_refused_before_anything_is_loaded(tmp_path: Path) -> None:
    """Two texts in one file, a text over a recording, and a folder that is none."""
    call, again = CALLS / "mono-8k.wav", tmp_path / "mono-8k.mp3"
    again.symlink_to(call)
    text = tmp_path / "call.txt"
    text.symlink_to(call)
    for files, folder, told in (
        ([call, again], tmp_path / "out", "would both be written to"),
        ([text], tmp_path, f"the recording {text} would be lost"),
        ([call], text, "cannot be written to: File exists"),
        ([call], text / "out", "cannot be written to: Not a directory"),
    ):
        answer = transcribe(*files, "--model", TINY.name, "-o", folder)
        assert (answer.returncode, answer.stdout) == (2, ""), answer
        assert told in answer.stderr
        assert "--output" in answer.stderr


def test_a_recording_without_speech_says_so() -> None:
    answer = transcribe(CALLS / "silence.wav", "--model", TINY.name)
    assert (answer.returncode, answer.stdout) == (0, "")
    assert answer.stderr.endswith("silence.wav: no speech was found\n")


def test_on_a_terminal_its_progress_is_shown(tmp_path: Path) -> None:
    """Also of a name that Rich would take for a style."""
    call = tmp_path / "call[bold].wav"
    call.write_bytes((CALLS / "mono-8k.wav").read_bytes())
    terminal, end = os.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "conserver", "transcribe", call, "--model", TINY.name],
        stdout=subprocess.PIPE, stderr=end, cwd=DATA, env={**ENVIRONMENT, "TERM": "xterm"},
    ) as command:  # fmt: skip
        os.close(end)
        told = _all_of(terminal)
        out, _ = command.communicate(timeout=60)
    assert (command.returncode, out) == (0, b"yes please call seven two four\n"), told
    assert b"call[bold].wav" in told


def test_a_line_longer_than_the_terminal_stays_one_line() -> None:
    words: list[str | Path] = [sys.executable, "-m", "conserver", "transcribe"]
    words += ["--model", TINY.name]
    words += [*[CALLS / "mono-8k.wav"] * 2, "--format", "json"]
    terminal, end = os.openpty()
    environ = {**ENVIRONMENT, "TERM": "xterm", "COLUMNS": "20"}
    with subprocess.Popen(words, stdout=end, stderr=end, cwd=DATA, env=environ) as command:
        os.close(end)
        told = _all_of(terminal)
        assert command.wait(60) == 0, told
    [line, _] = transcribe(*words[4:]).stdout.splitlines()
    assert len(line) > 40
    assert told.count(line.encode()) == 2


def test_a_recording_that_ends_transcribers_does_not_hold_up_the_command() -> None:
    answer = transcribe(CALLS / "mono-8k.wav", "--model", TINY.name, failpoints="batch:kill")
    assert (answer.returncode, answer.stdout) == (1, "")
    assert "mono-8k.wav: the speech on channel 0" in answer.stderr
    assert "ended the transcriber 3 times" in answer.stderr


def test_an_interrupt_ends_it_and_begins_nothing_more(tmp_path: Path) -> None:
    """As Ctrl-C does, it reaches the transcriber, too."""
    cut = tmp_path / "cut.wav"
    cut.write_bytes((CALLS / "mono-16k.wav").read_bytes()[:-1000])
    # So many that the last one's turn is long after the interrupt, however late that is noticed.
    files = [*[CALLS / "mono-8k.wav"] * 400, cut]
    with subprocess.Popen(
        [sys.executable, "-m", "conserver", "transcribe", *files, "--model", TINY.name],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=DATA, process_group=0,
        env={**ENVIRONMENT, "CONSERVER_FAILPOINTS": "batch:stop"},
    ) as command:  # fmt: skip
        eventually(lambda: _stopped_child(command.pid), timeout_s=60)
        os.killpg(command.pid, signal.SIGINT)
        eventually(lambda: _is_over(command), timeout_s=60)
        out, error = command.communicate(timeout=60)
    assert (command.returncode, out, error) == (130, b"", b"")


def test_an_interrupt_waits_for_no_recording(tmp_path: Path) -> None:
    """A pipe into which nobody writes takes longer than any recording."""
    broken, pipe, told = tmp_path / "broken.wav", tmp_path / "call.wav", tmp_path / "told"
    broken.write_bytes(b"RIFF....")
    os.mkfifo(pipe)
    files = [str(broken), str(pipe)]
    words = [sys.executable, "-m", "conserver", "transcribe", "--model", TINY.name, *files]
    with (
        told.open("wb") as error,
        subprocess.Popen(
            words, stdout=subprocess.PIPE, stderr=error, cwd=DATA, process_group=0, env=ENVIRONMENT
        ) as command,
    ):
        try:
            # The threads of both have begun by then.
            eventually(lambda: told.read_text().endswith("\n"), timeout_s=60)
            [transcriber] = [
                pid
                for pid in _children(command.pid)
                if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()
            ]
            os.killpg(command.pid, signal.SIGINT)
            out, _ = command.communicate(timeout=60)
        finally:
            command.kill()
    assert (command.returncode, out, len(told.read_text().splitlines())) == (130, b"", 1)
    assert not Path(f"/proc/{transcriber}").exists()


def _children(parent: int) -> list[int]:
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text()
    return [int(pid) for pid in children.split()]


def _all_of(terminal: int) -> bytes:
    """What is written to a terminal until nobody has it open any more; closes it."""
    told = b""
    try:
        while more := os.read(terminal, 65_536):
            told += more
    except OSError as error:
        if error.errno != errno.EIO:  # As Linux says that it ends.
            raise
    finally:
        os.close(terminal)
    return told


def _is_over(command: subprocess.Popen[bytes]) -> bool:
    """Whether it has ended. Until then its transcriber goes on, from one stop to the next."""
    stopped = command.poll() is None and _stopped_child(command.pid)
    if stopped:
        os.kill(stopped, signal.SIGCONT)
    return command.returncode is not None


def _stopped_child(parent: int) -> int:
    """A child of a process that is stopped; 0 if there is none."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # It ends meanwhile.
        for pid in _children(parent):
            if Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].startswith("T"):
                return pid
    return 0

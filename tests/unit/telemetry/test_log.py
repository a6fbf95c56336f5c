"""Log lines: their shape, what they hide, and that nothing about them can hurt the process."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from conserver.telemetry.log import LINE_BYTES_MAX, LineWriter, Renderer

ROOT = Path(__file__).parents[3]


class Lines:
    """A pipe and what came out of it."""

    def __init__(self) -> None:
        self.read_fd, self.write_fd = os.pipe()

    def take(self) -> list[dict[str, Any]]:
        os.set_blocking(self.read_fd, False)
        data = b""
        while True:
            try:
                chunk = os.read(self.read_fd, 1 << 16)
            except BlockingIOError:
                break
            if not chunk:
                break
            data += chunk
        return [orjson.loads(line) for line in data.splitlines()]

    def fill(self) -> None:
        """Writes until the pipe takes no more."""
        os.set_blocking(self.write_fd, False)
        with contextlib.suppress(BlockingIOError):
            while os.write(self.write_fd, b"{}\n" * 1000):
                pass
        os.set_blocking(self.write_fd, True)

    def close(self) -> None:
        for fd in (self.read_fd, self.write_fd):
            if fd >= 0:
                os.close(fd)


@pytest.fixture
def lines() -> Iterator[Lines]:
    """A pipe that log lines are written to."""
    found = Lines()
    yield found
    found.close()


def renderer(lines: Lines) -> Renderer:
    return Renderer({"worker": 2}, LineWriter(lines.write_fd), as_text=False)


def run_python(code: str, **environ: str) -> subprocess.CompletedProcess[bytes]:
    """Runs `code` in an interpreter of its own: what `configure` sets is the process's."""
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], **environ},
        capture_output=True,
        timeout=90,
        check=False,
    )


CONFIGURE = """
import os
from conserver.config import settings
from conserver.telemetry import log
found = settings.load(os.environ)
log.configure({role!r}, {slot}, level=found.log_level, shape=found.log_format)
logger = log.get_logger()
"""


def test_the_shape_of_a_line(lines: Lines) -> None:
    """Time, level, event and speaker come first; what was bound follows, numbers as numbers."""
    renderer(lines).emit("info", {"event": "settled", "vcon": "u1", "duration_ms": 1.5, "n": None})
    (line,) = lines.take()
    assert list(line) == ["timestamp", "level", "event", "worker", "vcon", "duration_ms", "n"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line.pop("timestamp"))
    assert line == {
        "level": "info",
        "event": "settled",
        "worker": 2,
        "vcon": "u1",
        "duration_ms": 1.5,
        "n": None,
    }


def test_text_for_people_is_one_line_that_cannot_drive_their_terminal(lines: Lines) -> None:
    """What a producer pushed and what a server answered is shown, not obeyed."""
    as_text = Renderer({"worker": 2}, LineWriter(lines.write_fd), as_text=True)
    try:
        raise ValueError("\x1b[2J")
    except ValueError as error:
        line = as_text.render(
            "error", {"event": "e\x07", "vcon": "u\x1b]0;t\nx", "error": "", "exc_info": error}
        )
    assert re.search(rb"e\\x07 .* vcon=u\\x1b\]0;t\\nx error=\"\"\nTraceback", line)
    assert line.endswith(b"ValueError: \\x1b[2J\n")


def test_secrets_are_hidden(lines: Lines) -> None:
    """By name and inside URLs, also within nested values and tracebacks."""
    try:
        raise ValueError("no answer from redis://u:pa55@h")
    except ValueError as error:
        renderer(lines).emit(
            "error",
            {
                "event": "at redis://u:pa55@h",
                "url": "postgresql://u:pa55@h/d",
                "password": "pa55",
                "options": {"api_key": "pa55", "hosts": ["redis://:pa55@h"]},
                "exc_info": error,
            },
        )
    (line,) = lines.take()
    assert "pa55" not in str(line)
    assert line["url"] == "postgresql://u:***@h/d"
    assert "ValueError: no answer from redis://u:***@h" in line["exception"]


class Unshowable:
    """An object whose text cannot be had."""

    def __repr__(self) -> str:
        raise RuntimeError("no")

    __str__ = __repr__


@pytest.mark.parametrize(
    "value",
    [Unshowable(), 1 << 80, "lone \ud800", {1: {2: 3}}, {("a", 1): 1}, b"\xff\x00", {1, 2}, 1e400],
)
def test_any_value_gives_a_line(lines: Lines, value: object) -> None:
    """Whatever is logged, a line of JSON comes out, with its neighbours in it."""
    renderer(lines).emit("info", {"event": "e", "value": value, "vcon": "u1"})
    (line,) = lines.take()
    assert line["event"] == "e"
    assert line["vcon"] == "u1"
    assert "value" in line


def test_a_long_line_is_cut_to_what_a_pipe_takes_whole(lines: Lines) -> None:
    """Long texts lose their ends, a traceback its beginning; who and what stays."""
    try:
        raise ValueError("x" * 10_000 + " the end")
    except ValueError as error:
        data = renderer(lines).render(
            "error",
            {"event": "e", "vcon": "u1", "body": "ä" * 10_000, "exc_info": error},
        )
    assert len(data) <= LINE_BYTES_MAX
    line = orjson.loads(data)
    assert line["vcon"] == "u1"
    assert line["exception"].rstrip().endswith("the end")
    assert line["body"].startswith("äää")
    assert "characters left out" in line["body"]


def test_a_line_of_many_fields_is_cut_too(lines: Lines) -> None:
    """A thousand short fields cannot be shortened: what happened is said, the rest is dropped."""
    fields = {f"field_{n}": "y" * 20 for n in range(1000)}
    data = renderer(lines).render("info", {"event": "e", **fields})
    assert len(data) <= LINE_BYTES_MAX
    assert orjson.loads(data)["event"] == "e"


def test_a_closed_output_is_survived(lines: Lines) -> None:
    """The reader is gone, then the descriptor itself: lines are counted and nothing raises."""
    found = renderer(lines)
    os.close(lines.read_fd)
    lines.read_fd = -1
    found.emit("info", {"event": "nobody reads"})
    os.close(lines.write_fd)
    lines.write_fd = -1
    found.emit("info", {"event": "no descriptor"})
    assert found.writer.lost == 2


def test_a_reader_that_stopped_holds_nobody_up(lines: Lines) -> None:
    """A full pipe costs one short wait, then nothing; lost lines are counted and told later."""
    found = renderer(lines)
    lines.fill()
    began = time.monotonic()
    for _ in range(1000):
        found.emit("info", {"event": "lost"})
    assert time.monotonic() - began < 30
    assert found.writer.lost == 1000
    lines.take()
    found.emit("info", {"event": "there again"})
    found.emit("info", {"event": "and well"})
    first, second = [line for line in lines.take() if line]
    assert first["log_lines_lost"] == 1000
    assert "log_lines_lost" not in second


def test_threads_share_a_writer(lines: Lines) -> None:
    """Lines of several threads come out whole."""
    found = renderer(lines)

    def speak(name: int) -> None:
        for n in range(50):
            found.emit("info", {"event": "e", "thread": name, "n": n})

    threads = [threading.Thread(target=speak, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    said = {(line["thread"], line["n"]) for line in lines.take()}
    assert said == {(name, n) for name in range(8) for n in range(50)}


def test_text_on_a_terminal(lines: Lines) -> None:
    """Text lines have clock, level, event and fields; a traceback follows as it is."""
    found = Renderer({"worker": 2}, LineWriter(lines.write_fd), as_text=True)
    text = found.render("warning", {"event": "slow", "link": "tag", "why": "two words"}).decode()
    assert re.fullmatch(
        r'\d\d:\d\d:\d\d\.\d{3} WARNING  slow  worker=2 link=tag why="two words"\n', text
    )
    text = found.render("error", {"event": "bad", "exc_info": ValueError("no")}).decode()
    assert text.endswith("\nValueError: no\n")


def test_a_worker_speaks_as_a_worker() -> None:
    """Every line says who speaks, whatever the logger was bound to."""
    done = run_python(
        CONFIGURE.format(role="worker", slot=3) + 'logger.bind(vcon="u").info("hi", n=1)'
    )
    line = orjson.loads(done.stdout)
    assert (line["worker"], line["vcon"], line["n"], line["event"]) == (3, "u", 1, "hi")
    assert done.stderr == b""


def test_others_speak_by_their_role() -> None:
    """The supervisor's lines carry its role, and the level is the method's name."""
    done = run_python(CONFIGURE.format(role="supervisor", slot=0) + 'logger.error("oh")')
    line = orjson.loads(done.stdout)
    assert (line["role"], line["level"]) == ("supervisor", "error")
    assert "worker" not in line


def test_the_level_is_kept() -> None:
    """At WARNING an info call writes nothing; debug is heard when asked for."""
    code = CONFIGURE.format(role="worker", slot=1) + "logger.debug('d'); logger.info('i')"
    assert run_python(code, LOG_LEVEL="WARNING").stdout == b""
    assert run_python(code, LOG_LEVEL="INFO").stdout.count(b"\n") == 1
    assert run_python(code, LOG_LEVEL="DEBUG").stdout.count(b"\n") == 2


def test_libraries_speak_in_our_shape() -> None:
    """Standard logging and warnings come out as lines; a library's INFO is not heard at INFO."""
    done = run_python(
        CONFIGURE.format(role="worker", slot=1)
        + """
import logging, warnings
library = logging.getLogger("library")
library.info("a request")
library.warning("attempt %s at %s", 2, "redis://u:pa55@h")
library.warning("broken %d", "format")
warnings.warn("old ways")
try: 1 / 0
except ZeroDivisionError: library.exception("failed")
"""
    )
    found = [orjson.loads(line) for line in done.stdout.splitlines()]
    assert [line["event"] for line in found[:2]] == ["attempt 2 at redis://u:***@h", "broken %d"]
    assert "old ways" in found[2]["event"]
    assert (found[3]["event"], found[3]["logger"]) == ("failed", "library")
    assert "ZeroDivisionError" in found[3]["exception"]


def test_last_words_are_lines() -> None:
    """What ends a thread or the process is logged as a line, not printed as a traceback."""
    done = run_python(
        CONFIGURE.format(role="worker", slot=1)
        + """
import threading
def work(): raise ValueError("in a thread")
thread = threading.Thread(target=work, name="chain-1"); thread.start(); thread.join()
raise RuntimeError("at the end")
"""
    )
    first, second = [orjson.loads(line) for line in done.stdout.splitlines()]
    assert (first["event"], first["thread"]) == ("thread_died", "chain-1")
    assert "ValueError: in a thread" in first["exception"]
    assert second["event"] == "process_died"
    assert "RuntimeError: at the end" in second["exception"]
    assert done.stderr == b""
    assert done.returncode == 1


def test_a_terminal_gets_text_unless_json_is_asked_for() -> None:
    """`auto` looks at the descriptor; the setting overrules it."""
    code = CONFIGURE.format(role="worker", slot=1) + "logger.info('hi')"

    def on_terminal(**environ: str) -> bytes:
        main, terminal = pty.openpty()
        try:
            subprocess.run(
                [sys.executable, "-c", code],
                cwd=ROOT,
                env={"PATH": os.environ["PATH"], **environ},
                stdout=terminal,
                timeout=90,
                check=True,
            )
            return os.read(main, 4096)
        finally:
            os.close(main)
            os.close(terminal)

    assert b"hi  worker=1" in on_terminal()
    assert b"\x1b[32mINFO" in on_terminal(TERM="xterm")
    assert b"\x1b" not in on_terminal(TERM="xterm", NO_COLOR="1")
    assert b"\x1b" not in on_terminal(TERM="dumb")
    assert on_terminal(CONSERVER_LOG_FORMAT="json").startswith(b'{"timestamp"')
    assert b"hi  worker=1" in run_python(code, CONSERVER_LOG_FORMAT="console").stdout


def test_rich_is_not_imported_and_not_hidden() -> None:
    """Logging does without Rich, which costs every process 100 ms; whoever wants it has it."""
    done = run_python(
        "import sys; from conserver.telemetry import log;"
        "print('rich' in sys.modules); import rich.console"
    )
    assert (done.stdout, done.stderr) == (b"False\n", b"")

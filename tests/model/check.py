"""Runs the models: each line of ok.txt must have no error, each of mutants.txt one.

A run is spin (the model into C), a C compiler, and the checker that comes out. Used by
tests/model/test_model.py for the lines with a star, and by scripts/model for all of them.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
OK, MUTANTS = HERE / "ok.txt", HERE / "mutants.txt"

DEPTH, SMALL_DEPTH = 2_000_000, 100_000
"""How many steps long a path can be. A checker that meets a longer one says so."""

_CUT_SHORT = ("Search not completed", "max search depth too small")
_LINE = re.compile(r"(?P<star>[* ]) (?P<name>\S+) +(?P<model>\S+) *(?P<flags>.*)")
_STORED = re.compile(r"^ *(\d+) states, stored", re.MULTILINE)
_ERRORS = re.compile(r"errors: (\d+)")
_MEGABYTES = re.compile(r"([\d.]+)\s+total actual memory usage")


@dataclass(frozen=True)
class Run:
    """One line: which model, with which flags, and whether an error must be found."""

    name: str
    model: str
    flags: tuple[str, ...]
    faulty: bool
    short: bool


@dataclass(frozen=True)
class Result:
    """What a run found: how many errors (None: it did not end), and in how many states.

    `seconds` are those of the whole run, `megabytes` those of its checker (0: it did not end).
    """

    errors: int | None
    states: int
    report: str
    seconds: float
    megabytes: float

    def as_expected(self, run: Run) -> bool:
        """Whether a mutant was caught, and the model was not."""
        return self.errors is not None and bool(self.errors) == run.faulty


def runs() -> list[Run]:
    """All lines of both files."""
    found = []
    for file in (OK, MUTANTS):
        for line in file.read_text(encoding="utf-8").splitlines():
            match = _LINE.fullmatch(line)
            if match is not None and (HERE / f"{match['model']}.pml").exists():
                flags = tuple(match["flags"].split())
                short = match["star"] == "*"
                found.append(Run(match["name"], match["model"], flags, file is MUTANTS, short))
    return found


def _quick_compiler() -> list[str]:
    """For a small run, which is over before a good compiler has finished: TinyCC takes a fiftieth
    of gcc's time, and its program is as fast as one of `gcc -O0`."""
    return ["tcc"] if shutil.which("tcc") else ["gcc", "-O0"]


def check(run: Run, folder: Path, *, timeout_s: float, memory_mb: int) -> Result:
    """Check one line in an empty folder. Raises CalledProcessError if a model does not build."""
    started_s = time.monotonic()
    cycles = "cycles" in run.flags
    flags = [flag for flag in run.flags if flag != "cycles"]
    small = run.short or run.faulty
    if run.model == "live":
        build, search = ["-DNFAIR=4"], ["-a", "-f"]
    elif cycles:
        build, search = ["-DNP", "-DNOREDUCE", "-DCOLLAPSE"], ["-l"]
    else:
        # Compressing states takes half of the time, and few states need no compression.
        build, search = ["-DSAFETY", "-DNOCOMP" if run.short else "-DCOLLAPSE"], []
    # spin reads what a model includes from where it runs.
    for source in HERE.glob("*.pml"):
        (folder / source.name).write_bytes(source.read_bytes())
    compiler = _quick_compiler() if small else ["gcc", "-O2"]
    limits = [f"-DMEMLIM={memory_mb}", "-DVECTORSZ=1024"]
    for command in (
        ["spin", "-a", *flags, f"{run.model}.pml"],
        [*compiler, "-w", *limits, *build, "-o", "pan", "pan.c"],
    ):
        subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
    # The table and the stack are filled with zeros first, which takes longer than most small runs.
    depth, hash_bits = (SMALL_DEPTH, 20) if small else (DEPTH, 24)
    command = ["./pan", *search, f"-m{depth}", f"-w{hash_bits}"]
    try:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=timeout_s, check=False
        )
    except subprocess.TimeoutExpired:
        seconds = time.monotonic() - started_s
        return Result(None, 0, f"not over after {timeout_s:.0f} s", seconds, 0.0)
    errors, stored = _ERRORS.search(done.stdout), _STORED.search(done.stdout)
    memory = _MEGABYTES.search(done.stdout)
    complete = errors is not None and not any(sign in done.stdout for sign in _CUT_SHORT)
    count = int(errors[1]) if errors is not None and (complete or int(errors[1])) else None
    return Result(
        count,
        int(stored[1]) if stored else 0,
        done.stdout + done.stderr,
        time.monotonic() - started_s,
        float(memory[1]) if memory else 0.0,
    )

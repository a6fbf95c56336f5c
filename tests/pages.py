"""The documentation as tests see it: its fenced blocks, the commands in it, and a shell for them.

A block is a file if the paragraph before it ends in a name and a colon (Save this as `a.yml`:). In
a `console` block lines that begin with "$ " are commands, and what follows is what they print: with
`...` for whatever it may be there, and blanks as they come.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.helpers import eventually

ROOT = Path(__file__).resolve().parents[1]

_FENCE = re.compile(r"^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.DOTALL | re.MULTILINE)
_NAMED = re.compile(r"`(?P<name>[\w./-]+)`[^`\n]*:\s*\Z")
# Redis's client writes for people on a terminal, and for programs elsewhere.
_REDIS_FOR_PEOPLE = re.compile(r'^(?:\d+\) "(.*)"|\(integer\) (\d+))$')
_COMMAND_TIMEOUT_S = 120


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its text, its line in the page, and the file that it is."""

    page: str
    language: str
    text: str
    line: int
    name: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


@dataclass(frozen=True)
class Step:
    """A command of a `console` block, and what it prints; "" where the page does not say."""

    command: str
    output: str


def pages() -> list[Path]:
    """The README and every page of docs/."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(path: Path, language: str = "") -> list[Block]:
    """The fenced blocks of a page, of one language or of all."""
    text = path.read_text(encoding="utf-8")
    found = []
    for match in _FENCE.finditer(text):
        before = text[: match.start()]
        named = _NAMED.search(before)
        found.append(
            Block(
                page=str(path.relative_to(ROOT)),
                language=match["language"],
                text=match["text"],
                line=before.count("\n") + 1,
                name=named["name"] if named else "",
            )
        )
    return [block for block in found if language in ("", block.language)]


def steps(block: Block) -> Iterator[Step]:
    """The commands of a `console` block."""
    for part in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
        command, _, output = part.partition("\n")
        yield Step(command, output.strip())


def prose(path: Path) -> str:
    """A page without its fenced blocks."""
    return _FENCE.sub("", path.read_text(encoding="utf-8"))


class Shell:
    """Runs the steps of a page one after another, in a folder with an environment of its own."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self.folder = folder
        self._environment = {**os.environ, **environment}
        self._kept = frozenset(environment)

    def run(self, step: Step) -> None:
        """Run a command; it must succeed and print what the page says, a look in good time.

        What it exports stays; what the test has set is not changed by it.
        """
        if step.command.startswith("export "):
            name, _, value = step.command.removeprefix("export ").partition("=")
            if name not in self._kept:
                self._environment[name] = value.strip('"')
            return

        def ask() -> bool:
            printed = self._ask(step.command)
            assert matches(step.output, printed), f"$ {step.command}\n{printed}"
            return True

        eventually(ask, 20 if _only_looks(step.command) else 0)

    def _ask(self, command: str) -> str:
        done = subprocess.run(
            ["sh", "-c", command],
            cwd=self.folder,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=_COMMAND_TIMEOUT_S,
            check=False,
        )
        assert done.returncode == 0, f"$ {command}\n{done.stdout}{done.stderr}"
        return done.stdout


def matches(expected: str, printed: str) -> bool:
    """Whether this is what the page says."""
    if not expected:
        return True
    lines = [_REDIS_FOR_PEOPLE.sub(r"\1\2", line) for line in expected.splitlines()]
    parts = (_plain(part) for part in " ".join(lines).split("..."))
    return re.fullmatch(" ?.* ?".join(map(re.escape, parts)), _plain(printed)) is not None


def _plain(text: str) -> str:
    return " ".join(text.split())


def _only_looks(command: str) -> bool:
    looks = r"conserver (get|status|dlq (list|show)|check)|find |redis-cli .* (LRANGE|GET|LLEN) "
    return re.match(looks, command) is not None

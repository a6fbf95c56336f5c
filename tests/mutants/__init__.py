"""Reads tests/mutants/scripts.txt and python.txt, whose heads say what they are."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

FILE = Path(__file__).parent / "scripts.txt"
PYTHON = FILE.with_name("python.txt")


@dataclass
class Change:
    """What goes and what comes in one file; `old` must occur in it exactly once.

    `script` is the name of one of the queue's, without .lua, or any file's path in the project.
    """

    script: str
    old: str = ""
    new: str = ""

    def path(self, root: Path) -> Path:
        """The file, below a project's folder."""
        if "/" in self.script:
            return root / self.script
        return root / "conserver" / "queue" / f"{self.script}.lua"

    def applied_to(self, text: str) -> str:
        """The text with the mistake in it. Raises ValueError when it has moved on."""
        if text.count(self.old) != 1:
            raise ValueError(f"{self.script} does not hold this once:\n{self.old}")
        return text.replace(self.old, self.new)


@dataclass
class Mutant:
    """One mistake: changes that belong together, and the tests that must see it (none: those of
    the queue's scripts).
    """

    name: str
    changes: list[Change] = field(default_factory=list)
    tests: list[str] = field(default_factory=list)

    def apply(self, root: Path) -> dict[Path, str]:
        """Make the mistake in the project there; what its files held before."""
        before: dict[Path, str] = {}
        for change in self.changes:
            path = change.path(root)
            text = path.read_text(encoding="utf-8")
            before.setdefault(path, text)
            path.write_text(change.applied_to(text), encoding="utf-8")
        return before


def read(file: Path = FILE) -> list[Mutant]:
    """All mutants of a file, in order."""
    mutants: list[Mutant] = []
    for line in file.read_text(encoding="utf-8").splitlines():
        if line.startswith("@ "):
            mutants.append(Mutant(line[2:]))
        if line.startswith(("@ ", "& ")):
            mutants[-1].changes.append(Change(line[2:].partition(": ")[0]))
        elif line == "&":
            mutants[-1].changes.append(Change(mutants[-1].changes[-1].script))
        elif line.startswith("? "):
            mutants[-1].tests += line[2:].split()
        elif mutants and (line == "-" or line.startswith("- ")):
            mutants[-1].changes[-1].old += line[2:] + "\n"
        elif mutants and (line == "+" or line.startswith("+ ")):
            mutants[-1].changes[-1].new += line[2:] + "\n"
    for mutant in mutants:
        for change in mutant.changes:
            # Pieces of a line are replaced too: the last line break is not part of it.
            change.old, change.new = change.old[:-1], change.new[:-1]
    return mutants

"""Reads tests/mutants/scripts.txt, whose head says what it is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

FILE = Path(__file__).parent / "scripts.txt"


@dataclass
class Mutant:
    """One mistake. `script` is without .lua; `old` must occur in it exactly once."""

    script: str
    name: str
    old: str = ""
    new: str = ""

    def path(self, root: Path) -> Path:
        """The script, below a project's folder."""
        return root / "conserver" / "queue" / f"{self.script}.lua"

    def applied_to(self, text: str) -> str:
        """The script with the mistake in it. Raises ValueError when it has moved on."""
        if text.count(self.old) != 1:
            raise ValueError(f"{self.script}.lua does not hold this once:\n{self.old}")
        return text.replace(self.old, self.new)


def read(file: Path = FILE) -> list[Mutant]:
    """All mutants of a file, in order."""
    mutants: list[Mutant] = []
    for line in file.read_text(encoding="utf-8").splitlines():
        if line.startswith("@ "):
            script, _, name = line[2:].partition(": ")
            mutants.append(Mutant(script, name))
        elif mutants and (line == "-" or line.startswith("- ")):
            mutants[-1].old += line[2:] + "\n"
        elif mutants and (line == "+" or line.startswith("+ ")):
            mutants[-1].new += line[2:] + "\n"
    for mutant in mutants:
        # Pieces of a line are replaced too, so the last line break is not part of it.
        mutant.old, mutant.new = mutant.old[:-1], mutant.new[:-1]
    return mutants

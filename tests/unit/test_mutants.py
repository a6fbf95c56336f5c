"""The list of mistakes keeps in step with the scripts; scripts/mutants runs the tests with them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.mutants import Mutant, read

ROOT = Path(__file__).parent.parent.parent
MUTANTS = read()


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mistake_can_be_made_in_the_scripts_as_they_are(mutant: Mutant, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "conserver" / "queue", tmp_path / "conserver" / "queue")
    before = mutant.apply(tmp_path)
    assert before
    for path, text in before.items():
        assert path.read_text(encoding="utf-8") != text


def test_every_script_has_its_mistakes() -> None:
    scripts = {path.stem for path in (ROOT / "conserver" / "queue").glob("*.lua")}
    assert {change.script for mutant in MUTANTS for change in mutant.changes} == scripts


def test_no_two_mistakes_have_one_name() -> None:
    names = [mutant.name for mutant in MUTANTS]
    assert len(set(names)) == len(names)

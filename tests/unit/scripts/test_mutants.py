"""The lists of mistakes keep in step with the code; scripts/mutants runs the tests with them."""

from __future__ import annotations

import ast
import shutil
from pathlib import Path

import pytest

from tests.mutants import PYTHON, Mutant, read

ROOT = Path(__file__).parents[3]
MUTANTS = read()
OF_PYTHON = read(PYTHON)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mistake_can_be_made_in_the_scripts_as_they_are(mutant: Mutant, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "conserver" / "queue", tmp_path / "conserver" / "queue")
    before = mutant.apply(tmp_path)
    assert before
    for path, text in before.items():
        assert path.read_text(encoding="utf-8") != text


@pytest.mark.parametrize("mutant", OF_PYTHON, ids=lambda mutant: mutant.name)
def test_a_mistake_can_be_made_in_the_code_as_it_is(mutant: Mutant, tmp_path: Path) -> None:
    for change in mutant.changes:
        path = change.path(tmp_path)
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(change.path(ROOT), path)
    for path, text in mutant.apply(tmp_path).items():
        changed = path.read_text(encoding="utf-8")
        assert changed != text
        ast.parse(changed)
    assert mutant.tests
    for word in mutant.tests:
        assert not word.startswith("tests/") or (ROOT / word).exists(), word


def test_every_script_has_its_mistakes() -> None:
    scripts = {path.stem for path in (ROOT / "conserver" / "queue").glob("*.lua")}
    assert {change.script for mutant in MUTANTS for change in mutant.changes} == scripts


def test_no_two_mistakes_have_one_name() -> None:
    names = [mutant.name for mutant in (*MUTANTS, *OF_PYTHON)]
    assert len(set(names)) == len(names)

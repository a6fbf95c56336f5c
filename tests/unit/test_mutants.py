"""The list of mistakes keeps in step with the scripts; scripts/mutants runs the tests with them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.mutants import Mutant, read

ROOT = Path(__file__).parent.parent.parent
MUTANTS = read()


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: f"{mutant.script}: {mutant.name}")
def test_a_mistake_can_be_made_in_the_script_as_it_is(mutant: Mutant) -> None:
    text = mutant.path(ROOT).read_text(encoding="utf-8")
    assert mutant.applied_to(text) != text


def test_every_script_has_its_mistakes() -> None:
    scripts = {path.stem for path in (ROOT / "conserver" / "queue").glob("*.lua")}
    assert {mutant.script for mutant in MUTANTS} == scripts


def test_no_two_mistakes_have_one_name() -> None:
    names = [(mutant.script, mutant.name) for mutant in MUTANTS]
    assert len(set(names)) == len(names)

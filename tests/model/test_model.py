"""The protocol's models: no error in them, and every mistake that is put into them is found.

These are the small runs, which end in seconds; `scripts/model` makes all of them.
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import pytest

from tests.model.check import HERE, Run, check, runs
from tests.mutants import PYTHON, read

RUNS = runs()
SHORT = [run for run in RUNS if run.short]
TIMEOUT_S = 120
MEMORY_MB = 3500


@pytest.fixture(scope="module")
def spin() -> None:
    """The programs, or a reason why not; where CI runs there is no excuse."""
    missing = [name for name in ("spin", "gcc") if shutil.which(name) is None]
    if missing and os.environ.get("CI") == "true":
        pytest.fail(f"CI must have {' and '.join(missing)}", pytrace=False)
    if missing:
        pytest.skip(f"{' and '.join(missing)} not installed")


@pytest.mark.slow
@pytest.mark.timeout(TIMEOUT_S + 60)
@pytest.mark.usefixtures("spin")
@pytest.mark.parametrize("run", SHORT, ids=lambda run: f"{run.model}-{run.name}")
def test_the_model_is_right_and_its_mutants_are_wrong(run: Run, tmp_path: Path) -> None:
    result = check(run, tmp_path, timeout_s=TIMEOUT_S, memory_mb=MEMORY_MB)
    assert result.as_expected(run), result.report
    assert result.states > (3 if result.errors == 0 else 1)  # a mutant may go wrong at once


def test_no_two_runs_have_one_name() -> None:
    names = [(run.model, run.name) for run in RUNS]
    assert len(set(names)) == len(names)
    assert len(RUNS) > 100


def test_every_mistake_of_a_model_is_made_in_a_run() -> None:
    made = {flag.removeprefix("-D") for run in RUNS if run.faulty for flag in run.flags}
    made |= {flag.removeprefix("-D") for run in RUNS for flag in run.flags}
    for source in HERE.glob("*.pml"):
        known = set(re.findall(r"\b[ML]_[A-Z_]+[A-Z]\b", source.read_text(encoding="utf-8")))
        assert known - made == set(), source.name


def test_what_is_wrong_in_scripts_and_python_too_has_the_same_name_here() -> None:
    modelled = {run.name for run in RUNS if run.faulty}
    for mutant in (*read(), *read(PYTHON)):
        # What follows the name says where, or how far, it is the same.
        name = mutant.name.partition(": ")[2].partition(" ")[0]
        if "_" in name:
            assert name in modelled, mutant.name

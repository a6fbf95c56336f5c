"""Every case that went wrong elsewhere keeps its test: cases.txt says which ones."""

from __future__ import annotations

from pathlib import Path

from tests.test_tidy import report, tree_of

TESTS = Path(__file__).parent


def test_every_case_has_its_test() -> None:
    lines = (TESTS / "cases.txt").read_text(encoding="utf-8").splitlines()
    cases = [line.split() for line in lines if line and not line.startswith("#")]
    assert cases
    found = [
        f"{case}: {file} has no {name}"
        for case, file, name in cases
        if name not in {getattr(node, "name", "") for node in tree_of(TESTS / file).body}
    ]
    report(found, "tests/cases.txt names tests that are not there: name those that show it now")

"""The pages for contributors name files, tests and attributes that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import conserver

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "first-hour.md").read_text()
MADE_BY_THE_READER = {"storage/table.py"}


def test_its_paths_exist() -> None:
    found = set(re.findall(r"\b((?:conserver|docs|storage|tests|scripts)/[\w/.-]*\w)", PAGE))
    assert {path for path in found if not (ROOT / path).exists()} == MADE_BY_THE_READER


def test_its_tests_exist() -> None:
    outcomes = (ROOT / "tests" / "unit" / "worker" / "test_outcomes.py").read_text()
    [name] = re.findall(r"-k (test_written\w+)", PAGE)
    assert len(re.findall(rf"def {name}", outcomes)) == 1
    contract = (ROOT / "conserver" / "testing" / "storages.py").read_text()
    assert "def test_it_can_be_read_while_it_is_written" in contract


def test_its_breakpoints_exist() -> None:
    parts = re.findall(r"b worker\.(\w+)\.\w+", PAGE)
    assert parts
    workers = (ROOT / "tests" / "workers.py").read_text()
    for part in parts:
        assert re.search(rf"self\.{part}\b.* = ", workers)


@pytest.mark.parametrize("text", ["glossary", "architecture.md"])
def test_the_files_that_show_the_way_exist(text: str) -> None:
    shown = str(conserver.__doc__)
    if text != "glossary":
        shown = (ROOT / "docs" / text).read_text()
    for name in set(re.findall(r"\b((?:[a-z_]+/)+[a-z_]+\.(?:py|lua))\b", shown)):
        folders = ("conserver", ".", "tests")
        assert any((ROOT / folder / name).exists() for folder in folders), name

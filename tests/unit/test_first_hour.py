"""The pages for contributors name files, tests and attributes that exist."""

from __future__ import annotations

import inspect
import re
import sys
from pathlib import Path
from textwrap import dedent, indent
from types import ModuleType
from typing import Any

import pytest

import conserver
from conserver.errors import ConfigError
from conserver.links import tag
from tests.unit.links import test_tag

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


def test_its_change_of_a_link_passes_its_test(monkeypatch: pytest.MonkeyPatch) -> None:
    code = [dedent(block) for block in re.findall(r"^ +```python\n(.*?)```", PAGE, re.M | re.S)]
    test, option, loop = code[:3]
    there: dict[str, Any] = {**vars(test_tag)}
    exec(test, there)
    with pytest.raises(ConfigError, match=r"lower: is not known here \(known: tags\)"):
        there["test_tags_can_be_added_in_lower_case"]()

    head, rest = inspect.getsource(tag).split("\n\n    @field_validator", 1)
    before, run = rest.split("    for name, value in options.tags:\n", 1)
    changed = ModuleType("changed_tag")
    monkeypatch.setitem(sys.modules, "changed_tag", changed)
    options = f"{head}\n{indent(option, '    ')}\n    @field_validator"
    exec(f"{options}{before}{indent(loop, '    ')}{run.split(chr(10), 1)[1]}", vars(changed))
    there["tag"] = changed
    there["test_tags_can_be_added_in_lower_case"]()


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

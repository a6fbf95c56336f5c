"""Modules of links and storages that a test writes itself."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], str]]:
    """Writes a module that can be imported for one test, and gives its name."""
    monkeypatch.syspath_prepend(tmp_path)
    made: list[str] = []

    def write_module(text: str) -> str:
        name = f"plugin_{uuid4().hex}"
        (tmp_path / f"{name}.py").write_text(text, encoding="utf-8")
        made.append(name)
        return name

    yield write_module
    for name in made:
        sys.modules.pop(name, None)

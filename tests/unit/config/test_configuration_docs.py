"""docs/configuration.md says what the code does: its tables, its example, its claims."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from conserver.config import model as config
from conserver.plugins import loader as plugins

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "configuration.md"


def test_the_tables_are_what_the_models_say() -> None:
    """scripts/docs --check finds nothing to write."""
    done = subprocess.run(
        [sys.executable, "scripts/docs", "--check"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_example_is_right() -> None:
    """The page's first YAML loads, without warnings, and so do the plugins that it names."""
    text, *_ = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    found = config.parse(text, {"TEAM": "sales"})
    assert found.warnings == ()
    assert found.links["mark"].options == {"tags": ["team:sales"]}
    assert plugins.load(found).storages.keys() == {"main_database"}

"""Whether scripts/install would do something here: a test must not install anything."""

from __future__ import annotations

import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
_MARKS = {"all": ".installed", "demo": ".installed-demo"}


def is_installed(*pins: str) -> bool:
    """Whether .venv has what one of these files in scripts/pins and today's pyproject.toml say."""
    return any(_is_current(name) for name in pins)


def _is_current(pins: str) -> bool:
    sums = f"$(cat pyproject.toml scripts/pins/{pins}.txt | cksum)"
    command = f'[ "{sums}" = "$(cat .venv/{_MARKS[pins]})" ]'
    done = subprocess.run(["sh", "-c", command], cwd=ROOT, check=False, capture_output=True)
    return done.returncode == 0

"""scripts/bench as a command. No test depends on what it measures."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.installation import is_installed

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.skipif(
    not is_installed("all"),
    reason="scripts/install has not been run for this code, and a test does not install",
)


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(ROOT / "scripts" / "bench"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=220, check=False)


def test_a_row_is_measured_beside_its_bare_loops(tmp_path: Path) -> None:
    kept = tmp_path / "bench.json"
    done = bench("--rows", "queue", "--items", "300", "--rounds", "1", "--json", str(kept))
    assert done.returncode == 0, done.stderr
    (row,) = json.loads(kept.read_text())["rows"]
    results = {result["name"]: result["samples"] for result in row["results"]}
    assert len(results) == 4
    assert all(samples[0]["cpu_s"]["client"] > 0 for samples in results.values())
    assert "| the queue only" in done.stdout


def test_its_rows_have_names() -> None:
    done = bench("--rows", "help")
    assert done.returncode == 0
    assert "tag" in done.stdout
    assert bench("--rows", "nonsense").returncode == 2

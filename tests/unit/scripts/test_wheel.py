"""The wheel: built from this checkout, installed into a folder, it runs and lacks nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

from tests.conftest import absent

ROOT = Path(__file__).parents[3]
PACKAGES = ("conserver", "storage")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As docs/systemd.md builds it, without an index."""
    pytest.importorskip("hatchling")
    folder = tmp_path_factory.mktemp("wheel")
    words = ["--quiet", "--no-deps", "--no-index", "--no-build-isolation", "--wheel-dir"]
    done = subprocess.run(
        [sys.executable, "-m", "pip", "wheel", *words, str(folder), str(ROOT)],
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    if "No module named pip" in done.stderr:
        absent("pip is not installed")
    assert done.returncode == 0, done.stderr
    (found,) = folder.glob("conserver-*.whl")
    return found


def test_it_holds_every_file_of_the_packages_and_nothing_else(wheel: Path) -> None:
    tracked = subprocess.run(
        ["git", "ls-files", *PACKAGES], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if tracked.returncode:
        pytest.skip("this is no checkout of git")
    with ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert set(tracked.stdout.split()) - held == set()
    assert {name.partition("/")[0] for name in held} == set(PACKAGES)


def test_it_runs_from_a_folder(wheel: Path, tmp_path: Path) -> None:
    words = ["install", "--quiet", "--no-deps", "--no-index", "--target", str(tmp_path / "lib")]
    subprocess.run([sys.executable, "-m", "pip", *words, str(wheel)], check=True, timeout=280)
    (tmp_path / "config.yml").write_text("chains: {a: {ingress_lists: [a]}}\n", encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "conserver", "check"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "lib")},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "everything is in order" in done.stdout

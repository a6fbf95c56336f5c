"""What scripts/systemd/conserver.service says: asked of systemd itself, and checked against the
code.
"""

from __future__ import annotations

import shutil
import subprocess
from collections import defaultdict
from pathlib import Path

import pytest

from conserver.cli.app import COMMANDS
from conserver.config import settings
from conserver.errors import EXIT_CONFIG, EXIT_USAGE
from tests.conftest import absent

UNIT = Path(__file__).parents[3] / "scripts" / "systemd" / "conserver.service"
EXPOSURE_MAX = 20
"""Tenths, of what `systemd-analyze security` measures; a service without any hardening has 96."""


@pytest.fixture(scope="module")
def unit() -> dict[str, list[str]]:
    """The values of each key of the unit."""
    found: dict[str, list[str]] = defaultdict(list)
    for line in UNIT.read_text().splitlines():
        key, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            found[key].append(value)
    return found


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The unit with a program that there is on this machine."""
    path = tmp_path / "conserver.service"
    program = shutil.which("true") or "/bin/true"
    path.write_text(UNIT.read_text().replace("/opt/conserver/bin/conserver", program))
    return path


def analyze(*words: str) -> subprocess.CompletedProcess[str]:
    program = shutil.which("systemd-analyze")
    if program is None:
        absent("systemd-analyze is not installed (Debian: systemd)")
    return subprocess.run([program, *words], check=False, capture_output=True, text=True)


def test_systemd_understands_it(installed: Path) -> None:
    done = analyze("verify", str(installed))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_it_has_few_rights(installed: Path) -> None:
    threshold = f"--threshold={EXPOSURE_MAX}"
    done = analyze("security", "--offline=true", "--no-pager", threshold, str(installed))
    assert done.returncode == 0, done.stdout


def test_a_stop_drains_before_it_is_killed(unit: dict[str, list[str]]) -> None:
    [drain_s] = [
        float(value.partition("=")[2])
        for value in unit["Environment"]
        if value.startswith("CONSERVER_SHUTDOWN_TIMEOUT_S=")
    ]
    assert float(unit["TimeoutStopSec"][0]) >= drain_s + 10
    assert unit["KillMode"] == ["mixed"], "the supervisor drains, and is the only one told to stop"


def test_it_starts_a_command_that_there_is(unit: dict[str, list[str]]) -> None:
    assert unit["ExecStart"] == ["/opt/conserver/bin/conserver run"]
    assert "run" in COMMANDS
    assert unit["ExecReload"] == ["/bin/kill -HUP $MAINPID"]


def test_it_gives_up_only_where_somebody_has_to_mend_something(unit: dict[str, list[str]]) -> None:
    assert unit["Restart"] == ["always"]
    assert unit["StartLimitIntervalSec"] == ["0"]
    codes = {int(code) for code in unit["RestartPreventExitStatus"][0].split()}
    assert codes == {EXIT_USAGE, EXIT_CONFIG}


def test_its_variables_are_settings_and_its_secrets_files(unit: dict[str, list[str]]) -> None:
    known = {one.name for one in settings.variables()}
    for value in unit["Environment"]:
        name, _, text = value.partition("=")
        assert {name, name.removesuffix("_FILE")} & known
        if name.endswith("_FILE") and name not in known:
            credential = text.removeprefix("%d/")
            assert any(one.startswith(f"{credential}:") for one in unit["LoadCredential"])

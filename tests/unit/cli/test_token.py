"""`conserver token`: a token is shown once, and listed without its text."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from conserver.cli.app import run_cli
from conserver.operations import tokens


@pytest.fixture
def file(tmp_path: Path) -> str:
    """Where tokens are kept."""
    return str(tmp_path / "tokens")


def test_a_token_is_made_listed_and_revoked(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["token", "add", "ann", "--role", "submit", "--list", "calls", "--file", file]
    assert run_cli(words) == 0
    text = capsys.readouterr().out.strip()
    assert tokens.Keyring(tokens.load(Path(file))).find(text) is not None
    assert run_cli(["token", "list", "--json", "--file", file]) == 0
    [shown] = json.loads(capsys.readouterr().out)
    assert (shown["name"], shown["roles"], shown["lists"]) == ("ann", ["submit"], ["calls"])
    assert shown["created_at"] == pytest.approx(time.time(), abs=600)
    assert text not in str(shown)
    assert run_cli(["token", "revoke", "ann", "--file", file]) == 0
    assert run_cli(["token", "revoke", "ann", "--file", file]) == 1
    assert tokens.load(Path(file)) == []


def test_a_token_has_limits_of_its_own(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    limits = ["--jobs-at-once", "20", "--bytes-per-day", "10G", "--jobs-per-minute", "60"]
    assert run_cli(["token", "add", "ann", "--role", "submit", *limits, "--file", file]) == 0
    assert run_cli(["token", "add", "ben", "--role", "submit", "--file", file]) == 0
    capsys.readouterr()
    assert run_cli(["token", "list", "--json", "--file", file]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert [one["jobs_at_once"] for one in shown] == [20, None]
    assert [one["bytes_per_day"] for one in shown] == [10 << 30, None]
    assert [one["jobs_per_minute"] for one in shown] == [60, None]
    assert run_cli(["token", "list", "--file", file]) == 0
    assert str(10 << 30) in capsys.readouterr().out


def test_json_holds_the_token(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli(["token", "add", "ann", "--role", "read", "--json", "--file", file]) == 0
    made = json.loads(capsys.readouterr().out)
    assert made["token"].startswith("cv_")


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["add", "a b", "--role", "read"], 2, "a name has"),
        (["add", "ann", "--role", "root"], 2, "roles are"),
        (["add", "ann", "--role", "read", "--bytes-per-day", "much"], 2, "must be a size in bytes"),
        (["add", "ann", "--role", "read", "--file", "/nowhere/tokens"], 78, "cannot be written"),
        (["list"], 78, "cannot be read"),
    ],
)
def test_what_is_refused(
    file: str,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    code: int,
    message: str,
) -> None:
    given = words if "--file" in words else [*words, "--file", file]
    assert run_cli(["token", *given]) == code
    assert message in capsys.readouterr().err


def test_without_a_file_it_says_what_to_set(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli(["token", "list"]) == 78
    assert "CONSERVER_API_TOKENS_FILE" in capsys.readouterr().err

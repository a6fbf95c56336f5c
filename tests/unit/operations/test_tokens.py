"""Tokens of the API: their file, their roles, how one is found."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from conserver.config.settings import Settings
from conserver.errors import ConfigError
from conserver.operations import tokens
from conserver.operations.tokens import Keyring, Token


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Where tokens are kept."""
    return tmp_path / "tokens"


def test_a_token_is_made_found_and_revoked(file: Path) -> None:
    text = tokens.add(file, "ann", ["submit"], ["calls"])
    other = tokens.add(file, "ben", ["read", "operate"])
    assert text.startswith("cv_")
    assert text not in file.read_text()
    assert file.stat().st_mode & 0o077 == 0
    keyring = Keyring(tokens.load(file))
    found = keyring.find(text)
    assert found is not None
    assert (found.name, found.roles, found.lists) == ("ann", ("submit",), ("calls",))
    assert not found.guessable
    assert keyring.find(text + "x") is None
    assert tokens.revoke(file, "ann")
    assert not tokens.revoke(file, "ann")
    keyring = Keyring(tokens.load(file))
    assert keyring.find(text) is None
    assert keyring.find(other) is not None


def test_a_file_without_tokens_lets_nobody_in(file: Path) -> None:
    tokens.add(file, "ann", ["admin"])
    tokens.revoke(file, "ann")
    keyring = tokens.keyring_of(Settings.model_validate({"api_tokens_file": str(file)}))
    assert not keyring.is_open
    assert tokens.keyring_of(Settings()).is_open


@pytest.mark.parametrize(
    ("name", "roles"),
    [("", ["read"]), ("a b", ["read"]), ("x" * 65, ["read"]), ("ann", []), ("ann", ["root"])],
)
def test_what_is_no_token(file: Path, name: str, roles: list[str]) -> None:
    with pytest.raises(ValueError, match=r"name has|roles are"):
        tokens.add(file, name, roles)
    assert not file.exists()


def test_a_name_is_used_once(file: Path) -> None:
    tokens.add(file, "ann", ["read"])
    with pytest.raises(ValueError, match="revoke it first"):
        tokens.add(file, "ann", ["admin"])


@pytest.mark.parametrize(
    "line",
    [
        "cv_secret-text",
        "[]",
        "{}",
        '{"name": "a", "roles": ["root"], "sha256": "' + "0" * 64 + '"}',
        '{"name": "a", "roles": ["read"], "sha256": "cv_secret-text"}',
        '{"name": "a", "roles": 7, "sha256": "' + "0" * 64 + '"}',
        '{"name": "a", "roles": ["read"], "jobs_at_once": -1, "sha256": "' + "0" * 64 + '"}',
    ],
)
def test_a_broken_file_is_refused_without_showing_it(file: Path, line: str) -> None:
    file.write_text(f"\n{line}\n")
    with pytest.raises(ConfigError) as caught:
        tokens.load(file)
    assert f"{file}:" in str(caught.value)
    assert "secret-text" not in str(caught.value)


def test_two_of_one_name_are_refused(file: Path) -> None:
    entry = json.dumps({"name": "a", "roles": ["read"], "sha256": "0" * 64})
    file.write_text(f"{entry}\n{entry}\n")
    with pytest.raises(ConfigError, match="more than once"):
        tokens.load(file)


def test_what_roles_may() -> None:
    rights = {
        role: {right for right in tokens.ROLES if Token("t", (role,)).may(right)}
        for role in tokens.ROLES
    }
    assert rights == {
        "submit": {"submit"},
        "read": {"read"},
        "operate": {"operate", "read"},
        "admin": {"submit", "read", "operate", "admin"},
    }
    assert Token("t", ("read",)).may_use("calls")
    assert not Token("t", ("read",), ("other",)).may_use("calls")


def test_vcon_servers_file_has_a_token_in_each_line(tmp_path: Path) -> None:
    path = tmp_path / "plain"
    path.write_text("one-token\n\n  two-token \n")
    ring = Keyring(tokens.load_plain(path))
    assert not ring.is_open
    for text in ("one-token", "two-token"):
        found = ring.find(text)
        assert found is not None
        assert (found.may("admin"), found.guessable) == (True, True)
    assert ring.find("") is None
    assert ring.find("one-token\n") is None


@pytest.mark.parametrize("content", [None, b"", b" \n\n", b"\xff\xfe"])
def test_a_file_of_plain_tokens_that_is_none(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "plain"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match="CONSERVER_API_TOKEN_FILE"):
        tokens.load_plain(path)

"""Secrets from files: NAME_FILE stands for NAME, and nothing else changes."""

from __future__ import annotations

from pathlib import Path

import pytest

from conserver.config import model as config
from conserver.config import settings
from conserver.config.environment import Environment
from conserver.errors import ConfigError


def test_a_file_gives_the_value_without_its_line_break(tmp_path: Path) -> None:
    secret = tmp_path / "redis_url"
    secret.write_text("redis://:s3cret@redis:6379/0\n")
    environ = Environment({"REDIS_URL_FILE": str(secret)})
    assert environ["REDIS_URL"] == "redis://:s3cret@redis:6379/0"
    assert settings.load(environ).redis_url.get_secret_value() == environ["REDIS_URL"]


def test_the_variable_itself_goes_first(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("from the file")
    environ = Environment({"WORD": "from the environment", "WORD_FILE": str(secret)})
    assert environ["WORD"] == "from the environment"
    assert environ.get("OTHER", "nothing") == "nothing"
    assert "OTHER" not in environ


def test_the_configuration_takes_secrets_from_files(tmp_path: Path) -> None:
    secret = tmp_path / "password"
    secret.write_text("s3cret\n")
    text = """
    storages: {pg: {module: storage.postgres, options: {password: "${PG_PASSWORD}"}}}
    chains: {main: {storages: [pg], ingress_lists: [in]}}
    """
    found = config.parse(text, Environment({"PG_PASSWORD_FILE": str(secret)}))
    assert found.storages["pg"].options["password"] == "s3cret"


def test_a_file_that_is_missing_is_named(tmp_path: Path) -> None:
    environ = Environment({"REDIS_URL_FILE": str(tmp_path / "nowhere")})
    with pytest.raises(ConfigError, match=r"REDIS_URL_FILE: .*nowhere.* cannot be read"):
        settings.load(environ)

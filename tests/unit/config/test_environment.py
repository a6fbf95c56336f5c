"""Secrets from files: NAME_FILE stands for NAME, and nothing else changes."""

from __future__ import annotations

from pathlib import Path

import pytest

from conserver.config import model as config
from conserver.config import settings
from conserver.config.environment import OWN_FILES, SUFFIX, Environment
from conserver.errors import ConfigError


def test_a_file_gives_the_value_without_its_line_break(tmp_path: Path) -> None:
    secret = tmp_path / "redis_url"
    secret.write_text("redis://:s3cret@redis:6379/0\n")
    environ = Environment({"REDIS_URL_FILE": str(secret)})
    assert environ["REDIS_URL"] == "redis://:s3cret@redis:6379/0"
    assert settings.load(environ).redis_url.get_secret_value() == environ["REDIS_URL"]


def test_both_are_an_error_and_an_empty_one_is_not_set(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("redis://from.the.file")
    environ = Environment({"REDIS_URL": "redis://elsewhere", "REDIS_URL_FILE": str(secret)})
    with pytest.raises(ConfigError, match="REDIS_URL_FILE: REDIS_URL is set as well"):
        settings.load(environ)
    environ = Environment({"REDIS_URL": "", "REDIS_URL_FILE": str(secret)})
    assert environ["REDIS_URL"] == "redis://from.the.file"
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


def test_a_setting_that_names_a_file_is_no_value_of_another_one(tmp_path: Path) -> None:
    """CONSERVER_WEBHOOK_SECRET_FILE holds named secrets: it is not CONSERVER_WEBHOOK_SECRET."""
    names = {one.name for one in settings.variables() if one.name.endswith(SUFFIX)}
    assert names == OWN_FILES
    secrets = tmp_path / "secrets"
    secrets.write_text("shop whsec_c2VjcmV0\n")
    for name in names - {"CONSERVER_CONFIG_FILE", "CONSERVER_API_TOKENS_FILE"}:
        environ = Environment({name: str(secrets), name.removesuffix(SUFFIX): "whsec_b3RoZXI="})
        assert environ[name.removesuffix(SUFFIX)] == "whsec_b3RoZXI="
        assert name.removesuffix(SUFFIX) not in Environment({name: str(secrets)})
    found = settings.load(Environment({"CONSERVER_WEBHOOK_SECRET_FILE": str(secrets)}))
    assert found.webhook_secret.get_secret_value() == ""

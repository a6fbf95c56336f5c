"""Loads settings and configuration from environment variables, and registers their secrets.

Registered secrets are removed from all output (telemetry/redact.py). This module imports no Redis
client, because `conserver run` uses it, and the supervisor needs no Redis.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from conserver.config import settings
from conserver.config.environment import Environment
from conserver.config.settings import Settings
from conserver.telemetry.redact import hide_everywhere, secret_values

if TYPE_CHECKING:
    from conserver.config.model import Config


def load_settings(environ: Mapping[str, str], config_file: str = "") -> Settings:
    """The settings of `environ`; `config_file` overrides CONSERVER_CONFIG_FILE.

    Raises:
        ConfigError: names every variable with an unusable value.
    """
    given = dict(environ)
    if config_file:
        given["CONSERVER_CONFIG_FILE"] = config_file
    found = settings.load(Environment(given))
    hide_everywhere(secret_values(found))
    return found


def load_config(found: Settings, environ: Mapping[str, str]) -> Config:
    """The configuration file that the settings name. Its links and storages are not loaded.

    Raises:
        ConfigError: names every fault of the file.
    """
    from conserver.config import model  # Commands that need no configuration start faster.

    loaded = model.load(found.config_file, Environment(environ))
    model.hide_secrets_of(loaded)
    return loaded

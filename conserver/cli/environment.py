"""Reads settings and configuration for commands, connects to Redis, and names the user."""

from __future__ import annotations

import getpass
import os
import socket
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from conserver.cli.output import note
from conserver.config.settings import Settings
from conserver.errors import ConfigError
from conserver.operations import connection, setup
from conserver.operations.connection import Client
from conserver.process.imports import cheap_imports

if TYPE_CHECKING:
    from conserver.config.model import Config


def load_settings(config_file: str = "", workers: str = "") -> Settings:
    """The settings of this environment. `config_file` (--config) overrides CONSERVER_CONFIG_FILE,
    and `workers` (--workers) overrides CONSERVER_WORKERS.

    Raises:
        ConfigError: with every variable that cannot be used.
    """
    environ = {**os.environ, "CONSERVER_WORKERS": workers} if workers else os.environ
    return setup.load_settings(environ, config_file)


def load_config(found: Settings) -> Config:
    """The configuration that the settings name.

    Raises:
        ConfigError: with everything that is wrong with the configuration.
    """
    return setup.load_config(found, os.environ)


def configured_lists(found: Settings) -> list[str]:
    """The lists that the configuration serves; empty, with a warning, if it cannot be used.

    For commands that also work on a machine without the configuration file.
    """
    try:
        return list(load_config(found).ingress)
    except ConfigError as error:
        note(f"warning: {error}")
        return []


def redis_client(found: Settings, timeout_s: float = 5.0) -> AbstractContextManager[Client]:
    """A client that has answered a PING; see operations.connection for its errors."""
    with cheap_imports():
        import redis  # noqa: F401 - imported here, so that cheap_imports covers it.
    return connection.redis_client(found, timeout_s)


def actor() -> str:
    """Who runs this command, for the audit: `user@host`."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # In a container, a user id may have no name.
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"

"""`conserver run`: the daemon.

Everything that can be known to be wrong before the first process is said here, all at once, and
ends the command with its own exit code.
"""

from __future__ import annotations

import os

from conserver import log, settings, supervisor
from conserver.commands.base import load_config, load_settings
from conserver.config import Config
from conserver.configfile import located
from conserver.errors import ConfigError
from conserver.settings import Settings


def run(config_file: str = "") -> int:
    """Runs the household until it is told to stop, and returns its exit code.

    Raises:
        ConfigError: settings, configuration or plugins cannot be used.
        BootError: the household cannot start.
    """

    def read() -> tuple[Settings, Config]:
        found = load_settings(config_file)
        return found, load_config(found)

    found, config = read()
    log.configure(found, "supervisor")
    logger = log.get_logger()
    for warning in (*config.warnings, *settings.misspelt(os.environ)):
        logger.warning("configuration_warning", path=warning.path, warning=str(warning))
    try:
        return supervisor.run(found, config, read)
    except ConfigError as error:  # Of links and storages, which know nothing of the file.
        problems = located(error.problems, found.config_file)
        raise ConfigError(problems, found.config_file) from error.__cause__

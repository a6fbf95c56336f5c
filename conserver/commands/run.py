"""`conserver run`: the daemon.

Everything that can be known to be wrong before the first process is said here, all at once, and
ends the command with its own exit code.
"""

from __future__ import annotations

import os

from conserver import log, preparation, settings, supervisor
from conserver.commands.base import load_settings
from conserver.config import Config
from conserver.environment import Environment
from conserver.settings import Settings


def run(config_file: str = "") -> int:
    """Runs the household until it is told to stop, and returns its exit code.

    Raises:
        ConfigError: settings, configuration or plugins cannot be used.
        BootError: the household cannot start.
    """

    def read() -> tuple[Settings, Config]:
        found = load_settings(config_file)
        return found, preparation.read(found.config_file, Environment(os.environ))

    found, config = read()
    log.configure(found, "supervisor")
    preparation.tell_warnings([*config.warnings, *settings.misspelt(os.environ)])
    return supervisor.run(found, config, read)

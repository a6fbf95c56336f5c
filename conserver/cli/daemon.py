"""The work of `conserver run`: starts the daemon, without Typer.

Before it starts the first process it checks settings, configuration and plugins. If something is
wrong, the command reports all of it and ends with an exit code of its own.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence

from conserver.cli.environment import load_settings
from conserver.config import settings
from conserver.config.environment import Environment
from conserver.config.model import Config
from conserver.config.settings import Settings
from conserver.plugins import reading
from conserver.plugins.loader import environment_warnings
from conserver.supervisor import preload, supervisor
from conserver.supervisor.slots import ChildSlot
from conserver.telemetry import log


def run(config_file: str = "", workers: str = "") -> int:
    """Runs the supervisor until it is stopped, and returns its exit code.

    Args:
        workers: overrides CONSERVER_WORKERS; "" for none.

    Raises:
        ConfigError: settings, configuration or plugins cannot be used.
        BootError: the supervisor or the first child of a kind cannot start.
    """

    def read() -> tuple[Settings, Config]:
        found = load_settings(config_file, workers)
        if found.api_port:
            from conserver.operations import tokens

            # Refuse a faulty file of tokens here, before a reload drains the running API process.
            tokens.keyring_of(found)
        return found, reading.read(found.config_file, Environment(os.environ))

    found, config = read()
    log.configure("supervisor", level=found.log_level, shape=found.log_format)
    warnings = [*settings.misspelt(os.environ), *environment_warnings()]
    preload.log_warnings([*config.warnings, *warnings])
    return supervisor.run(found, config, read, services=_services, metrics=_metrics)


def _metrics(found: Settings) -> socket.socket | None:
    """The socket for metrics, if a port is set. Raises BootError if it cannot listen there, or if
    the extra `metrics` is not installed."""
    if not found.metrics_port:
        return None
    from conserver.operations.monitoring import scrape
    from conserver.process import listening

    scrape.check_extra()
    variable = "CONSERVER_METRICS_"
    return listening.listen(found.metrics_host, found.metrics_port, "the metrics", variable)


def _services(found: Settings) -> Sequence[ChildSlot]:
    """The API's child slot, if a port is set. Raises BootError if it cannot listen there, or if
    the extra `api` is not installed."""
    if not found.api_port:
        return ()
    from conserver.http import server
    from conserver.operations import tokens

    server.check_extra()
    listener = server.bind(found, tokens.keyring_of(found))
    return [ChildSlot(1, service="api", listener=listener)]

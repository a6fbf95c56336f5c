"""`conserver api`: serves the HTTP API alone."""

from __future__ import annotations

import os

from conserver.cli.environment import load_settings
from conserver.config import settings
from conserver.config.environment import Environment
from conserver.http import alone
from conserver.plugins import reading
from conserver.telemetry import log

PORT = 8000


def serve(config_file: str, host: str, port: int, workers: int) -> int:
    """Serves until the process is stopped. With host "" or port 0 the settings decide."""
    found = load_settings(config_file)
    chosen = {
        "api_host": host or found.api_host,
        "api_port": port or found.api_port or PORT,
    }
    found = found.model_copy(update=chosen)
    config = reading.read(found.config_file, Environment(os.environ))
    log.configure("api", level=found.log_level, shape=found.log_format)
    for problem in [*config.warnings, *settings.misspelt(os.environ)]:
        log.get_logger().warning("configuration_warning", path=problem.path, warning=str(problem))
    return alone.run(found, config, workers)

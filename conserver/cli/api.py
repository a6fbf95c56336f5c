"""`conserver api`: serves the HTTP API alone."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from conserver.cli.arguments import ConfigFile, examples, typer_app
from conserver.cli.environment import load_settings
from conserver.config import settings
from conserver.config.environment import Environment
from conserver.http import alone
from conserver.plugins import reading
from conserver.telemetry import log

PORT = 8000


app = typer_app()


@app.command(epilog=examples("api --port 8000 --workers 2"))
def api(
    config: ConfigFile = "",
    host: Annotated[
        str, typer.Option("--host", metavar="ADDRESS", help="Overrides CONSERVER_API_HOST.")
    ] = "",
    port: Annotated[
        int,
        typer.Option(
            "--port", "-p", min=0, max=65_535, help="Overrides CONSERVER_API_PORT; else 8000."
        ),
    ] = 0,
    workers: Annotated[
        int, typer.Option("--workers", "-w", metavar="N", min=1, max=256, help="Processes.")
    ] = 1,
) -> int:
    """Serve the HTTP API and the dashboard alone, until SIGTERM.

    `conserver run` serves them, too, if CONSERVER_API_PORT is set.
    """
    found = load_settings(config)
    chosen = {
        "api_host": host or found.api_host,
        "api_port": port or found.api_port or PORT,
    }
    found = found.model_copy(update=chosen)
    configured = reading.read(found.config_file, Environment(os.environ))
    log.configure("api", level=found.log_level, shape=found.log_format)
    for problem in [*configured.warnings, *settings.misspelt(os.environ)]:
        log.get_logger().warning("configuration_warning", path=problem.path, warning=str(problem))
    return alone.run(found, configured, workers)

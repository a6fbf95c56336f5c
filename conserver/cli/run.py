"""`conserver run`: starts the daemon.

daemon.py does the work. `__main__` calls it without this module, because the daemon must not load
Typer; this one is for the help, and for wrong options.
"""

from __future__ import annotations

from typing import Annotated

import typer

from conserver.cli import daemon
from conserver.cli.arguments import ConfigFile, examples, typer_app

app = typer_app()


@app.command(epilog=examples("run --config config.yml --workers 4"))
def run(
    config: ConfigFile = "",
    workers: Annotated[
        str,
        typer.Option("--workers", "-w", metavar="N", help="Overrides CONSERVER_WORKERS."),
    ] = "",
) -> int:
    """Run the daemon until SIGTERM.

    It has a supervisor, a coordinator and workers, and the API if
    CONSERVER_API_PORT is set.
    """
    return daemon.run(config, workers)

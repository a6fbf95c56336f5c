"""`conserver health`: tells by the exit code whether this host takes items.

probe.py does the work. `__main__` calls it without this module if there are no options.
"""

from __future__ import annotations

from conserver.cli import probe
from conserver.cli.arguments import AsJson, typer_app
from conserver.cli.output import Output

app = typer_app()


@app.command()
def health(json: AsJson = False) -> int:
    """Tell by the exit code whether this host takes items."""
    return probe.health(Output(as_json=json))

"""`conserver health`: tells whether a host of this machine takes items, also by the exit code.

probe.py does the work. `__main__` calls it without this module if there are no options.
"""

from __future__ import annotations

from conserver.cli import probe
from conserver.cli.arguments import AsJson, typer_app
from conserver.cli.output import Output

app = typer_app()


@app.command()
def health(json: AsJson = False) -> int:
    """Tell whether a host of this machine takes items.

    The exit code is 0 if one does, 1 if none does.
    """
    return probe.health(Output(as_json=json))

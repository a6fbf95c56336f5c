"""`conserver doctor`: examines Redis and prints a verdict for each subject, with advice.

Its exit code is 1 if something is wrong.
"""

from __future__ import annotations

from dataclasses import asdict

from conserver.cli.arguments import AsJson, typer_app
from conserver.cli.environment import load_settings, redis_client
from conserver.cli.output import Output
from conserver.cli.tables import Marked, Style
from conserver.errors import EXIT_FAILURE
from conserver.operations.doctor import examine

_STYLES: dict[str, Style] = {"ok": "good", "warning": "warning", "wrong": "bad"}

app = typer_app()


@app.command()
def doctor(json: AsJson = False) -> int:
    """Examine Redis: version, persistence, eviction, rights, clock."""
    output = Output(as_json=json)
    with redis_client(load_settings()) as client:
        diagnosis = examine(client)
    output.value(asdict(diagnosis))
    output.table(
        ("subject", "verdict", "found", "advice"),
        [
            (found.subject, Marked(found.level, _STYLES[found.level]), found.text, found.advice)
            for found in diagnosis.findings
        ],
    )
    return 0 if diagnosis.ok else EXIT_FAILURE

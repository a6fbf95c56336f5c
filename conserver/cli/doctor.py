"""`conserver doctor`: examines Redis and prints a verdict for each subject, with advice.

Its exit code is 1 if something is wrong.
"""

from __future__ import annotations

from dataclasses import asdict

from conserver.cli.arguments import AsJson, typer_app
from conserver.cli.environment import load_config, load_settings, redis_client
from conserver.cli.output import Output
from conserver.cli.tables import Marked, Style
from conserver.config.settings import Settings
from conserver.errors import EXIT_FAILURE, ConfigError
from conserver.operations.doctor import examine

_STYLES: dict[str, Style] = {"ok": "good", "warning": "warning", "wrong": "bad"}

app = typer_app()


@app.command()
def doctor(json: AsJson = False) -> int:
    """Examine Redis: version, persistence, eviction, rights, clock."""
    output = Output(as_json=json)
    settings = load_settings()
    with redis_client(settings) as client:
        diagnosis = examine(client, _configured(settings))
    output.value(asdict(diagnosis))
    output.table(
        ("subject", "verdict", "found", "advice"),
        [
            (found.subject, Marked(found.level, _STYLES[found.level]), found.text, found.advice)
            for found in diagnosis.findings
        ],
    )
    return 0 if diagnosis.ok else EXIT_FAILURE


def _configured(settings: Settings) -> list[str]:
    """The ingress and egress lists of the configuration; none if it cannot be used, because this
    command also examines Redis from machines without a configuration.
    """
    try:
        config = load_config(settings)
    except ConfigError:
        return []
    return [*config.ingress, *config.egress]

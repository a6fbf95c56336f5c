"""`conserver doctor`: examines Redis and the plugins, and prints a verdict for each subject.

Its exit code is 1 if something is wrong.
"""

from __future__ import annotations

from dataclasses import asdict

from conserver.cli.arguments import AsJson, typer_app
from conserver.cli.environment import load_config, load_settings, redis_client
from conserver.cli.output import Output
from conserver.cli.tables import Marked, Style
from conserver.config.model import Config
from conserver.config.settings import Settings
from conserver.errors import EXIT_FAILURE, ConfigError
from conserver.operations.doctor import examine

_STYLES: dict[str, Style] = {"ok": "good", "warning": "warning", "wrong": "bad"}

app = typer_app()


@app.command()
def doctor(json: AsJson = False) -> int:
    """Examine Redis (persistence, rights, clock) and plugins."""
    output = Output(as_json=json)
    settings = load_settings()
    with redis_client(settings) as client:
        diagnosis = examine(client, _config(settings), settings.config_file)
    output.value(asdict(diagnosis))
    output.table(
        ("subject", "verdict", "found", "advice"),
        [
            (found.subject, Marked(found.level, _STYLES[found.level]), found.text, found.advice)
            for found in diagnosis.findings
        ],
    )
    return 0 if diagnosis.ok else EXIT_FAILURE


def _config(settings: Settings) -> Config | None:
    """The configuration; None if it cannot be used, because this command also examines Redis from
    machines without a configuration.
    """
    try:
        return load_config(settings)
    except ConfigError:
        return None

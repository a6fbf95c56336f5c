"""`conserver doctor`: examines Redis and prints a verdict for each subject, with advice."""

from __future__ import annotations

from dataclasses import asdict

from conserver.cli.environment import load_settings, redis_client
from conserver.cli.output import Output
from conserver.cli.tables import Marked, Style
from conserver.errors import EXIT_FAILURE
from conserver.operations.doctor import examine

_STYLES: dict[str, Style] = {"ok": "good", "warning": "warning", "wrong": "bad"}


def doctor(output: Output) -> int:
    """Examines Redis; returns 0 if nothing is wrong, 1 if something is."""
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

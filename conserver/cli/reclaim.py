"""`conserver reclaim`: returns the items of stranded consumers, which no host has registered.

Its exit code is 1 if a key of another type hides which consumers are registered.
"""

from __future__ import annotations

from dataclasses import asdict

from conserver.cli.arguments import AsJson, typer_app
from conserver.cli.environment import actor, load_settings, redis_client
from conserver.cli.output import Output, note
from conserver.errors import EXIT_FAILURE
from conserver.operations import reclaim as reclaiming
from conserver.operations.reclaim import WrongKeysError

app = typer_app()


@app.command()
def reclaim(json: AsJson = False) -> int:
    """Return to their lists the items of workers that no host knows.

    `conserver doctor` says whether there are any.
    """
    output = Output(as_json=json)
    settings = load_settings()
    with redis_client(settings) as client:
        try:
            found = reclaiming.reclaim(client, actor=actor(), keep_s=settings.orphan_expiry_s)
        except WrongKeysError as error:
            for wrong in error.keys:
                note(f"error: {wrong}; then reclaim again")
            return EXIT_FAILURE
    output.value(asdict(found))
    nothing = "nothing: a host knows the workers of all items in flight"
    output.line(f"reclaimed: {found.items or nothing}")
    return 0

"""`conserver resume`: lets workers claim from paused lists again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from conserver.cli.environment import actor, load_settings, redis_client
from conserver.cli.output import Output, note
from conserver.operations import lists


def resume(output: Output, names: Sequence[str], config_file: str = "") -> int:
    """Ends the pause of the named lists, or of all that are paused."""
    with redis_client(load_settings(config_file)) as client:
        resumed = lists.resume(client, names, actor=actor())
    output.value(asdict(resumed))
    output.line(f"resumed: {', '.join(resumed.resumed) or 'nothing'}")
    for name in sorted(set(names) - set(resumed.resumed)):
        note(f"warning: {name} was not paused")
    return 0

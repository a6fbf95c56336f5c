"""`conserver pause`: stops taking from lists. What was claimed before goes on to its end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from conserver.cli.environment import actor, load_config, load_settings, redis_client
from conserver.cli.output import Output, note
from conserver.operations import lists


def pause(output: Output, names: Sequence[str], config_file: str = "") -> int:
    """Pauses the named lists, or all that the configuration serves."""
    found = load_settings(config_file)
    wanted = list(names) or list(load_config(found).ingress)
    with redis_client(found) as client:
        unknown = lists.unknown(client, names)
        paused = lists.pause(client, wanted, actor=actor())
    for one in unknown:
        hint = f" ({one.hint})" if one.hint else ""
        note(f"warning: nobody has ever taken from {one.name}{hint}")
    output.value(asdict(paused))
    output.line(f"paused: {', '.join(paused.paused) or 'nothing'}")
    return 0

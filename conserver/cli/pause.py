"""`conserver pause`: stops workers from claiming from lists. Claimed items go on to their end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from conserver.cli.environment import (
    actor,
    configured_lists,
    load_config,
    load_settings,
    redis_client,
)
from conserver.cli.output import Output, note
from conserver.errors import OperationError
from conserver.operations import lists


def pause(
    output: Output, names: Sequence[str], config_file: str = "", *, force: bool = False
) -> int:
    """Pauses the named lists, or all that the configuration serves.

    Args:
        force: also pause lists that nobody has served yet and that are empty.

    Raises:
        OperationError: "not_found": there is no such list.
    """
    found = load_settings(config_file)
    configured = configured_lists(found) if names else list(load_config(found).ingress)
    with redis_client(found) as client:
        unknown = lists.unknown(client, names, configured)
        try:
            paused = lists.pause(
                client,
                list(names) or configured,
                actor=actor(),
                configured=None if force else configured,
            )
        except OperationError as error:
            raise OperationError(f"{error}; --force pauses it all the same", error.kind) from None
    for one in unknown:
        hint = f" ({one.hint})" if one.hint else ""
        note(f"warning: nobody has ever taken from {one.name}{hint}")
    output.value(asdict(paused))
    output.line(f"paused: {', '.join(paused.paused) or 'nothing'}")
    return 0

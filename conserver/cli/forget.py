"""`conserver forget --stored`: deletes from Redis the documents that every storage has."""

from __future__ import annotations

from dataclasses import asdict

from conserver.cli.environment import actor, load_config, load_settings, redis_client
from conserver.cli.output import Output
from conserver.errors import EXIT_USAGE, BootError
from conserver.operations import forget as forgetting
from conserver.operations import hosts, lists
from conserver.operations.documents import StorageReader


def forget(output: Output, config_file: str = "", *, stored: bool, dry_run: bool) -> int:
    """Lets documents expire at once whose items have ended and that every storage has.

    Returns:
        0, or 69 if a storage cannot be asked.
    """
    if not stored:
        raise BootError("say what to forget: --stored is all there is", EXIT_USAGE)
    found = load_settings(config_file)
    config = load_config(found)
    with redis_client(found) as client, StorageReader(config) as storages:
        told = {name for host in hosts.read(client) for name in host.egress}
        names = [*lists.names(client, config.ingress), *config.egress, *told]
        steps = forgetting.forget_stored(
            client, storages, list(dict.fromkeys(names)), dry_run=dry_run, actor=actor()
        )
        *_, last = steps
    output.value({**asdict(last), "dry_run": dry_run})
    output.line(f"{last.forgotten} {'would be forgotten' if dry_run else 'forgotten'}")
    if last.awaited:
        output.line(f"{last.awaited} stay: a list or a dead letter names them")
    if last.unstored:
        output.line(f"{last.unstored} stay: a storage does not have them")
    return 0

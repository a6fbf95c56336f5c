"""`conserver retry` makes parked items due now; `conserver empty` takes items out of lists."""

from __future__ import annotations

import sys
from collections.abc import Generator
from typing import Any

from conserver.cli.environment import actor, configured_lists, load_settings, redis_client
from conserver.cli.output import Output, note
from conserver.errors import EXIT_FAILURE, EXIT_USAGE, BootError
from conserver.operations import lists, waiting, words
from conserver.operations.connection import Client
from conserver.operations.dead_letters import Progress
from conserver.operations.waiting import WaitingFilter

_LEFT_OUT = {
    "rate": "wait for a place of a rate: before it they would only wait again",
    "throttled": "wait until the server of their link takes calls again",
    "later": "were submitted for later: --cause later includes them",
    waiting.UNKNOWN_AGE: "stay: nobody knows since when they wait",
}


def retry(
    output: Output,
    wanted: WaitingFilter,
    config_file: str = "",
    *,
    everything: bool,
    limit: int,
    dry_run: bool,
) -> int:
    """Makes parked items due now, and prints how many.

    Returns:
        0; 1 if uuids are named and none of their items is parked.
    """
    if not wanted.names and not wanted.restricts and not everything:
        raise BootError("say which items (a UUID, --list, --cause, ...), or --all", EXIT_USAGE)
    settings = load_settings(config_file)
    configured = configured_lists(settings)
    with redis_client(settings) as client:
        last = _last(
            waiting.retry(
                client,
                wanted,
                limit=limit,
                dry_run=dry_run,
                actor=actor(),
                configured=configured,
            )
        )
        none = "" if last.matching else _none(client, wanted, "is parked", configured)
    told: dict[str, Any] = {"retried": last.done, "dry_run": dry_run}
    return _end(
        output, wanted, last, told, "would be tried now" if dry_run else "made due now", none
    )


def empty(
    output: Output,
    wanted: WaitingFilter,
    config_file: str = "",
    *,
    limit: int,
    dry_run: bool,
    asks: bool,
) -> int:
    """Takes waiting items out of lists for good, and prints how many.

    Args:
        asks: ask the person at the terminal before all items of a list are taken out.

    Returns:
        0; 1 if uuids are named and none of their items waits, or if the person does not agree.
    """
    settings = load_settings(config_file)
    configured = configured_lists(settings)
    with redis_client(settings) as client:

        def steps(*, dry: bool) -> Generator[Progress, None, None]:
            return waiting.empty(
                client,
                wanted,
                limit=limit,
                dry_run=dry,
                actor=actor(),
                configured=configured,
                keep_s=settings.orphan_expiry_s,
            )

        if asks and not dry_run and not wanted.restricts:
            count = words.items(_last(steps(dry=True)).matching)
            note(f"{count} of {', '.join(wanted.names)} will be gone for good. Empty? [y/N]")
            if sys.stdin.readline().strip().lower() not in ("y", "yes"):
                note("nothing was taken out")
                return EXIT_FAILURE
        last = _last(steps(dry=dry_run))
        none = "" if last.matching else _none(client, wanted, "waits", configured)
    told: dict[str, Any] = {"taken_out": last.done, "dry_run": dry_run}
    return _end(output, wanted, last, told, "would be taken out" if dry_run else "taken out", none)


def _last(steps: Generator[Progress, None, None]) -> Progress:
    *_, last = steps
    return last


def _end(
    output: Output,
    wanted: WaitingFilter,
    last: Progress,
    told: dict[str, Any],
    text: str,
    none: str,
) -> int:
    """Prints what became of the items, or that there are `none`; returns the exit code."""
    output.value({**told, "matching": last.matching, "left_out": dict(last.left_out)})
    output.line(f"{words.items(last.matching)} {text}")
    for why, count in last.left_out.items():
        note(f"{count} {_LEFT_OUT[why]}")
    if none:
        note(none)
    return EXIT_FAILURE if wanted.uuids and not last.matching else 0


def _none(client: Client, wanted: WaitingFilter, what: str, configured: list[str]) -> str:
    """The text for an empty result. It names the lists of the filter that were never served."""
    whose = f"of {', '.join(wanted.uuids)} " if wanted.uuids else "that matches "
    parts = [f"nothing {whose}{what}"]
    for unknown in lists.unknown(client, set(wanted.names) - set(configured)):
        hint = f" ({unknown.hint})" if unknown.hint else ""
        parts.append(f"nobody has ever taken from {unknown.name}{hint}")
    return "; ".join(parts)

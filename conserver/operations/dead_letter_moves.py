"""Requeues and purges dead letters.

The item of a requeued letter resumes: finished links do not run again, and its attempts start at 0.
Requeue and purge move each letter with its own script call, and only if the letter still exists. So
they may be interrupted, and may run at the same time as the daemon and each other.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, field

from conserver.operations import audit
from conserver.operations.connection import Client
from conserver.operations.dead_letters import Filter, names_of, scan
from conserver.queue import dead_letters
from conserver.queue.dead_letters import DeadLetter

# How many letters are read before they are moved. All are read first, because moving a letter
# shifts the pages after it.
_ROUND = 10_000
_PROGRESS_EVERY = 1000  # letters read between two reports of progress, if no letter is moved


@dataclass(frozen=True, slots=True)
class Progress:
    """The progress of a requeue or purge, or of a retry or empty (waiting.py).

    Attributes:
        done: letters or items that were moved; 0 in a dry run.
        matching: the same number; in a dry run, letters or items that match so far.
        total: how many letters or items the lists had at the beginning. At most so many match.
        left_out: cause -> how many waiting items were left out for it, although the filter names no
            cause (waiting.py). Empty for dead letters.
    """

    done: int
    matching: int
    total: int
    left_out: Mapping[str, int] = field(default_factory=dict)


def requeue(
    client: Client, wanted: Filter, *, limit: int = 0, dry_run: bool = False, actor: str
) -> Generator[Progress, None, None]:
    """Requeue the letters that a filter selects; at most `limit`, if it is not 0.

    It requeues only letters that exist at the beginning. A letter whose item fails again meanwhile
    is left alone; otherwise this might never end. Yields its progress after every letter, and at
    least once. Closing the generator stops the requeue between two letters.

    Raises:
        InvalidArgumentError: see Filter.check.
    """

    def move(letter: DeadLetter) -> bool:
        return dead_letters.requeue(client, letter) in ("returned", "queued")

    return _begun(client, wanted, move, "requeue", limit=limit, dry_run=dry_run, actor=actor)


def purge(
    client: Client, wanted: Filter, *, limit: int = 0, dry_run: bool = False, actor: str
) -> Generator[Progress, None, None]:
    """Delete the letters that a filter selects, with their payloads. See `requeue` for the rest.

    Documents in Redis (vcon:<uuid>) stay until they expire.
    """

    def move(letter: DeadLetter) -> bool:
        return dead_letters.purge(client, letter)

    return _begun(client, wanted, move, "purge", limit=limit, dry_run=dry_run, actor=actor)


def _begun(
    client: Client,
    wanted: Filter,
    move: Callable[[DeadLetter], bool],
    action: str,
    *,
    limit: int,
    dry_run: bool,
    actor: str,
) -> Generator[Progress, None, None]:
    """Move letters, or count them in a dry run, and yield the progress. Adds an audit entry at the
    end, even if the generator is closed early or fails.
    """
    if dry_run:
        yield from _counted(client, wanted, limit)
        return
    done = 0
    try:
        for step in _moved(client, wanted, move, limit):
            done = step.done
            yield step
    finally:
        if done:
            audit.record(client, actor, action, wanted.as_target(), done)


def _moved(
    client: Client, wanted: Filter, move: Callable[[DeadLetter], bool], limit: int
) -> Iterator[Progress]:
    """Move the selected letters, in rounds, until a round moves no letter."""
    began_ms, total = _beginning(client, wanted)
    done = 0
    yield Progress(done, done, total)
    while True:
        letters: list[DeadLetter] = []
        room = min(_ROUND, limit - done) if limit else _ROUND
        for looked_at, letter in enumerate(scan(client, wanted, began_ms), 1):
            if letter is not None:
                letters.append(letter)
                if len(letters) == room:
                    break
            if looked_at % _PROGRESS_EVERY == 0:
                yield Progress(done, done, total)
        before = done
        for letter in letters:
            done += move(letter)
            yield Progress(done, done, total)
        if done == before or (limit and done >= limit):
            return


def _counted(client: Client, wanted: Filter, limit: int) -> Iterator[Progress]:
    """Count the letters that would be moved, for a dry run."""
    began_ms, total = _beginning(client, wanted)
    matching = 0
    yield Progress(0, matching, total)
    for looked_at, letter in enumerate(scan(client, wanted, began_ms), 1):
        if letter is not None:
            matching += 1
            yield Progress(0, matching, total)
            if matching == limit:
                return
        elif looked_at % _PROGRESS_EVERY == 0:
            yield Progress(0, matching, total)


def _beginning(client: Client, wanted: Filter) -> tuple[float, int]:
    """Check the filter. Returns the time by Redis's clock in ms, and the lists' dead letters."""
    wanted.check()
    seconds, micros = client.time()
    total = sum(dead_letters.depth(client, name) for name in names_of(client, wanted))
    return seconds * 1000 + micros / 1000, total

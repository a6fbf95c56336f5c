"""Lists: how many items they hold, how long the oldest has waited, whether they are paused.

A paused list keeps what producers push; items that were claimed before the pause go on to their
end.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Generator, Iterable, Sequence
from dataclasses import dataclass

from conserver.config.validation import suggest
from conserver.errors import OperationError
from conserver.operations import audit, hosts, items
from conserver.operations.connection import Client
from conserver.queue import host_calls, keys, lookup, script, wishes, wrong_type

_LOOK_S = 0.25
_AGES_PER_CALL = 64
_AGES_EVERY_MS = 5000
_PAUSED_MS_MIN = 60_000
_PLACES = 5  # of the items of one list, see Depth


@dataclass(frozen=True, slots=True)
class Depth:
    """How many items of one list there are in each place. None where a key has another type."""

    queued: int | None
    returned: int | None
    suspects: int | None
    parked: int | None
    dead: int | None

    @property
    def total(self) -> int:
        """All items in all places; those in keys of another type are not known."""
        places = (self.queued, self.returned, self.suspects, self.parked, self.dead)
        return sum(count or 0 for count in places)


@dataclass(frozen=True, slots=True)
class Backlog:
    """The items of one list that need a worker now: those that wait, by place, those that workers
    hold, and the parked ones that are due and that only a running host moves.
    """

    queued: int
    returned: int
    suspects: int
    due: int
    in_flight: int

    @property
    def total(self) -> int:
        """What an autoscaler divides among workers; 0 where none is needed."""
        return self.queued + self.returned + self.suspects + self.due + self.in_flight


@dataclass(frozen=True, slots=True)
class UnknownName:
    """A name that nothing has; `hint` is a sentence about the likeliest one that is known, or "".

    `kind` is "list", or "where" for a link or storage.
    """

    name: str
    hint: str
    kind: str = "list"


@dataclass(frozen=True, slots=True)
class Paused:
    """The lists that were paused."""

    paused: list[str]


@dataclass(frozen=True, slots=True)
class Pause:
    """Since when a list is paused, in Unix seconds, and who did it; 0 and "" if nobody knows."""

    since: float
    by: str


@dataclass(frozen=True, slots=True)
class Resumed:
    """The lists whose pause was ended; a list that was not paused is not among them."""

    resumed: list[str]


@dataclass(frozen=True, slots=True)
class Draining:
    """The lists that are paused, and how many items are still in flight."""

    paused: list[str]
    in_flight: int


def known(client: Client) -> list[str]:
    """Every list that any worker has ever claimed from, by name."""
    return lookup.known_lists(client)


def names(client: Client, configured: Iterable[str]) -> list[str]:
    """The lists of the configuration in its order, then all others that were ever claimed from."""
    return list(dict.fromkeys([*configured, *known(client)]))


def paused(client: Client) -> list[str]:
    """The lists that are paused, by name."""
    return list(pauses(client))


def pauses(client: Client) -> dict[str, Pause]:
    """The lists that are paused, by name, and who has paused each."""
    fields: dict[bytes, bytes] = client.hgetall(keys.CONTROL)
    prefix = keys.paused("")
    found = {name.decode(): value for name, value in fields.items()}
    return {
        name.removeprefix(prefix): _pause_of(value)
        for name, value in sorted(found.items())
        if name.startswith(prefix)
    }


def unknown(
    client: Client, wanted: Iterable[str], configured: Iterable[str] = ()
) -> list[UnknownName]:
    """Those of `wanted` that are not configured and that no worker has ever claimed from: they may
    be misspelt.
    """
    there = names(client, configured)
    return [UnknownName(name, suggest(name, there)) for name in sorted(set(wanted) - set(there))]


def depths(client: Client, wanted: Iterable[str]) -> dict[str, Depth]:
    """How many items of each list there are in each place, read in one round trip."""
    wanted = list(wanted)
    pipe = client.pipeline(transaction=False)
    for name in wanted:
        pipe.llen(name)
        pipe.llen(keys.returned(name))
        pipe.llen(keys.suspects(name))
        pipe.zcard(keys.parked(name))
        pipe.llen(keys.dead_letters(name))
    counts = [n if isinstance(n, int) else None for n in pipe.execute(raise_on_error=False)]
    return {name: Depth(*counts[_PLACES * i : _PLACES * (i + 1)]) for i, name in enumerate(wanted)}


def backlog(client: Client, name: str) -> Backlog:
    """What a list needs workers for. A place whose key has another type counts as empty.

    Three round trips, whatever waits. Only where other lists were ever claimed from are the records
    of running items read too, because their keys do not tell which list they are of.
    """
    seconds, micros = client.time()
    due_ms = seconds * 1000 + micros // 1000
    pipe = client.pipeline(transaction=False)
    pipe.zcount(keys.parked(name), "-inf", due_ms)
    pipe.smembers(keys.LISTS)
    due, known_names = pipe.execute(raise_on_error=False)
    depth = depths(client, [name])[name]
    alone = known_names == {name.encode()}
    return Backlog(
        queued=depth.queued or 0,
        returned=depth.returned or 0,
        suspects=depth.suspects or 0,
        due=due if isinstance(due, int) else 0,
        in_flight=hosts.in_flight(client) if alone else len(items.running(client, name)),
    )


def ages(client: Client, wanted: Iterable[str]) -> dict[str, float | None]:
    """For how many seconds the oldest item of each list has waited for a worker: in the list itself
    or, after a claim, in returned or suspects. Parked ones, which wait for their time, are left
    out. 0.0 where none waits; None where it cannot be told.

    queue/waiting.lua says how that is known, and what it cannot know: among equal elements the age
    may be too high. Coordinators look every few seconds; so does whoever calls this.
    """
    from redis.exceptions import NoPermissionError, ReadOnlyError, ResponseError

    wanted = list(wanted)
    found: dict[str, float | None] = {}
    for first in range(0, len(wanted), _AGES_PER_CALL):
        some = wanted[first : first + _AGES_PER_CALL]
        try:
            answer = script.run(client, host_calls.waiting(some, _AGES_EVERY_MS))
            found.update(host_calls.read_waiting(some, answer))
        except (NoPermissionError, ReadOnlyError):
            found.update(dict.fromkeys(some))  # Who may only read is still shown the rest.
        except ResponseError as error:
            if not wrong_type.is_wrong_type(error) and "NOPERM" not in str(error):
                raise
            found.update(dict.fromkeys(some))
    return found


def depth(client: Client, key: str) -> int:
    """How many elements one list has; 0 where there is none. Raises redis.ResponseError."""
    return int(client.llen(key))


def take(client: Client, name: str, most: int) -> list[str]:
    """Takes up to `most` elements off the front of an egress list; they are in it no more.

    Whoever loses the answer loses them: an egress list has no places in between.
    """
    taken: list[bytes] = client.lpop(name, most) or []
    return [text.decode("utf-8", "replace") for text in taken]


def peek(client: Client, name: str, most: int) -> list[str]:
    """The first `most` elements of an egress list, which stay in it until they are acknowledged."""
    found: list[bytes] = client.lrange(name, 0, most - 1)
    return [text.decode("utf-8", "replace") for text in found]


def acknowledge(client: Client, name: str, elements: Sequence[str]) -> int:
    """Takes the first copy of each of these elements off an egress list. Returns how many.

    An element has no other name than its text: whoever acknowledges it twice takes two copies.
    """
    pipe = client.pipeline(transaction=False)
    for element in elements:
        pipe.lrem(name, 1, element)
    return sum(pipe.execute())


def pause(
    client: Client,
    wanted: Sequence[str],
    *,
    actor: str,
    configured: Collection[str] | None = None,
) -> Paused:
    """Pauses lists, known or not.

    Args:
        configured: the lists of the configuration. Where they are given, each of `wanted` must be
            one of them, or was served once, or holds something.

    Raises:
        OperationError: "not_found": one is nowhere; none is paused.
    """
    if configured is not None:
        strangers = {one.name: one for one in unknown(client, wanted, configured)}
        for name, found in depths(client, strangers).items():
            if not found.total:
                hint = strangers[name].hint
                raise OperationError(
                    f"there is no list {name}" + (f" ({hint})" if hint else ""), "not_found"
                )
    _pause(client, wanted, actor)
    if wanted:
        audit.record(client, actor, "pause", {"lists": list(wanted)}, len(wanted))
    return Paused(list(wanted))


def resume(client: Client, wanted: Sequence[str], *, actor: str) -> Resumed:
    """Ends the pause of lists; of all that are paused where `wanted` is empty."""
    ending = list(wanted) or paused(client)
    resumed = [name for name in ending if client.hdel(keys.CONTROL, keys.paused(name))]
    if resumed:
        audit.record(client, actor, "resume", {"lists": resumed}, len(resumed))
    return Resumed(resumed)


def drain(
    client: Client, configured: Iterable[str], *, timeout_s: float, actor: str
) -> Generator[Draining, None, None]:
    """Pauses every list, then waits until nothing is in flight or the time is over.

    Yields what is in flight at once and after each look. Closing the generator ends the waiting and
    leaves the lists paused.
    """
    wanted = names(client, configured)
    _pause(client, wanted, actor)
    audit.record(client, actor, "drain", {"lists": wanted}, len(wanted))
    deadline_s = time.monotonic() + timeout_s
    while True:
        left = hosts.in_flight(client)
        yield Draining(wanted, left)
        if not left or time.monotonic() >= deadline_s:
            return
        time.sleep(_LOOK_S)


def _pause(client: Client, wanted: Iterable[str], actor: str) -> None:
    value = f"{int(time.time() * 1000)} {actor}"
    if fields := {keys.paused(name): value for name in wanted}:
        wishes.ask(client, keys.CONTROL, fields)


def _pause_of(value: bytes) -> Pause:
    """What `_pause` wrote. Earlier versions wrote only the time. An operator's HSET may have
    written anything, such as 1: a time in the first minute of 1970 counts as unknown.
    """
    since_ms, _, actor = value.decode("utf-8", "replace").partition(" ")
    known = since_ms.isascii() and since_ms.isdigit() and int(since_ms) > _PAUSED_MS_MIN
    return Pause(int(since_ms) / 1000 if known else 0.0, actor)

"""Lists: how many items they hold, how long the oldest has waited; pause, resume and drain.

Workers claim nothing from a paused list. Producers may push to it, and items that were claimed
before the pause run to their end.
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
    """How many items of one list are in each place; None if the place's key has the wrong type."""

    queued: int | None
    returned: int | None
    suspects: int | None
    parked: int | None
    dead: int | None

    @property
    def total(self) -> int:
        """The items in all places; a place whose key has the wrong type counts as 0."""
        places = (self.queued, self.returned, self.suspects, self.parked, self.dead)
        return sum(count or 0 for count in places)


@dataclass(frozen=True, slots=True)
class Backlog:
    """The items of one list that need a worker now.

    queued, returned, suspects: items that wait there. due: parked items that are due, which only a
    running host requeues. in_flight: items that workers hold.
    """

    queued: int
    returned: int
    suspects: int
    due: int
    in_flight: int

    @property
    def total(self) -> int:
        """How many items need a worker. An autoscaler needs no worker if it is 0."""
        return self.queued + self.returned + self.suspects + self.due + self.in_flight


@dataclass(frozen=True, slots=True)
class UnknownName:
    """A name in a request that is not known.

    hint: a sentence that suggests the most similar known name, or "". kind: "list", or "where" for
    a link or storage.
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
    """since: when a list was paused, in Unix seconds; 0 if unknown. by: who paused it, or ""."""

    since: float
    by: str


@dataclass(frozen=True, slots=True)
class Resumed:
    """The lists that were resumed, without lists that were not paused."""

    resumed: list[str]


@dataclass(frozen=True, slots=True)
class Draining:
    """The lists that are paused, and how many items are still in flight."""

    paused: list[str]
    in_flight: int


def known(client: Client) -> list[str]:
    """The names of all lists that any worker has ever claimed from, sorted."""
    return lookup.known_lists(client)


def names(client: Client, configured: Iterable[str]) -> list[str]:
    """The lists of the configuration in its order, then all others that were ever claimed from."""
    return list(dict.fromkeys([*configured, *known(client)]))


def paused(client: Client) -> list[str]:
    """The names of the paused lists, sorted."""
    return list(pauses(client))


def pauses(client: Client) -> dict[str, Pause]:
    """name of a paused list -> since when it is paused, and by whom."""
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
    """The names in `wanted` that are not configured and from which no worker has ever claimed. They
    may be misspelt.
    """
    there = names(client, configured)
    return [UnknownName(name, suggest(name, there)) for name in sorted(set(wanted) - set(there))]


def check_known(
    client: Client, wanted: Iterable[str], configured: Iterable[str], *, pushed: bool = True
) -> None:
    """Refuse a list that is most likely misspelt: it is not configured or paused, no worker has
    ever claimed from it, and it holds no items and no dead letters.

    Args:
        pushed: whether elements that a producer has pushed make a list known, too. The HTTP API
            passes False, because its callers must not reach the lists of other programs.

    Raises:
        OperationError: "not_found": one of the lists is unknown; the error suggests another name.
    """
    known = [*configured, keys.NOTIFICATIONS, *paused(client)]
    strangers = {one.name: one.hint for one in unknown(client, wanted, known)}
    for name, found in depths(client, strangers).items():
        if found.total == (0 if pushed else found.queued or 0):
            hint = strangers[name]
            text = f"there is no list {name}" + (f" ({hint})" if hint else "")
            raise OperationError(text, "not_found")


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
    """The items of a list that need a worker now. A place whose key has the wrong type counts as 0.

    It takes three round trips, however many items wait. If workers have ever claimed from other
    lists, it also reads the records of all running items, because only a record tells the list of
    its item.
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
    """list -> for how many seconds its oldest item has waited for a worker.

    Items wait in the list itself, in `returned` or in `suspects`; parked items are left out. 0.0 if
    no item waits; None if the age is unknown.

    queue/waiting.lua says how the age is estimated. Coordinators take a sample every few seconds; a
    call of this function takes a sample, too, if the last one is old.
    """
    from redis.exceptions import ReadOnlyError, ResponseError

    from conserver.queue.retrying_connection import lacks_permission

    wanted = list(wanted)
    found: dict[str, float | None] = {}
    for first in range(0, len(wanted), _AGES_PER_CALL):
        some = wanted[first : first + _AGES_PER_CALL]
        try:
            answer = script.run(client, host_calls.waiting(some, _AGES_EVERY_MS))
            found.update(host_calls.read_waiting(some, answer))
        except ReadOnlyError:
            found.update(dict.fromkeys(some))
        except ResponseError as error:
            if not wrong_type.is_wrong_type(error) and not lacks_permission(error):
                raise
            found.update(dict.fromkeys(some))  # a read-only Redis user still sees other figures
    return found


def depth(client: Client, key: str) -> int:
    """How many elements one list has; 0 if it does not exist. Raises redis.ResponseError."""
    return int(client.llen(key))


def take(client: Client, name: str, most: int) -> list[str]:
    """Remove up to `most` elements from the front of an egress list, and return them.

    If the answer gets lost, the elements are lost, because Redis keeps no copy of them.
    """
    taken: list[bytes] = client.lpop(name, most) or []
    return [text.decode("utf-8", "replace") for text in taken]


def peek(client: Client, name: str, most: int) -> list[str]:
    """The first `most` elements of an egress list. They stay there until `acknowledge`."""
    found: list[bytes] = client.lrange(name, 0, most - 1)
    return [text.decode("utf-8", "replace") for text in found]


def acknowledge(client: Client, name: str, elements: Sequence[str]) -> int:
    """Remove the first copy of each of these elements from an egress list. Returns how many.

    Elements are identified by their text alone. So a second acknowledgement removes a second copy,
    if there is one.
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
    """Pause lists.

    Args:
        configured: the lists of the configuration. If given, `check_known` checks the names. If
            None, any name may be paused.

    Raises:
        OperationError: "not_found": one of the lists is unknown; no list was paused.
    """
    if configured is not None:
        check_known(client, wanted, configured)
    _pause(client, wanted, actor)
    if wanted:
        audit.record(client, actor, "pause", {"lists": list(wanted)}, len(wanted))
    return Paused(list(wanted))


def resume(
    client: Client, wanted: Sequence[str], *, actor: str, configured: Collection[str] = ()
) -> Resumed:
    """Resume paused lists; all paused lists if `wanted` is empty.

    Args:
        configured: the lists of the configuration, which are known although no worker has claimed
            from them yet.

    Raises:
        OperationError: "not_found": one of the lists is unknown (`check_known`); no list was
            resumed.
    """
    check_known(client, wanted, configured)
    ending = list(wanted) or paused(client)
    resumed = [name for name in ending if client.hdel(keys.CONTROL, keys.paused(name))]
    if resumed:
        audit.record(client, actor, "resume", {"lists": resumed}, len(resumed))
    return Resumed(resumed)


def drain(
    client: Client, configured: Iterable[str], *, timeout_s: float, actor: str
) -> Generator[Draining, None, None]:
    """Pause all lists, then wait until no item is in flight or `timeout_s` is over.

    Yields the number of items in flight, first at once and then after each look. Closing the
    generator ends the waiting; the lists stay paused.
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
    """Parse the value that `_pause` wrote. Earlier versions wrote only the time. An operator's HSET
    may have written any value, such as 1: a time in the first minute of 1970 counts as unknown.
    """
    since_ms, _, actor = value.decode("utf-8", "replace").partition(" ")
    known = since_ms.isascii() and since_ms.isdigit() and int(since_ms) > _PAUSED_MS_MIN
    return Pause(int(since_ms) / 1000 if known else 0.0, actor)

"""Documents onto a list, as any producer would put them there.

A document is refused here if a worker would make it a dead letter: it is no vCon, or too large.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from dataclasses import dataclass, field

from conserver.config.model import Config, check_list_name
from conserver.config.validation import suggest
from conserver.errors import InvalidArgumentError, OperationError, Rejected
from conserver.operations import audit, hosts, lists
from conserver.operations.connection import Client
from conserver.queue import keys
from conserver.vcon.document import Vcon


@dataclass(frozen=True, slots=True)
class Submitted:
    """One document and what became of it.

    Attributes:
        source: the name that the caller gave it.
        uuid: "" where it was refused.
        outcome: refused, submitted, and once it was followed: ended, dead or waiting.
        detail: why it was refused or is dead.
        duration_s: seconds from the last submission until a look did not find it any more.
        analyses, tags: what the document in Redis had by then.
    """

    source: str
    uuid: str = ""
    outcome: str = "submitted"
    detail: str = ""
    duration_s: float | None = None
    analyses: list[str] = field(default_factory=list)
    tags: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Readiness:
    """Whether a list is taken from.

    Attributes:
        hosts: how many hosts live.
        served: whether one of them serves the list.
        hint: a sentence about the likeliest list that is served, where this one is not.
    """

    hosts: int
    served: bool
    paused: bool
    hint: str


def check_name(name: str) -> str:
    """The name, if a configuration could name a list so: other names are Conserver's own keys.

    Raises:
        InvalidArgumentError: with the reason.
    """
    try:
        return check_list_name(name)
    except ValueError as error:
        raise InvalidArgumentError("list", f"{{}} {name}: {error}") from None


def only_list(config: Config, config_file: str) -> str:
    """The list that the configuration serves, if it is only one.

    Raises:
        InvalidArgumentError: it serves none or several, so the list has to be named.
    """
    names = list(config.ingress)
    if len(names) != 1:
        text = ", ".join(names) or "none"
        raise InvalidArgumentError("list", f"say which list with {{}}: {config_file} has {text}")
    return names[0]


def check_type(client: Client, name: str) -> None:
    """Raises OperationError ("conflict") where the list's key holds another type.

    To be called before `put`, which would leave a document that nothing refers to.
    """
    kind = client.type(name).decode()
    if kind not in ("none", "list"):
        raise OperationError(f"{name} is a {kind} in Redis, and no list", "conflict")


def put(client: Client, name: str, raw: bytes, *, max_bytes: int) -> str:
    """Writes a document to Redis and pushes its uuid on a list, both at once. Returns the uuid.

    Leaves no audit entry.

    Raises:
        Rejected: it is no vCon, or has more than `max_bytes`.
    """
    uuid = Vcon.parse(raw).uuid
    if len(raw) > max_bytes:
        raise Rejected(f"{len(raw)} bytes are more than CONSERVER_MAX_DOCUMENT_BYTES ({max_bytes})")
    pipe = client.pipeline(transaction=True)
    pipe.set(keys.document(uuid), raw)
    pipe.rpush(name, uuid)
    pipe.execute()
    return uuid


def submit(
    client: Client,
    name: str,
    documents: Iterable[tuple[str, bytes | Rejected]],
    *,
    max_bytes: int,
    actor: str,
) -> Generator[Submitted, None, None]:
    """Puts documents on a list, one after the other; yields what became of each.

    Args:
        documents: each with the name of its source, or why it could not be read.
    """
    count = 0
    try:
        for source, raw in documents:
            try:
                if isinstance(raw, Rejected):
                    raise raw
                uuid = put(client, name, raw, max_bytes=max_bytes)
            except Rejected as refusal:
                yield Submitted(source, outcome="refused", detail=refusal.reason)
            else:
                count += 1
                yield Submitted(source, uuid)
    finally:
        if count:
            audit.record(client, actor, "submit", {"list": name}, count)


def readiness(client: Client, name: str) -> Readiness:
    """Whether a list is taken from: a document on a list with a misspelt name waits for ever."""
    living = [host for host in hosts.read(client) if host.beats]
    served = {listed for host in living for listed in host.lists}
    return Readiness(
        hosts=len(living),
        served=name in served,
        paused=name in lists.paused(client),
        hint="" if name in served else suggest(name, served),
    )

"""Documents onto a list, as any producer would put them there.

A document is refused here if a worker would make it a dead letter: it is no vCon, or too large.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Iterable
from dataclasses import dataclass, field

from redis.exceptions import OutOfMemoryError

from conserver.config.model import Config
from conserver.config.names import check_list_name
from conserver.config.settings import Settings
from conserver.config.validation import suggest
from conserver.errors import InvalidArgumentError, OperationError, Rejected
from conserver.operations import audit, callbacks, hosts, lists
from conserver.operations.callbacks import Callback
from conserver.operations.connection import Client
from conserver.queue import calls, jobs, keys, operator_calls, script
from conserver.queue.operator_calls import Submission
from conserver.vcon.document import Vcon

INCOMING_S = 300
"""How long a large document waits in Redis for the script that takes it."""


@dataclass(frozen=True, slots=True)
class Submitted:
    """One document and what became of it.

    Attributes:
        source: the name that the caller gave it.
        uuid: "" where it was refused.
        job: the id under which it can be followed; "" where it was refused.
        outcome: refused, submitted, and once it was followed: completed, filtered, cancelled,
            failed or waiting.
        detail: why it was refused or failed, or what it waits for.
        duration_s: seconds from its submission to its end.
        analyses, tags: what the document in Redis had by then.
    """

    source: str
    uuid: str = ""
    job: str = ""
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


def prioritised(config: Config, name: str, priority: str) -> str:
    """The list that a submission to a list goes to, with this priority ("" is none).

    Raises:
        InvalidArgumentError: the chain of that list has no list for this priority.
    """
    if not priority:
        return name
    chain = config.chains.get(config.ingress.get(name, ""))
    known = dict(chain.priorities) if chain is not None else {}
    if priority not in known:
        has = f"it has {', '.join(known)}" if known else "it has none (`priorities`)"
        what = f"the chain of the list `{name}` has no {{}} `{priority}`: {has}"
        raise InvalidArgumentError("priority", what)
    return known[priority]


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


def check_served(
    client: Client, name: str, configured: Iterable[str], *, force: bool = False
) -> None:
    """Refuses a list that nobody has ever served: most likely its name is misspelt.

    Args:
        configured: the lists of the configuration here, whose hosts may not have been started yet.
        force: it becomes a known list instead, so that `status`, `where` and `cancel` see it.

    Raises:
        InvalidArgumentError: with the likeliest name that is known.
    """
    known = {*configured, *lists.known(client)}
    known |= {listed for host in hosts.read(client) for listed in host.lists}
    if name not in known and force:
        client.sadd(keys.LISTS, name)
    elif name not in known:
        hint = suggest(name, known)
        what = f"{{}} {name}: nobody has ever served such a list{f' ({hint})' if hint else ''}"
        raise InvalidArgumentError("list", f"{what}; --force pushes to it all the same")


def split(raw: bytes) -> list[bytes]:
    """The documents in a text: one; one per line (JSONL); or several, one after the other.

    What is no JSON is given back whole, and refused later with the reason.
    """
    lines = [line for line in raw.splitlines() if line.strip()]
    if len(lines) > 1 and all(line.lstrip().startswith(b"{") for line in lines):
        return lines
    decoder, found = json.JSONDecoder(), []
    try:
        text = raw.decode("utf-8")
        rest = text.strip()
        while rest:
            _, end = decoder.raw_decode(rest)
            found.append(rest[:end].encode())
            rest = rest[end:].lstrip()
    except ValueError:
        return [raw]
    return found if len(found) > 1 else [raw]


def check_type(client: Client, name: str) -> None:
    """Raises OperationError ("conflict") where the list's key holds another type.

    To be called before `put`, which would leave a document that nothing refers to.
    """
    kind = client.type(name).decode()
    if kind not in ("none", "list"):
        raise OperationError(f"{name} is a {kind} in Redis, and no list", "conflict")


def put(
    client: Client,
    name: str,
    raw: bytes,
    *,
    settings: Settings,
    callback: Callback | None = None,
    due_ms: int = 0,
) -> tuple[str, str]:
    """Stores a document and pushes it as a job, in one step. Returns its uuid and the job's id.

    Leaves no audit entry.

    Args:
        callback: where the end of the job is told.
        due_ms: when it may run, in ms since 1970; 0 for now.

    Raises:
        Rejected: it is no vCon or too large, its callback can never arrive, or the list is no list
            (any more).
        redis.RedisError: Redis is full, or away.
    """
    if callback is not None:
        callbacks.check(callback, settings)
    uuid = Vcon.parse(raw).uuid
    if len(raw) > settings.max_document_bytes:
        limit = f"CONSERVER_MAX_DOCUMENT_BYTES ({settings.max_document_bytes})"
        raise Rejected(f"{len(raw)} bytes are more than {limit}")
    job = jobs.new_id()
    one = Submission(
        name,
        uuid,
        job,
        raw,
        due_ms=due_ms,
        keep_s=settings.job_expiry_s,
        max_s=settings.job_max_s,
        fields=callbacks.fields(callback),
    )
    if len(raw) > calls.SMALL_BYTES:
        one = one._replace(body=b"", source=keys.incoming(job))
        client.set(one.source, raw, ex=INCOMING_S)
    answer = [part.decode() for part in script.run(client, operator_calls.submit(one))]
    if answer[0] not in ("queued", "waiting", "exists"):
        raise Rejected(f"Redis did not take it: {' '.join(answer)}")
    return uuid, job


def submit(
    client: Client,
    name: str,
    documents: Iterable[tuple[str, bytes | Rejected]],
    *,
    settings: Settings,
    actor: str,
    callback: Callback | None = None,
    due_ms: int = 0,
) -> Generator[Submitted, None, None]:
    """Puts documents on a list, one after the other; yields what became of each.

    A Redis that gets full on the way refuses those that it has no room for, each by its name.

    Args:
        documents: each with the name of its source, or why it could not be read.
        callback: where the end of each job is told.
        due_ms: when they may run, in ms since 1970; 0 for now.
    """
    count = 0
    try:
        for source, raw in documents:
            try:
                if isinstance(raw, Rejected):
                    raise raw
                uuid, job = put(
                    client, name, raw, settings=settings, callback=callback, due_ms=due_ms
                )
            except Rejected as refusal:
                yield Submitted(source, outcome="refused", detail=refusal.reason)
            except OutOfMemoryError:
                detail = "Redis is full: submit it again when there is room"
                yield Submitted(source, outcome="refused", detail=detail)
            else:
                count += 1
                yield Submitted(source, uuid, job)
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

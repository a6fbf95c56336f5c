"""Puts documents on a list, each with a job.

It refuses a document that a worker would dead-letter: one that is no vCon, or that is too large.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Iterable
from dataclasses import dataclass, field

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
"""How long Redis keeps a large document that submit.lua has not renamed yet."""


@dataclass(frozen=True, slots=True)
class Submitted:
    """The outcome of one submission.

    Attributes:
        source: the caller's name for the document, such as its path.
        uuid: "" if the document was refused.
        job: the id of the job; "" if the document was refused.
        outcome: refused or submitted; after follow.py has followed the job: completed, filtered,
            cancelled, failed or waiting.
        detail: why the document was refused or failed, or what its item waits for.
        duration_s: seconds from the submission to the end; None if the end is unknown.
        analyses, tags: the types of the analyses, and the tags, in the document at the end.
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
    """Whether workers claim from a list.

    Attributes:
        hosts: how many hosts live.
        served: whether one of these hosts serves the list.
        paused: whether the list is paused.
        hint: if the list is not served, a sentence that suggests the most similar served list.
    """

    hosts: int
    served: bool
    paused: bool
    hint: str


def check_name(name: str) -> str:
    """Return the name if it can be the name of a list. Other names are Conserver's own keys.

    Raises:
        InvalidArgumentError: with the reason.
    """
    try:
        return check_list_name(name)
    except ValueError as error:
        raise InvalidArgumentError("list", f"{{}} {name}: {error}") from None


def prioritised(config: Config, name: str, priority: str) -> str:
    """The list to which a submission to the list `name` goes if it has a priority ("" for none).

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
        InvalidArgumentError: it serves no list or several lists, so the caller must name one.
    """
    names = list(config.ingress)
    if len(names) != 1:
        text = ", ".join(names) or "none"
        raise InvalidArgumentError("list", f"say which list with {{}}: {config_file} has {text}")
    return names[0]


def check_served(
    client: Client, name: str, configured: Iterable[str], *, force: bool = False
) -> None:
    """Refuse a list that no host has ever served: most likely its name is misspelt.

    Args:
        configured: the lists of the local configuration, whose hosts may not have started yet.
        force: do not refuse the list, but add it to the known lists, so that `status`, `where` and
            `cancel` see it.

    Raises:
        InvalidArgumentError: the list is unknown; the error suggests the most similar known name.
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
    """Split a text into documents: one document, one per line (JSONL), or several in a row.

    A text that is no JSON is returned whole; `put` refuses it later with the reason.
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
    except (ValueError, RecursionError):  # The latter where it is nested too deeply.
        return [raw]
    return found if len(found) > 1 else [raw]


def check_type(client: Client, name: str) -> None:
    """Raise OperationError ("conflict") if the list's key has the wrong type.

    Call this before `put`: for such a list `put` would leave a document that nothing refers to.
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
    """Store a document and push it with a new job, in one step. Returns its uuid and the job's id.

    It adds no audit entry.

    Args:
        callback: who is notified of the job's end.
        due_ms: when the item may run, in ms since 1970; 0 for now.

    Raises:
        Rejected: the document is no vCon or is too large, its callback can never arrive, or the
            list's key has the wrong type.
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
    """Put documents on a list, one after the other, and yield the outcome of each.

    If Redis becomes full, the documents for which it has no room are refused one by one.

    Args:
        documents: pairs of a source name and the document, or the reason why it was not readable.
        callback: who is notified of the end of each job.
        due_ms: when the items may run, in ms since 1970; 0 for now.
    """
    from redis.exceptions import OutOfMemoryError

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
    """Whether workers claim from a list. (On a misspelt list a document would wait for ever.)"""
    living = [host for host in hosts.read(client) if host.beats]
    served = {listed for host in living for listed in host.lists}
    return Readiness(
        hosts=len(living),
        served=name in served,
        paused=name in lists.paused(client),
        hint="" if name in served else suggest(name, served),
    )

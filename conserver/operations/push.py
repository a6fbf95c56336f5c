"""Pushes documents and uuids to lists in one step, without a job, as a producer does."""

from __future__ import annotations

from collections.abc import Sequence

from conserver.config.settings import Settings
from conserver.errors import OperationError
from conserver.operations import documents, lists
from conserver.operations.connection import Client
from conserver.operations.documents import StorageReader
from conserver.operations.submit import INCOMING_S, check_type
from conserver.queue import calls, jobs, keys, operator_calls, script
from conserver.queue.operator_calls import Submission
from conserver.telemetry.traces import TRACES

_NO_KEY = -2  # the PTTL of a key that is not there


def push(
    client: Client, names: Sequence[str], uuid: str, raw: bytes, *, settings: Settings
) -> None:
    """Store a document and push its bare uuid to lists, in one step, as a producer does.

    The document then has no expiry until the end of its item. It adds no audit entry.

    Args:
        names: one list or several; if one of them cannot take the uuid, nothing is stored.

    Raises:
        OperationError: "unavailable" if a list is full, "conflict" if a key is no list.
        redis.RedisError: Redis is full, or away.
    """
    if len(names) > 1:
        for name in names:  # check all lists before the first push
            check_room(client, name, 1, settings)
    first = Submission(names[0], uuid, body=raw, most=settings.list_cap)
    if len(raw) > calls.SMALL_BYTES:
        first = first._replace(body=b"", source=keys.incoming(jobs.new_id()))
        client.set(first.source, raw, ex=INCOMING_S)
    _leave_contexts(client, names, [uuid], settings)
    others = [Submission(name, uuid, most=settings.list_cap) for name in names[1:]]
    if others:
        with client.pipeline() as pipe:
            for one in (first, *others):
                pipe.execute_command(*operator_calls.submit(one).command(whole=True))
            answers = pipe.execute()
    else:
        answers = [script.run(client, operator_calls.submit(first))]
    for name, answer in zip(names, answers, strict=True):
        if answer[0] != b"queued":
            if first.source:
                client.delete(first.source)
            raise _refusal(name, [part.decode() for part in answer])


def push_stored(
    client: Client,
    storages: StorageReader,
    name: str,
    uuids: Sequence[str],
    *,
    settings: Settings,
) -> list[str]:
    """Push the uuids of documents that are already stored, and remove their expiries in Redis.

    Returns:
        The uuids that neither Redis nor a storage has; they were not pushed.

    Raises:
        OperationError: nothing was pushed; for the reasons of `push`, or "unavailable": a storage
            that may have one of the documents could not be asked.
        redis.RedisError
    """
    pipe = client.pipeline(transaction=False)
    for uuid in uuids:
        pipe.pttl(keys.document(uuid))
    lives = dict(zip(uuids, pipe.execute(), strict=True))
    absent = [uuid for uuid, left_ms in lives.items() if left_ms == _NO_KEY]
    missing = {uuid for uuid in absent if not _is_stored(storages, uuid)}
    wanted = [uuid for uuid in uuids if uuid not in missing]
    if wanted:
        check_room(client, name, len(wanted), settings)
        _leave_contexts(client, [name], wanted, settings)
        with client.pipeline() as pipe:
            for uuid in wanted:
                if documents.expires(lives[uuid]):
                    pipe.persist(keys.document(uuid))
            pipe.rpush(name, *wanted)
            pipe.execute()
    return sorted(missing)


def _leave_contexts(
    client: Client, names: Sequence[str], uuids: Sequence[str], settings: Settings
) -> None:
    """Write the current trace span, such as a request's, to the keys where vcon-server's API puts
    it, for the workers that claim these vCons. Call this before the push, so that a worker finds
    the span.
    """
    otel = TRACES.otel
    note = otel.note() if otel is not None and settings.context_expiry_s else b""
    if not note:
        return
    pipe = client.pipeline(transaction=False)
    for key in [keys.trace_context(name, uuid) for name in names for uuid in uuids]:
        pipe.rpush(key, note)
        pipe.expire(key, settings.context_expiry_s)
    pipe.execute(raise_on_error=False)  # without the span the items run all the same


def _is_stored(storages: StorageReader, uuid: str) -> bool:
    found = documents.get(None, storages, uuid)
    if found.text is None and found.silent:
        silent = ", ".join(sorted(found.silent))
        raise OperationError(
            f"{uuid} is not in Redis, and these storages could not be asked: {silent}",
            "unavailable",
        )
    return found.text is not None


def check_room(client: Client, name: str, count: int, settings: Settings) -> None:
    """Raise OperationError, as `push` does, if a list cannot take `count` more elements."""
    check_type(client, name)
    waiting = lists.depth(client, name)
    if settings.list_cap and waiting + count > settings.list_cap:
        raise _refusal(name, ["full", str(waiting)])


def _refusal(name: str, answer: Sequence[str]) -> OperationError:
    """The error for an answer of submit.lua other than `queued`."""
    match answer:
        case ["full", waiting]:
            text = f"{waiting} items wait on `{name}`, and no more are taken; try again later"
            return OperationError(text, "unavailable")
        case ["type", key, kind]:
            text = f"{key} is a {kind} in Redis: an operator has to rename it"
            return OperationError(text, "conflict")
    return OperationError("the document was lost on its way; send it again", "unavailable")

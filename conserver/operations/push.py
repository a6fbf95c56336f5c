"""Documents and uuids onto lists as a producer pushes them: bare, in one step, without a job."""

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
    """Stores a document and pushes its bare uuid onto lists, in one step, as a producer would.

    It has no expiry from then on: the end of its item sets one. Leaves no audit entry.

    Args:
        names: one list or several; nothing happens where one of them cannot take it.

    Raises:
        OperationError: "unavailable" where a list is full, "conflict" where a key is no list.
        redis.RedisError: Redis is full, or away.
    """
    if len(names) > 1:
        for name in names:  # What one list refuses must not have gone to another one.
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
    """Pushes uuids of documents that are stored already; one that was to expire no longer does.

    Returns:
        Those that neither Redis nor a storage has: they were not pushed.

    Raises:
        OperationError: nothing was pushed: as `push`, and "unavailable" where a storage that may
            have one of them could not be asked.
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
    """Leave the span that is open here, such as a request's, for the workers that take these vCons
    from these lists: where vcon-server's API leaves it. Before the push, so that it is there.
    """
    otel = TRACES.otel
    note = otel.note() if otel is not None and settings.context_expiry_s else b""
    if not note:
        return
    pipe = client.pipeline(transaction=False)
    for key in [keys.trace_context(name, uuid) for name in names for uuid in uuids]:
        pipe.rpush(key, note)
        pipe.expire(key, settings.context_expiry_s)
    pipe.execute(raise_on_error=False)  # A hint: nothing depends on it.


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
    """Raises OperationError where a list cannot take so many more: see `push`."""
    check_type(client, name)
    waiting = lists.depth(client, name)
    if settings.list_cap and waiting + count > settings.list_cap:
        raise _refusal(name, ["full", str(waiting)])


def _refusal(name: str, answer: Sequence[str]) -> OperationError:
    """What an answer of submit.lua means that is not `queued`."""
    match answer:
        case ["full", waiting]:
            text = f"{waiting} items wait on `{name}`, and no more are taken; try again later"
            return OperationError(text, "unavailable")
        case ["type", key, kind]:
            text = f"{key} is a {kind} in Redis: an operator has to rename it"
            return OperationError(text, "conflict")
    return OperationError("the document was lost on its way; send it again", "unavailable")

"""Long operations in the background: requeue and purge dead letters, cancel vCons, try parked
items now, empty lists.

An operation runs in a thread of the process that accepted it. Its progress is in Redis, so that
every process can show the operation and stop it:

    conserver:operation:<id>   hash: kind, filter (JSON), dry_run, limit, by, status, done,
                               matching, total, left_out (JSON), error, created_ms, updated_ms,
                               stop
    conserver:operations       sorted set: time of creation in ms -> id, of the latest 1000

status: running, done, stopped (somebody asked to stop it), failed, or interrupted (its process has
ended). Nothing resumes an interrupted operation: an operator begins a new one. Items that it has
changed stay changed.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass
from typing import Any, Literal

import orjson

from conserver.errors import ConserverError, InvalidArgumentError, OperationError
from conserver.operations import audit, dead_letter_moves, items, lists, waiting
from conserver.operations.connection import Client
from conserver.operations.dead_letter_moves import Progress
from conserver.operations.dead_letters import Filter
from conserver.operations.waiting import WaitingFilter
from conserver.queue import keys, wishes
from conserver.queue.wishes import Index
from conserver.telemetry import log
from conserver.telemetry.redact import redact_text

KINDS = ("requeue", "purge", "cancel", "retry", "empty")
OF_WAITING = ("retry", "empty")
"""The kinds that take a WaitingFilter; the others take a Filter."""
KEEP = 1000
KEEP_S = 86_400
WRITE_EVERY_S = 0.25
SILENT_S = 30.0
"""A running operation that has written no progress for so long counts as interrupted."""

RUNNING_MAX = 8
"""Operations that one process runs at the same time."""

Kind = Literal["requeue", "purge", "cancel", "retry", "empty"]


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation, as its hash was when it was read. Times are seconds since 1970.

    Attributes:
        filter: the fields of dead_letters.Filter or waiting.WaitingFilter that are set.
        limit: change at most so many letters or items; 0: no limit.
        done, matching, total, left_out: see dead_letter_moves.Progress.
    """

    id: str
    kind: str
    filter: Mapping[str, Any]
    dry_run: bool
    limit: int
    by: str
    status: str
    done: int
    matching: int
    total: int
    left_out: Mapping[str, int]
    error: str
    created_at: float
    updated_at: float


@dataclass(frozen=True, slots=True)
class Order:
    """The request for an operation. A cancel needs `uuids` in its filter, and ignores the filter's
    other fields.
    """

    kind: str
    filter: Filter | WaitingFilter
    by: str
    dry_run: bool = False
    limit: int = 0

    def check(self) -> None:
        """Raise InvalidArgumentError if the order cannot be carried out."""
        if self.kind not in KINDS:
            raise InvalidArgumentError("kind", f"{{}} is one of {', '.join(KINDS)}")
        if isinstance(self.filter, WaitingFilter) is not (self.kind in OF_WAITING):
            raise InvalidArgumentError("filter", f"{{}} is none of a {self.kind}")
        if self.kind == "cancel" and not self.filter.uuids:
            raise InvalidArgumentError("uuids", "a cancel needs {}")
        self.filter.check()


class Operations:
    """The operations that this process runs."""

    def __init__(
        self,
        connect: Callable[[], AbstractContextManager[Client]],
        configured: Collection[str] = (),
        keep_s: int = 0,
    ) -> None:
        """
        Args:
            connect: makes a client for one operation.
            configured: the lists of the configuration.
            keep_s: how long documents of cancelled vCons are kept, see items.let_expire.
        """
        self._connect = connect
        self._configured = configured
        self._keep_s = keep_s
        self._threads: dict[str, threading.Thread] = {}
        self._closing = threading.Event()

    def begin(self, order: Order) -> Operation:
        """Begin an operation.

        Raises:
            OperationError: "invalid", or "unavailable" if this process runs too many operations.
        """
        order.check()
        self._threads = {name: one for name, one in self._threads.items() if one.is_alive()}
        if len(self._threads) >= RUNNING_MAX:
            raise OperationError(f"{RUNNING_MAX} operations run here already", "unavailable")
        name = f"{time.time_ns() // 1_000_000:011x}{secrets.token_hex(4)}"
        with self._connect() as client:
            _create(client, name, order)
            made = get(client, name)
        thread = threading.Thread(target=self._run, args=(name, order), name=f"operation-{name}")
        self._threads[name] = thread
        thread.start()
        return made

    def wait(self, name: str, timeout_s: float) -> None:
        """Wait until an operation of this process has ended, at most `timeout_s`."""
        thread = self._threads.get(name)
        if thread is not None:
            thread.join(timeout_s)

    def close(self) -> None:
        """Interrupt all operations of this process between two steps, and wait for their end."""
        self._closing.set()
        for thread in self._threads.values():
            thread.join()

    def _run(self, name: str, order: Order) -> None:
        from redis.exceptions import RedisError

        error, status = "", "failed"
        try:
            with self._connect() as client:
                status = self._carry_out(client, name, order)
        except (ConserverError, RedisError) as failure:
            error = redact_text(str(failure))
        except Exception as failure:  # noqa: BLE001 - the error goes to the log and to Redis
            log.get_logger().exception("operation_failed", operation=name)
            error = f"{type(failure).__name__}; the log has more under `operation_failed`"
        try:
            with self._connect() as client:
                _note(client, name, {"status": status, "error": error})
        except RedisError as failure:  # the operation will be shown as interrupted
            log.get_logger().warning("operation_not_noted", operation=name, error=str(failure))

    def _carry_out(self, client: Client, name: str, order: Order) -> str:
        """Carry out an order. Returns the operation's final status."""
        noted_s, latest = 0.0, Progress(0, 0, 0)
        with closing(_steps(client, order, self._configured, self._keep_s)) as steps:
            for latest in steps:
                if time.monotonic() - noted_s < WRITE_EVERY_S:
                    continue
                noted_s = time.monotonic()
                _note(client, name, _figures(latest))
                if self._closing.is_set():
                    return "interrupted"
                if client.hexists(keys.operation(name), "stop"):
                    return "stopped"
        _note(client, name, _figures(latest))
        return "done"


def in_earnest(dry: Operation, by: str) -> Order:
    """The order that does what a dry run has counted, with the same filter and limit.

    Raises:
        OperationError: "conflict": `dry` is no dry run, or is not done.
    """
    if not dry.dry_run or dry.status != "done":
        raise OperationError("only a dry run that is done can be carried out", "conflict")
    fields: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in dry.filter.items()
    }
    meant = WaitingFilter(**fields) if dry.kind in OF_WAITING else Filter(**fields)
    return Order(dry.kind, meant, by, limit=dry.limit)


def get(client: Client, name: str) -> Operation:
    """One operation. Raises OperationError: "not_found"."""
    found = _load(name, client.hgetall(keys.operation(name)))
    if found is None:
        raise OperationError(f"there is no operation `{name[:80]}` (any more)", "not_found")
    return found


def newest(client: Client, limit: int = 100) -> list[Operation]:
    """The latest operations, the newest first."""
    names = [name.decode() for name in client.zrevrange(keys.OPERATIONS, 0, limit - 1)]
    pipe = client.pipeline(transaction=False)
    for name in names:
        pipe.hgetall(keys.operation(name))
    loaded = (_load(*pair) for pair in zip(names, pipe.execute(), strict=True))
    return [one for one in loaded if one is not None]


def stop(client: Client, name: str, *, actor: str) -> Operation:
    """Ask an operation to end after its current step. Raises OperationError: "not_found", or
    "conflict" if the operation is not running.
    """
    found = get(client, name)
    if found.status != "running":
        raise OperationError(f"the operation has ended: {found.status}", "conflict")
    wishes.ask(client, keys.operation(name), {"stop": "1"})
    audit.record(client, actor, "stop", {"operation": name}, 1)
    return found


def _steps(client: Client, order: Order, configured: Collection[str], keep_s: int) -> Any:
    if order.kind == "cancel":
        return _cancelled(client, order, configured, keep_s)
    how: dict[str, Any] = {"limit": order.limit, "dry_run": order.dry_run, "actor": order.by}
    if isinstance(order.filter, WaitingFilter):
        how["configured"] = configured
        if order.kind == "retry":
            return waiting.retry(client, order.filter, **how)
        return waiting.empty(client, order.filter, **how, keep_s=keep_s)
    move = dead_letter_moves.requeue if order.kind == "requeue" else dead_letter_moves.purge
    return move(client, order.filter, **how)


def _cancelled(
    client: Client, order: Order, configured: Collection[str], keep_s: int
) -> Iterator[Progress]:
    uuids = order.filter.uuids[: order.limit or None]
    done = 0
    yield Progress(0, 0, len(uuids))
    names = lists.names(client, [*configured])
    for uuid in uuids:
        if order.dry_run:
            found = items.find(client, names, [uuid])
            done += sum(entry.where != "dead" for entry in found)
        else:
            done += items.cancel(
                client, uuid, actor=order.by, configured=configured, keep_s=keep_s
            ).total
        yield Progress(0 if order.dry_run else done, done, len(uuids))


def _create(client: Client, name: str, order: Order) -> None:
    now_ms = int(time.time() * 1000)
    fields = {
        "kind": order.kind,
        "filter": orjson.dumps(order.filter.as_target()),
        "dry_run": int(order.dry_run),
        "limit": order.limit,
        "by": order.by,
        "status": "running",
        "created_ms": now_ms,
        "updated_ms": now_ms,
    }
    index = Index(keys.OPERATIONS, now_ms, name, KEEP)
    wishes.ask(client, keys.operation(name), fields, expire_s=KEEP_S, index=index)


def _note(client: Client, name: str, fields: Mapping[str, Any]) -> None:
    told = {**fields, "updated_ms": int(time.time() * 1000)}
    wishes.ask(client, keys.operation(name), told, expire_s=KEEP_S)


def _figures(progress: Progress) -> dict[str, Any]:
    return {
        "done": progress.done,
        "matching": progress.matching,
        "total": progress.total,
        "left_out": orjson.dumps(progress.left_out),
    }


def _load(name: str, found: Mapping[bytes, bytes]) -> Operation | None:
    fields = {key.decode(): value.decode("utf-8", "replace") for key, value in found.items()}
    if "kind" not in fields or "status" not in fields:
        return None
    updated_at = int(fields.get("updated_ms", 0)) / 1000
    status = fields["status"]
    if status == "running" and time.time() - updated_at > SILENT_S:
        status = "interrupted"
    return Operation(
        id=name,
        kind=fields["kind"],
        filter=orjson.loads(fields.get("filter", "{}")),
        dry_run=fields.get("dry_run") == "1",
        limit=int(fields.get("limit", 0)),
        by=fields.get("by", ""),
        status=status,
        done=int(fields.get("done", 0)),
        matching=int(fields.get("matching", 0)),
        total=int(fields.get("total", 0)),
        left_out=orjson.loads(fields.get("left_out", "{}")),
        error=redact_text(fields.get("error", "")),
        created_at=int(fields.get("created_ms", 0)) / 1000,
        updated_at=updated_at,
    )

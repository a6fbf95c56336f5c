"""Connects to PostgreSQL; every call over the connection ends by a deadline.

psycopg makes the connection. Statements use libpq's asynchronous calls, because only these let a
client stop waiting for a server that has stopped answering. They also cost the least CPU.
"""

from __future__ import annotations

import os
import select
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg.pq import ConnStatus, DiagnosticField, ExecStatus, Format

if TYPE_CHECKING:
    from psycopg.pq.abc import PGresult

_UPSERT_NAME = b"conserver_upsert"
# How long libpq waits for one address before it tries the next one.
_CONNECT_TIMEOUT_S = 10


class Connection:
    """One connection, used by one thread at a time; other threads wait for their turn."""

    def __init__(self, parameters: dict[str, Any], timeout_s: float, pooler: bool) -> None:
        """Connects with libpq's `parameters`.

        With `pooler` it uses neither prepared statements nor session settings, because a pooler in
        transaction mode breaks both.
        """
        self._timeout_s = timeout_s
        self._pooler = pooler
        self._lock = threading.Lock()
        self._upsert = b""
        self._connection = psycopg.connect(
            **(_defaults(timeout_s) | _session(parameters, timeout_s, pooler)), autocommit=True
        )
        self._libpq = self._connection.pgconn
        self._poll = select.poll()

    @property
    def is_lost(self) -> bool:
        """Whether the server or the network has ended the connection."""
        return self._libpq.status != ConnStatus.OK

    def close(self) -> None:
        """Closes the connection. If another thread is inside a call, that call fails instead."""
        if self._lock.acquire(blocking=False):
            try:
                self._connection.close()
            finally:
                self._lock.release()
        elif self._libpq.status == ConnStatus.OK:
            # The other thread uses the connection's memory, so only shut the socket down. That
            # thread's call fails; the memory is freed with the last reference.
            with socket.socket(fileno=os.dup(self._libpq.socket)) as wire:
                wire.shutdown(socket.SHUT_RDWR)

    def prepare(self, upsert: str) -> None:
        """Prepares the upsert on the server. Raises if the statement does not fit the table."""
        self._upsert = upsert.encode()
        if not self._pooler:
            with self._turn():
                self._libpq.send_prepare(_UPSERT_NAME, self._upsert)
                self._raise_for(self._answer())

    def upsert(self, values: Sequence[bytes]) -> PGresult:
        """Runs the upsert with binary values. An error of the statement is in the result."""
        formats = [Format.BINARY] * len(values)
        with self._turn():
            if self._pooler:
                self._libpq.send_query_params(
                    self._upsert, values, param_formats=formats, result_format=Format.BINARY
                )
            else:
                self._libpq.send_query_prepared(
                    _UPSERT_NAME, values, param_formats=formats, result_format=Format.BINARY
                )
            return self._answer()

    def query(self, statement: str, *values: str) -> list[list[bytes | None]]:
        """Runs a statement; values and the returned rows are text. Raises if it fails."""
        with self._turn():
            self._libpq.send_query_params(statement.encode(), [value.encode() for value in values])
            result = self._answer()
        self._raise_for(result)
        columns = range(result.nfields)
        return [[result.get_value(row, n) for n in columns] for row in range(result.ntuples)]

    def error(self, result: PGresult) -> tuple[str, str]:
        """The SQLSTATE and the message of a failed statement; both "" if it succeeded."""
        if result.status in (ExecStatus.TUPLES_OK, ExecStatus.COMMAND_OK):
            return "", ""
        state = _diagnostic(result, DiagnosticField.SQLSTATE)
        message = _diagnostic(result, DiagnosticField.MESSAGE_PRIMARY)
        if not state:
            # The error is libpq's own, not the server's: the connection broke.
            raise ConnectionError(result.get_error_message())
        if state.startswith("22"):
            # The detail is about one value. (The details of other errors quote the whole row.)
            message = f"{message}: {_diagnostic(result, DiagnosticField.MESSAGE_DETAIL)}"
        return state, f"{message.rstrip(': ')} (SQLSTATE {state})"

    def _raise_for(self, result: PGresult) -> None:
        state, message = self.error(result)
        if state:
            raise psycopg.errors.lookup(state)(message)

    @contextmanager
    def _turn(self) -> Iterator[None]:
        if not self._lock.acquire(timeout=self._timeout_s):
            raise TimeoutError(f"the connection was busy for {self._timeout_s:g} s")
        try:
            yield
        finally:
            self._lock.release()

    def _answer(self) -> PGresult:
        """Sends what is queued and waits for the last result of the statement."""
        deadline = time.monotonic() + self._timeout_s
        while self._libpq.flush():
            if self._wait(select.POLLIN | select.POLLOUT, deadline) & select.POLLIN:
                self._libpq.consume_input()
        answer: PGresult | None = None
        while True:
            while self._libpq.is_busy():
                self._wait(select.POLLIN, deadline)
                self._libpq.consume_input()
            result = self._libpq.get_result()
            if result is None:
                break
            answer = result
        if answer is None:
            raise ConnectionError(self._libpq.get_error_message())
        return answer

    def _wait(self, events: int, deadline: float) -> int:
        self._poll.register(self._libpq.socket, events)
        ready = self._poll.poll(max(0.0, deadline - time.monotonic()) * 1000)
        if not ready:
            raise TimeoutError(f"the server did not answer within {self._timeout_s:g} s")
        return ready[0][1]


def _defaults(timeout_s: float) -> dict[str, Any]:
    """Connection parameters, which the storage's options override."""
    return {
        "application_name": "conserver",
        "connect_timeout": max(2, int(min(timeout_s, _CONNECT_TIMEOUT_S))),
        # If several hosts are named, connect to the one that takes writes.
        "target_session_attrs": "read-write",
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": int(timeout_s * 1000),
    }


def _session(parameters: dict[str, Any], timeout_s: float, pooler: bool) -> dict[str, Any]:
    """The given parameters, with the settings that the session needs."""
    session = parameters | {"client_encoding": "UTF8"}
    if not pooler:
        # Without this limit, the server would go on with a statement that the client gave up.
        ours = f"-c statement_timeout={int(timeout_s * 1000)} -c TimeZone=UTC"
        session["options"] = f"{ours} {parameters.get('options') or ''}".strip()
    return session


def _diagnostic(result: PGresult, field: DiagnosticField) -> str:
    return (result.error_field(field) or b"").decode(errors="replace")

"""Stores a vCon as a row in a SQLite file, with a full-text index over its words.

    SELECT uuid, snippet(vcons_text, -1, '[', ']', '…', 12) FROM vcons_text
        JOIN vcons ON vcons.id = vcons_text.rowid WHERE vcons_text MATCH 'refund AND party:ada';

`search` asks the same index for words and "quoted phrases" only.

This storage needs nothing but Python, so examples use it. A batch is one transaction. Many
processes of one host may write; each waits for its turn. (A network file system does not have the
locks that SQLite needs.)
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from pydantic import Field

from storage.contract import (
    Document,
    Finds,
    Hits,
    Outcome,
    Rejected,
    StorageOptions,
    Stored,
    Unavailable,
)
from storage.fields import text
from storage.searching import CLOSE, OPEN, from_cursor, marked, terms, to_cursor, words_of

_BUSY_POLL_S = 0.02
_ID_MAX = 2**63 - 1
_SCHEMA = (
    """
    CREATE TABLE IF NOT EXISTS vcons (
        id INTEGER PRIMARY KEY,
        uuid TEXT NOT NULL UNIQUE,
        revision INTEGER NOT NULL,
        created_at TEXT,
        subject TEXT,
        vcon TEXT NOT NULL
    )
    """,
    "CREATE INDEX IF NOT EXISTS vcons_created_at ON vcons (created_at)",
    """
    CREATE VIRTUAL TABLE IF NOT EXISTS vcons_text USING fts5 (
        subject, party, transcript, messages, tags, notes,
        tokenize = "unicode61 remove_diacritics 2"
    )
    """,
)
_UPSERT = """
    INSERT INTO vcons (uuid, revision, created_at, subject, vcon) VALUES (?, ?, ?, ?, ?)
    ON CONFLICT (uuid) DO UPDATE SET
        revision = excluded.revision, created_at = excluded.created_at,
        subject = excluded.subject, vcon = excluded.vcon
    WHERE vcons.revision <= excluded.revision
    RETURNING id
"""
_INDEX = """
    INSERT OR REPLACE INTO vcons_text
        (rowid, subject, party, transcript, messages, tags, notes)
    VALUES (?, ?, ?, ?, ?, ?, ?)
"""
_SEARCH = """
    SELECT vcons.id, uuid, created_at, vcons.subject, snippet(vcons_text, -1, ?, ?, '…', 32)
    FROM vcons_text JOIN vcons ON vcons.id = vcons_text.rowid
    WHERE vcons_text MATCH ? AND vcons_text.rowid < ? ORDER BY vcons_text.rowid DESC LIMIT ?
"""
_FIND = "SELECT id, uuid FROM vcons WHERE id > ? AND ({query}) ORDER BY id LIMIT ?"


class Options(StorageOptions):
    """Where the file is."""

    path: Path = Field(
        default=Path("vcons.db"), description="File of the database. Made if it is missing."
    )
    fsync: bool = Field(
        default=True,
        description="Wait until the disk has a batch: else a power failure can lose the latest.",
    )
    max_size_bytes: int | None = Field(
        default=None, ge=100_000, description="Largest size of the file; when full, vCons wait."
    )


def prepare(options: Options) -> None:
    """Does nothing: SQLite is part of Python."""


class Storage:
    """A database, through one connection."""

    searches = True

    def __init__(self, name: str, options: Options) -> None:
        self.name = name
        self.place = str(options.path)
        self._options = options
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None

    def open(self) -> None:
        """Creates the file and its tables."""
        self.close()
        self._options.path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(
            self._options.path,
            timeout=self._options.timeout_s,
            isolation_level=None,
            check_same_thread=False,
        )
        try:
            self._ensure_schema(connection)
        except BaseException:
            connection.close()
            raise
        self._connection = connection

    def close(self) -> None:
        """Closes the file."""
        with self._lock:
            connection, self._connection = self._connection, None
            if connection is not None:
                connection.close()

    def save_many(self, documents: Sequence[Document]) -> list[Outcome]:
        """Saves all documents in one transaction, except those that SQLite refuses."""
        outcomes: list[Outcome] = [Unavailable("not tried")] * len(documents)
        with self._turn() as connection, _transaction(connection):
            for index, document in enumerate(documents):
                try:
                    outcomes[index] = _save(connection, document)
                except (ValueError, OverflowError, sqlite3.DataError) as error:
                    outcomes[index] = Rejected(str(error))
        return outcomes

    def get(self, uuid: str) -> bytes | None:
        """Returns the document's bytes."""
        with self._turn() as connection:
            row = connection.execute("SELECT vcon FROM vcons WHERE uuid = ?", (uuid,)).fetchone()
        return None if row is None else str(row[0]).encode()

    def delete(self, uuid: str) -> bool:
        """Deletes the row, and its words from the index."""
        with self._turn() as connection, _transaction(connection):
            statement = "DELETE FROM vcons WHERE uuid = ? RETURNING id"
            rows = connection.execute(statement, (uuid,)).fetchall()
            connection.executemany("DELETE FROM vcons_text WHERE rowid = ?", rows)
        return bool(rows)

    def ready(self) -> None:
        """Begins a writing transaction, and ends it."""
        with self._turn() as connection, _transaction(connection):
            connection.execute("SELECT 1 FROM vcons LIMIT 1")

    def search(self, text: str, limit: int, cursor: str = "") -> Hits:
        """Finds vCons by words, the latest stored first. Accents are ignored."""
        before = from_cursor(cursor, [int])[0] if cursor else _ID_MAX
        wanted = [term.replace("\0", " ") for term in terms(text)]
        if not wanted:
            return Hits([])
        query = " AND ".join('"{}"'.format(term.replace('"', '""')) for term in wanted)
        with self._turn() as connection:
            values = (OPEN, CLOSE, query, before, limit + 1)
            rows = connection.execute(_SEARCH, values).fetchall()
        hits = [marked(row[1], row[2] or "", row[3] or "", row[4]) for row in rows[:limit]]
        return Hits(hits, to_cursor([rows[limit - 1][0]]) if len(rows) > limit else "")

    @staticmethod
    def check_query(query: object) -> None:
        """Raises ValueError if `query` cannot be a condition in SQL."""
        if not isinstance(query, str):
            raise ValueError("the query must be a text: a condition in SQL")

    def find(self, query: str | dict[str, Any], limit: int, cursor: str = "") -> Finds:
        """Finds rows by a condition in SQL, such as `created_at > date('now', '-1 day')`.

        Raises sqlite3.OperationalError if SQLite cannot read the condition.
        """
        self.check_query(query)
        after = from_cursor(cursor, [int])[0] if cursor else 0
        with self._turn() as connection:
            statement = _FIND.format(query=query)
            rows = connection.execute(statement, (after, limit + 1)).fetchall()
        uuids = [uuid for _, uuid in rows[:limit]]
        return Finds(uuids, to_cursor([rows[limit - 1][0]]) if len(rows) > limit else "")

    @contextmanager
    def _turn(self) -> Iterator[sqlite3.Connection]:
        if not self._lock.acquire(timeout=self._options.timeout_s):
            raise TimeoutError("the connection is busy")
        try:
            if self._connection is None:
                raise ConnectionError(f"the storage {self.name} is not open")
            yield self._connection
        finally:
            self._lock.release()

    def _ensure_schema(self, connection: sqlite3.Connection) -> None:
        deadline = time.monotonic() + self._options.timeout_s
        while True:
            try:
                # With WAL, readers do not wait for the writer. If several processes switch to WAL
                # at once, SQLite refuses all but one without waiting, so try again here.
                connection.execute("PRAGMA journal_mode = WAL")
                break
            except sqlite3.OperationalError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(_BUSY_POLL_S)
        connection.execute(f"PRAGMA synchronous = {'FULL' if self._options.fsync else 'NORMAL'}")
        if self._options.max_size_bytes is not None:
            page_bytes = connection.execute("PRAGMA page_size").fetchone()[0]
            page_count = self._options.max_size_bytes // page_bytes
            connection.execute(f"PRAGMA max_page_count = {page_count}")
        with _transaction(connection):
            for statement in _SCHEMA:
                connection.execute(statement)


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    # IMMEDIATE takes the writer's lock at once. In the middle of a transaction, SQLite could
    # refuse the lock.
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def _save(connection: sqlite3.Connection, document: Document) -> Outcome:
    data = document.data
    subject = text(data.get("subject"))
    row = (
        document.uuid,
        document.revision,
        text(data.get("created_at")),
        subject,
        document.body.decode(),
    )
    with closing(connection.execute(_UPSERT, row)) as cursor:
        written = cursor.fetchall()
    if not written:
        return Stored(superseded=True)
    connection.execute(_INDEX, (written[0][0], *words_of(data)))
    return Stored()

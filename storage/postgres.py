"""Stores a vCon as a row in PostgreSQL, with the whole document as jsonb.

One INSERT statement stores a whole batch. Its parameters are the columns as binary arrays, so that
no document is escaped. The server returns the ids that it wrote; if an id is missing, the table
already has a newer revision of that row. If the server refuses a batch because of a row, the batch
is halved until that row is alone.

The table is vcon-server's, with one more column, `revision`. In rows that vcon-server wrote,
`revision` is NULL, which counts as older than any revision. The type of the column `id` is uuid: a
vCon whose `uuid` is not a UUID gets an id that is derived from it (`row_id`).

The server or a firewall may have closed an idle connection. Then the storage connects again and
repeats the call once; every call here is safe to repeat.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from pydantic import Field, SecretStr

from storage import postgres_search
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
from storage.postgres_rows import Row, parameters, row_id, row_of

if TYPE_CHECKING:
    from psycopg.pq.abc import PGresult

    from storage.postgres_connection import Connection

_Result = TypeVar("_Result")

# Prefixes of SQLSTATE codes (see appendix A of PostgreSQL's manual).
# These name a fault of one row: its data, a constraint, a limit of the server, a trigger.
_FAULTS_OF_A_ROW = ("21", "22", "23", "54", "P0")
# These name a passing trouble: a deadlock, a full disk, a lock, a cancelled statement. The outcome
# of the rows is Unavailable, and the worker writes them again later.
# For any other code (a shutdown, a standby in the primary's place) `save_many` raises.
_PASSING = ("40", "53", "55", "57014", "58")

# The key of the advisory lock under which one of many starting workers makes the table.
_SCHEMA_LOCK = 0x636F6E736572
_COLUMNS = {
    "id": "uuid PRIMARY KEY",
    "vcon": "text NOT NULL",
    "uuid": "uuid NOT NULL",
    "created_at": "timestamp NOT NULL",
    "updated_at": "timestamp",
    "subject": "text",
    "vcon_json": "jsonb",
    "revision": "bigint",
}
_UPSERT = """
INSERT INTO {table} AS kept
    (id, vcon, uuid, created_at, updated_at, subject, vcon_json, revision{column})
SELECT id, vcon, id, coalesce(created_at, now() AT TIME ZONE 'utc'), now() AT TIME ZONE 'utc',
    subject, body, revision{column}
FROM unnest($1::uuid[], $2::text[], $3::timestamp[], $4::text[], $5::jsonb[], $6::bigint[]{values})
    AS given (id, vcon, created_at, subject, body, revision{column})
ON CONFLICT (id) DO UPDATE SET
    vcon = excluded.vcon, uuid = excluded.uuid, created_at = excluded.created_at,
    updated_at = excluded.updated_at, subject = excluded.subject,
    vcon_json = excluded.vcon_json, revision = excluded.revision{update}
WHERE kept.revision IS NULL OR kept.revision <= excluded.revision
RETURNING id
"""
_WITHOUT_SEARCH = {"column": "", "values": "", "update": ""}
_WITH_SEARCH = {
    "column": f", {postgres_search.COLUMN}",
    "values": ", $7::text[]",
    "update": f", {postgres_search.COLUMN} = excluded.{postgres_search.COLUMN}",
}


class Options(StorageOptions):
    """Where the database is, and the table in it."""

    url: SecretStr | None = Field(
        default=None,
        description="A libpq connection URI or keyword string. It overrides the five below.",
    )
    host: str = Field(default="localhost", description="Host name, or folder of the unix socket.")
    port: int = Field(default=5432, description="Port of the server.")
    database: str = Field(default="vcon_db", description="Name of the database.")
    user: str = Field(default="postgres", description="Role to connect as.")
    password: SecretStr = Field(default=SecretStr(""), description="The role's password.")
    table_name: str = Field(
        default="vcons",
        min_length=1,
        description="Table, also as `schema.table`. Made at the first start if it is missing.",
    )
    search: bool = Field(
        default=False,
        description="Keep the words of each vCon in a column with an index, to be searched.",
    )
    pooler: bool = Field(
        default=False,
        description="Set it where PgBouncer in transaction mode is between: no prepared "
        "statements and no settings for the session.",
    )


def prepare(options: Options) -> None:
    """Imports the client before a fork."""
    import storage.postgres_connection  # noqa: F401


class Storage:
    """The table, through one connection."""

    def __init__(self, name: str, options: Options) -> None:
        self.name = name
        self.place = _place_of(options)
        self.searches = options.search
        self._options = options
        self._table = _quoted(options.table_name)
        self._connection: Connection | None = None
        self._reopening = threading.Lock()

    def open(self) -> None:
        """Connects, and makes the table or its missing columns."""
        from storage.postgres_connection import Connection

        self.close()
        options = self._options
        connection = Connection(_connection_parameters(options), options.timeout_s, options.pooler)
        try:
            self._ensure_table(connection)
            extra = _WITH_SEARCH if self.searches else _WITHOUT_SEARCH
            upsert = _UPSERT.format(table=self._table, **extra)
            # Let the server plan the statement now: a missing key or right raises here.
            connection.query(f"EXPLAIN {upsert}", *["{}"] * (7 if self.searches else 6))
            connection.prepare(upsert)
        except BaseException:
            connection.close()
            raise
        self._connection = connection

    def close(self) -> None:
        """Closes the connection. If another thread waits in a call, that call fails at once."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def save_many(self, documents: Sequence[Document]) -> list[Outcome]:
        """Stores all documents by one statement; by several if the server refuses a row."""
        outcomes: list[Outcome] = [Unavailable("not tried")] * len(documents)
        rows = []
        for index, document in enumerate(documents):
            row = row_of(index, document, self.searches)
            if isinstance(row, Rejected):
                outcomes[index] = row
            else:
                rows.append(row)
        if rows:
            self._repeated(lambda connection: self._save(connection, rows, outcomes))
        return outcomes

    def get(self, uuid: str) -> bytes | None:
        """The document as PostgreSQL writes it: jsonb keeps neither key order nor white space."""
        statement = f"SELECT vcon_json::text FROM {self._table} WHERE id = $1::uuid"
        rows = self._query(statement, row_id(uuid).hex())
        return rows[0][0] if rows else None

    def delete(self, uuid: str) -> bool:
        """Deletes the row."""
        statement = f"DELETE FROM {self._table} WHERE id = $1::uuid RETURNING id"
        return bool(self._query(statement, row_id(uuid).hex()))

    def search(self, text: str, limit: int, cursor: str = "") -> Hits:
        """Finds vCons by words, the newest first, if the option `search` is set."""
        return postgres_search.search(self._query, self._table, text, limit, cursor)

    def ready(self) -> None:
        """Raises if the table is missing or this role cannot write to it now."""
        rows = self._query(
            "SELECT has_table_privilege($1::regclass, 'INSERT')"
            " AND has_table_privilege($1::regclass, 'UPDATE'),"
            " current_setting('transaction_read_only') = 'off'",
            self._table,
        )
        if rows[0][0] != b"t":
            raise PermissionError(f"no right to write the table {self._table}")
        if rows[0][1] != b"t":
            raise ConnectionError("the server takes no writes now (a standby, or read-only)")

    @staticmethod
    def check_query(query: object) -> None:
        """Raises ValueError if `query` cannot be a condition in SQL."""
        postgres_search.check_condition(query)

    def find(self, query: str | dict[str, Any], limit: int, cursor: str = "") -> Finds:
        """Finds rows by a condition in SQL, such as `created_at > now() - interval '1 day'`."""
        return postgres_search.find(self._query, self._table, query, limit, cursor)

    def _connected(self) -> Connection:
        if self._connection is None:
            raise ConnectionError(f"the storage {self.name} is not open")
        return self._connection

    def _query(self, statement: str, *values: str) -> list[list[bytes | None]]:
        return self._repeated(lambda connection: connection.query(statement, *values))

    def _repeated(self, call: Callable[[Connection], _Result]) -> _Result:
        """Makes a call. If the connection is lost, connects again and repeats the call once."""
        connection = self._connected()
        try:
            return call(connection)
        except TimeoutError:
            raise
        except Exception:
            if not connection.is_lost:
                raise
        with self._reopening:
            # Another thread may have reopened or closed the storage meanwhile.
            if self._connected() is connection:
                self.open()
        return call(self._connected())

    def _ensure_table(self, connection: Connection) -> None:
        # Look for missing columns before any DDL. DDL waits for all readers of the table, and needs
        # rights that a role for writing may lack.
        if not self._missing_columns(connection):
            return
        connection.query("BEGIN")
        connection.query(f"SELECT pg_advisory_xact_lock({_SCHEMA_LOCK})")
        missing = self._missing_columns(connection)
        if len(missing) == len(self._columns):
            columns = ", ".join(f"{name} {kind}" for name, kind in self._columns.items())
            connection.query(f"CREATE TABLE {self._table} ({columns})")
            if connection.query(
                "SELECT 1 FROM pg_settings"
                " WHERE name = 'default_toast_compression' AND 'lz4' = ANY (enumvals)"
            ):
                # The default compression, pglz, costs the server more CPU than all other work.
                connection.query(
                    f"ALTER TABLE {self._table} ALTER COLUMN vcon_json SET COMPRESSION lz4"
                )
        else:
            for name in missing:
                kind = self._columns[name].removesuffix(" NOT NULL")
                connection.query(
                    f"ALTER TABLE {self._table} ADD COLUMN IF NOT EXISTS {name} {kind}"
                )
        if self.searches:
            postgres_search.ensure_index(connection.query, self._table)
        connection.query("COMMIT")

    def _missing_columns(self, connection: Connection) -> list[str]:
        rows = connection.query(
            "SELECT attname FROM pg_attribute"
            " WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped",
            self._table,
        )
        present = {row[0].decode() for row in rows if row[0]}
        return [name for name in self._columns if name not in present]

    @property
    def _columns(self) -> dict[str, str]:
        return _COLUMNS | ({postgres_search.COLUMN: "text"} if self.searches else {})

    def _save(self, connection: Connection, rows: list[Row], outcomes: list[Outcome]) -> None:
        result = connection.upsert(parameters(rows, self.searches))
        state, message = connection.error(result)
        if not state:
            written = _ids(result)
            for row in rows:
                outcomes[row.index] = Stored(superseded=row.id not in written)
        elif state.startswith(_FAULTS_OF_A_ROW):
            if len(rows) == 1:
                outcomes[rows[0].index] = Rejected(message)
            else:
                half = len(rows) // 2
                self._save(connection, rows[:half], outcomes)
                self._save(connection, rows[half:], outcomes)
        elif state.startswith(_PASSING):
            for row in rows:
                outcomes[row.index] = Unavailable(message)
        else:
            raise ConnectionError(message)


def _ids(result: PGresult) -> set[bytes | None]:
    return {result.get_value(number, 0) for number in range(result.ntuples)}


def _quoted(name: str) -> str:
    """`table` or `schema.table` as a quoted identifier."""
    return ".".join('"' + part.replace('"', '""') + '"' for part in name.split("."))


def _place_of(options: Options) -> str:
    """The server's host and port, and the database, for messages."""
    if options.url is None:
        return f"{options.host}:{options.port}/{options.database}"
    found = urlsplit(options.url.get_secret_value())
    return f"{found.netloc.rpartition('@')[2]}{found.path}"  # "" for a string like "host=a port=1".


def _connection_parameters(options: Options) -> dict[str, Any]:
    from psycopg.conninfo import conninfo_to_dict

    if options.url is not None:
        return conninfo_to_dict(options.url.get_secret_value())
    return {
        "host": options.host,
        "port": options.port,
        "dbname": options.database,
        "user": options.user,
        "password": options.password.get_secret_value() or None,
    }

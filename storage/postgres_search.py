"""The search of storage.postgres: a column with the words of each vCon, and an index over it.

The column's type is text, and the index is built over its tsvector. So the upsert carries only one
more text, and PostgreSQL can make a snippet without reading the document.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

from storage.contract import Finds, Hits
from storage.searching import (
    CLOSE,
    NO_CURSOR,
    OPEN,
    from_cursor,
    marked,
    terms,
    to_cursor,
    words_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from storage.contract import Document

COLUMN = "words"
# PostgreSQL takes no tsvector above 1 MiB. The tsvector of so many bytes of text stays below that,
# even if all its words are short.
_WORDS_BYTES = 250_000
_WORDS = "to_tsvector('simple', words)"
_INDEX = f"CREATE INDEX ON {{table}} USING gin ({_WORDS})"
_HAS_INDEX = """
SELECT 1 FROM pg_index WHERE indrelid = $1::regclass AND indisvalid
    AND pg_get_indexdef(indexrelid) LIKE '%to_tsvector(''simple''%words%'
"""
_SEARCH = f"""
WITH asked AS (SELECT {{query}} AS query),
found AS (
    SELECT id, created_at, subject, words, vcon_json, query FROM {{table}}, asked
    WHERE {_WORDS} @@ query {{after}} ORDER BY created_at DESC, id DESC LIMIT {{limit}}
)
SELECT created_at, id, coalesce(vcon_json->>'uuid', id::text),
    coalesce(vcon_json->>'created_at', ''), coalesce(subject, ''),
    ts_headline('simple', words, query,
        'StartSel={OPEN}, StopSel={CLOSE}, MaxFragments=1, MinWords=12, MaxWords=32')
FROM found ORDER BY created_at DESC, id DESC
"""
_BEFORE_ALL = str(UUID(int=0))
_FIND = """
SELECT id, coalesce(vcon_json->>'uuid', id::text) FROM {table}
WHERE id > $1::uuid AND ({condition}) ORDER BY id LIMIT {limit}
"""


def words(document: Document) -> bytes:
    """The value of the column for a document."""
    joined = "\n".join(filter(None, words_of(document.data))).encode()
    return joined[:_WORDS_BYTES].decode(errors="ignore").encode()


def ensure_index(query: Callable[..., list[list[bytes | None]]], table: str) -> None:
    """Makes the index if the table does not have it."""
    if not query(_HAS_INDEX, table):
        query(_INDEX.format(table=table))


def search(
    query: Callable[..., list[list[bytes | None]]], table: str, text: str, limit: int, cursor: str
) -> Hits:
    """See storage.contract.Searchable. `query` runs a statement with values."""
    after, values = "", _place(cursor) if cursor else []
    wanted = terms(text.replace("\0", " "))
    if not wanted:
        return Hits([])
    if values:
        after = "AND (created_at, id) < ($1::timestamp, $2::uuid)"
    first = len(values) + 1
    asked = " && ".join(f"phraseto_tsquery('simple', ${first + n})" for n in range(len(wanted)))
    statement = _SEARCH.format(table=table, query=asked, after=after, limit=limit + 1)
    rows = [
        [(value or b"").decode() for value in row] for row in query(statement, *values, *wanted)
    ]
    hits = [marked(*row[2:]) for row in rows[:limit]]
    return Hits(hits, to_cursor(rows[limit - 1][:2]) if len(rows) > limit else "")


def check_condition(condition: object) -> None:
    """Raises ValueError if `condition` cannot be a condition in SQL."""
    if not isinstance(condition, str):
        raise ValueError("the query must be a text: a condition in SQL")


def find(
    query: Callable[..., list[list[bytes | None]]],
    table: str,
    condition: object,
    limit: int,
    cursor: str,
) -> Finds:
    """See storage.contract.Findable. `query` runs a statement with values."""
    check_condition(condition)
    after = _BEFORE_ALL
    if cursor:
        [text] = from_cursor(cursor, [str])
        try:
            after = str(UUID(text))
        except ValueError:
            raise ValueError(NO_CURSOR) from None
    statement = _FIND.format(table=table, condition=condition, limit=limit + 1)
    rows = [[(value or b"").decode() for value in row] for row in query(statement, after)]
    uuids = [uuid for _, uuid in rows[:limit]]
    return Finds(uuids, to_cursor([rows[limit - 1][0]]) if len(rows) > limit else "")


def _place(cursor: str) -> list[str]:
    """The time and the id in a cursor. Raises ValueError if PostgreSQL could not read them."""
    created_at, row_id = from_cursor(cursor, [str, str])
    try:
        return [str(datetime.fromisoformat(created_at)), str(UUID(row_id))]
    except ValueError:
        raise ValueError(NO_CURSOR) from None

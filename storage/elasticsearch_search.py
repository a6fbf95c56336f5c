"""Makes the search requests of storage.elasticsearch, and reads their answers."""

from __future__ import annotations

from typing import Any

from storage.contract import Finds, Hits
from storage.searching import CLOSE, OPEN, from_cursor, marked, terms, to_cursor

_FIELDS = [
    "subject",
    "parties.name",
    "parties.org",
    "parties.tel",
    "parties.mailto",
    "parties.sip",
    "transcript",
    "messages",
    "tags",
    "notes",
]
# A snippet is taken from the first of these fields that matches.
_SHOWN = ("transcript", "messages", "notes", "subject", "parties.name", "tags")
_SNIPPET_CHARS = 200
# The most uuids of a page. An index refuses larger pages (index.max_result_window).
_PAGE_MAX = 5000
# Elasticsearch marks words only in so many first characters of a text; for more it would return an
# error (index.highlight.max_analyzed_offset).
_MARKED_CHARS = 999_999


def request(text: str, limit: int, cursor: str) -> dict[str, Any] | None:
    """The arguments of the client's `search`; None if `text` has no word.

    Raises ValueError for a cursor that this storage did not make.
    """
    after = from_cursor(cursor, [int, str]) if cursor else None
    wanted = terms(text)
    if not wanted:
        return None
    asked = [
        {"multi_match": {"query": term, "type": "phrase", "fields": _FIELDS}} for term in wanted
    ]
    found: dict[str, Any] = {
        "query": {"bool": {"must": asked}},
        "size": limit + 1,
        # `unmapped_type`: an index that another program made may lack the field.
        "sort": [
            {"created_at": {"order": "desc", "missing": "_last", "unmapped_type": "date"}},
            {"uuid": {"order": "desc", "unmapped_type": "keyword"}},
        ],
        "source_includes": ["uuid", "created_at", "subject", "vcon.created_at"],
        "highlight": {
            "pre_tags": [OPEN],
            "post_tags": [CLOSE],
            "max_analyzed_offset": _MARKED_CHARS,
            "number_of_fragments": 1,
            "fragment_size": _SNIPPET_CHARS,
            "fields": {name: {} for name in _SHOWN},
        },
        "track_total_hits": False,
    }
    return found | ({"search_after": after} if after else {})


def read(answer: dict[str, Any], limit: int) -> Hits:
    """The hits in an answer, without the one that only shows that there is a next page."""
    found = answer["hits"]["hits"]
    hits = []
    for one in found[:limit]:
        source, lit = one.get("_source", {}), one.get("highlight", {})
        snippet = next((lit[name][0] for name in _SHOWN if lit.get(name)), "")
        created_at = source.get("vcon", {}).get("created_at") or source.get("created_at") or ""
        hits.append(marked(one["_id"], str(created_at), source.get("subject", ""), snippet))
    return Hits(hits, to_cursor(found[limit - 1]["sort"]) if len(found) > limit else "")


def check_query(query: object) -> None:
    """Raises ValueError if it is not a query, such as {"term": {"tags": "billing"}}."""
    if not isinstance(query, dict):
        raise ValueError("the query must be a mapping: a query of Elasticsearch")
    if len(query) != 1:
        raise ValueError("the query must have one entry, the kind of the query, such as `term`")


def find_request(query: object, limit: int, cursor: str) -> dict[str, Any]:
    """The arguments of the client's `search` for a query of Elasticsearch's own language.

    Raises ValueError for an unusable query, or a cursor that this storage did not make.
    """
    check_query(query)
    found = {
        "query": query,
        "size": min(limit, _PAGE_MAX) + 1,
        "sort": [{"uuid": {"order": "asc", "unmapped_type": "keyword"}}],
        "source": False,
        "track_total_hits": False,
    }
    return found | ({"search_after": from_cursor(cursor, [str])} if cursor else {})


def read_finds(answer: dict[str, Any], limit: int) -> Finds:
    """The uuids in an answer."""
    found = answer["hits"]["hits"]
    more = to_cursor(found[limit - 1]["sort"]) if len(found) > limit else ""
    return Finds([hit["_id"] for hit in found[:limit]], more)

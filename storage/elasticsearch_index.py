"""The index in Elasticsearch: its mapping, and how it comes to be there.

To add a field: to `MAPPING`, to `_fields` in elasticsearch_fields, and count `MAPPING_VERSION` up,
which tells the next start to add it to an index that is there.
"""

from __future__ import annotations

import logging
from typing import Any

import orjson

from storage.elasticsearch_http import Answer, Cluster

log = logging.getLogger("storage.elasticsearch")

MAPPING_VERSION = 1

# Lucene takes no term of more than 32,766 bytes; longer values are kept, but not found.
_KEYWORD = {"type": "keyword", "ignore_above": 1024}
_NAME = {"type": "text", "fields": {"keyword": {"type": "keyword", "ignore_above": 256}}}
_TEXT = {"type": "text"}
_DATE = {"type": "date"}
MAPPING: dict[str, Any] = {
    "_meta": {"conserver": MAPPING_VERSION},
    "dynamic": False,
    "properties": {
        "uuid": _KEYWORD,
        "form": _KEYWORD,
        "complete": {"type": "boolean"},
        "subject": _NAME,
        "created_at": _DATE,
        "updated_at": _DATE,
        "started_at": _DATE,
        "ended_at": _DATE,
        "duration_s": {"type": "double"},
        "parties": {
            "properties": {
                "name": _NAME,
                "tel": _KEYWORD,
                "mailto": _KEYWORD,
                "sip": _KEYWORD,
                "uuid": _KEYWORD,
                "role": _KEYWORD,
                "org": _NAME,
            }
        },
        "dialog_types": _KEYWORD,
        "analysis_types": _KEYWORD,
        "vendors": _KEYWORD,
        "attachments": _KEYWORD,
        "extensions": _KEYWORD,
        "tags": _KEYWORD,
        "transcript": _TEXT,
        "messages": _TEXT,
        "notes": _TEXT,
        "vcon": {"type": "object", "enabled": False},
    },
}

_OK, _NOT_FOUND = 200, 404
_EXISTS_ALREADY = "resource_already_exists_exception"
# Above the templates that others make for everything, such as "*".
_TEMPLATE_PRIORITY = 500
_REASON_LIMIT_CHARS = 500


def ensure_index(cluster: Cluster, name: str, settings: dict[str, Any]) -> None:
    """Makes the index, or adds to its mapping what it lacks. Many workers may do so at once."""
    path = f"/{name}/_mapping"
    found = ask(cluster, "GET", path, {"filter_path": "*.mappings._meta"})
    if found.status == _NOT_FOUND:
        definition = {"mappings": MAPPING} | ({"settings": settings} if settings else {})
        _make_template(cluster, name, definition)
        made = ask(cluster, "PUT", f"/{name}", body=definition)
        if made.status != _OK and error_type(made) != _EXISTS_ALREADY:
            raise ValueError(f"cannot make the index {name}: {reason(made)}")
    elif found.status != _OK:
        raise ConnectionError(f"cannot look at the index {name}: {reason(found)}")
    elif any(_version(index) < MAPPING_VERSION for index in found.data.values() or [{}]):
        changed = ask(cluster, "PUT", path, body=MAPPING)
        if changed.status != _OK:
            raise ValueError(f"the index {name} does not take our fields: {reason(changed)}")


def ask(
    cluster: Cluster,
    method: str,
    path: str,
    params: dict[str, str] | None = None,
    body: dict[str, Any] | None = None,
) -> Answer:
    """A request in JSON, whatever its answer."""
    return cluster.request(method, path, params, b"" if body is None else orjson.dumps(body))


def error_type(answer: Answer) -> str:
    """What kind of error an answer is, in Elasticsearch's words; empty if it is none."""
    return str(_error(answer).get("type", ""))


def reason(answer: Answer) -> str:
    """The error for a person, with the status."""
    error = _error(answer)
    said = f"{error.get('type')}: {error.get('reason')}" if error else ""
    return f"{said[:_REASON_LIMIT_CHARS]} (HTTP status {answer.status})".lstrip()


def _make_template(cluster: Cluster, name: str, definition: dict[str, Any]) -> None:
    """So that an index deleted under us comes back with its mapping by our next write."""
    template = {
        "index_patterns": [name],
        "priority": _TEMPLATE_PRIORITY,
        "template": definition,
    }
    made = ask(cluster, "PUT", f"/_index_template/{name}", body=template)
    if made.status != _OK:
        log.warning("no template for the index %s: %s", name, reason(made))


def _error(answer: Answer) -> dict[str, Any]:
    error = answer.data.get("error") if isinstance(answer.data, dict) else None
    return error if isinstance(error, dict) else {}


def _version(index: dict[str, Any]) -> int:
    """Which version of our mapping an index has, by its answer to a question for `_meta`."""
    return int(index.get("mappings", {}).get("_meta", {}).get("conserver", 0))

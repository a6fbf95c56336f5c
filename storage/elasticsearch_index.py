"""Creates the index in Elasticsearch and keeps its mapping up to date.

To add a field, add it to `MAPPING` and to `_fields` in elasticsearch_fields, and increase
`MAPPING_VERSION`. The next start then adds the field to an existing index, too.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from storage.elasticsearch_client import Cluster

log = logging.getLogger("storage.elasticsearch")

MAPPING_VERSION = 1

# Lucene takes no term over 32,766 bytes. Values over `ignore_above` are kept, but not indexed.
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
# Higher than the priority of templates that other programs make for "*".
_TEMPLATE_PRIORITY = 500


def ensure_index(cluster: Cluster, name: str, settings: dict[str, Any]) -> None:
    """Creates the index, or adds missing fields to its mapping.

    Many workers may call it at the same time.

    Raises:
        ValueError: the index or the settings cannot be used.
        OSError: see `Answer.error`; or the connection failed.
    """
    found = cluster.ask(
        lambda client: client.indices.get_mapping(index=name, filter_path="*.mappings._meta")
    )
    if found.status == _NOT_FOUND:
        _create(cluster, name, settings)
    elif found.status != _OK:
        raise found.error(f"cannot look at the index {name}")
    elif any(_version(one) < MAPPING_VERSION for one in list(found.data.values()) or [{}]):
        changed = cluster.ask(
            lambda client: client.indices.put_mapping(
                index=name,
                meta=MAPPING["_meta"],
                dynamic=MAPPING["dynamic"],
                properties=MAPPING["properties"],
            )
        )
        if changed.status != _OK:
            raise ValueError(f"the index {name} does not take our fields: {changed.reason}")


def _create(cluster: Cluster, name: str, settings: dict[str, Any]) -> None:
    given = settings or None
    _create_template(cluster, name, {"mappings": MAPPING} | ({"settings": given} if given else {}))
    made = cluster.ask(
        lambda client: client.indices.create(index=name, mappings=MAPPING, settings=given)
    )
    if made.status == _OK or made.error_type == _EXISTS_ALREADY:
        return
    error = made.error(f"cannot make the index {name}")
    raise error if isinstance(error, PermissionError) else ValueError(str(error))


def _create_template(cluster: Cluster, name: str, definition: dict[str, Any]) -> None:
    """Creates the template, so that a deleted index is created again with this mapping."""
    made = cluster.ask(
        lambda client: client.indices.put_index_template(
            name=name,
            index_patterns=[name],
            priority=_TEMPLATE_PRIORITY,
            template=definition,
        )
    )
    if made.status != _OK:
        log.warning("no template for the index %s: %s", name, made.reason)


def _version(index: Any) -> int:
    """The MAPPING_VERSION of an index, read from the `_meta` of its mapping; 0 without one."""
    return int(index.get("mappings", {}).get("_meta", {}).get("conserver", 0))

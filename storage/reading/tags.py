"""The tags of a vCon: texts, mostly "name:value", in attachments with the purpose "tags"."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import orjson

from storage.reading.content import structured


def is_tags(attachment: Any) -> bool:
    """Whether an attachment holds tags, by its `purpose` or the older `type`."""
    return isinstance(attachment, dict) and "tags" in (
        attachment.get("purpose"),
        attachment.get("type"),
    )


def tag_texts(attachment: Mapping[str, Any]) -> list[str] | None:
    """The tags of one tags attachment, in order; None if its body has another format.

    A list of texts and a mapping of names to values are read, natively or as a string of JSON with
    any `encoding`. Entries that are not texts are left out. An attachment without a body has none.
    """
    return tags_in(structured(attachment))


def tags_in(body: Any) -> list[str] | None:
    """The tags of a decoded body, as `tag_texts`."""
    if isinstance(body, list):
        return [tag for tag in body if isinstance(tag, str)]
    if isinstance(body, dict):
        return [f"{name}:{_text(value)}" for name, value in body.items()]
    return [] if body in (None, "") else None


def tags_of(attachments: Iterable[Any]) -> list[str]:
    """The tags of all tags attachments, in order."""
    return [
        text
        for attachment in attachments
        if is_tags(attachment)
        for text in tag_texts(attachment) or ()
    ]


def _text(value: Any) -> str:
    """A tag's value as text; `true`, not Python's `True`."""
    return value if isinstance(value, str) else orjson.dumps(value).decode()

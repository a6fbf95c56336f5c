"""Reads a vCon's tags: texts, mostly "name:value", in attachments with the purpose "tags"."""

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
    """The tags of one tags attachment, in order; None if its body has an unknown format.

    The body is a list of texts or a mapping of names to values, or a string with such JSON (with
    any `encoding`). Entries of a list that are not texts are skipped. An attachment without a body
    has no tags.
    """
    return tags_in(structured(attachment))


def tags_in(body: Any) -> list[str] | None:
    """The tags in a decoded body; see `tag_texts`."""
    if isinstance(body, list):
        return [tag for tag in body if isinstance(tag, str)]
    if isinstance(body, dict):
        try:
            return [f"{name}:{_text(value)}" for name, value in body.items()]
        except TypeError:
            return None  # It is nested more deeply than orjson can write.
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
    """A tag's value as text, in JSON's spelling (`true`, not Python's `True`)."""
    return value if isinstance(value, str) else orjson.dumps(value).decode()

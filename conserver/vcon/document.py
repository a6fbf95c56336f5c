"""A vCon in memory: one plain dict, and the bytes it came from.

1. Parses bytes, and refuses only what no link could work with: anything but a JSON object, an
   object without a usable uuid, something else where a list belongs.
2. Keeps the original bytes until the first change, so that an unchanged vCon leaves exactly as it
   came: number forms, key order, duplicate keys and white space included.
3. Tells an edit from a look. `add_*` are edits; `data` is mutable access whose effect is found by
   comparison; `view` is for reading.
4. Knows the spellings: old and new names are read, the current ones are written, and only for
   what we add. What others wrote is never rewritten into another style.
5. Signed (JWS) and encrypted (JWE) vCons are carried, never changed.

This is the hot path: every item goes through `parse` and `dump`. Hence a dict instead of models,
__slots__, and no copies.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any, Literal

import orjson

from conserver.errors import Rejected
from conserver.vcon.bodies import (
    content_hashes,
    decode_base64url,
    decode_body,
    encode_body,
    lenient_json,
    media_type,
)
from conserver.vcon.identity import (
    USABLE_UUID,
    envelope_uuid,
    json_name,
    why_not_a_uuid,
    why_not_json,
)
from conserver.vcon.references import remove_elements

# Links find here whatever they need of a vCon.
__all__ = [
    "Form",
    "Vcon",
    "content_hashes",
    "decode_base64url",
    "decode_body",
    "encode_body",
    "indices",
    "is_tags",
    "media_type",
    "numbered",
]

Form = Literal["unsigned", "jws", "jwe"]


class Vcon:
    """One vCon, owned by one thread at a time.

    Attributes:
        form: "unsigned", "jws" or "jwe".
        uuid: the id under which it is kept; for an envelope without one, derived from its bytes.
        base: the bytes as they were claimed or last written (`rebase`): what a merge starts from.
    """

    __slots__ = ("_changed", "_data", "_touched", "base", "form", "uuid")

    def __init__(self, data: dict[str, Any], base: bytes, form: Form, uuid: str) -> None:
        """For `parse`; use that."""
        self._data = data
        self._changed = False
        self._touched = False
        self.base = base
        self.form: Form = form
        self.uuid = uuid

    def __repr__(self) -> str:
        return f"<Vcon {self.uuid} {self.form} {'changed' if self.changed else 'unchanged'}>"

    @classmethod
    def parse(cls, raw: bytes) -> Vcon:
        """Read a vCon of any form and version.

        Raises:
            Rejected: it is no JSON object, has no usable uuid, or has something else where a list
                belongs. The reason is written for the person who finds the dead letter.
        """
        try:
            data = orjson.loads(raw)
        except orjson.JSONDecodeError as error:
            raise Rejected(why_not_json(raw, error)) from None
        if type(data) is not dict:
            raise Rejected(f"not a vCon: a JSON {json_name(data)} instead of an object")
        if "payload" in data and ("signatures" in data or "signature" in data):
            return cls(data, raw, "jws", envelope_uuid(data, raw))
        if "ciphertext" in data:
            return cls(data, raw, "jwe", envelope_uuid(data, raw))
        uuid = data.get("uuid")
        if type(uuid) is not str or not USABLE_UUID.fullmatch(uuid):
            raise Rejected(why_not_a_uuid(uuid))
        for name in ("parties", "dialog", "analysis", "attachments"):
            value = data.get(name)
            if value is not None and type(value) is not list:
                raise Rejected(f"not a vCon: '{name}' is a JSON {json_name(value)}, not an array")
        return cls(data, raw, "unsigned", uuid)

    # What it says

    @property
    def view(self) -> dict[str, Any]:
        """The document, to read. A change made through it is not noticed and may not be written."""
        return self._data

    @property
    def data(self) -> dict[str, Any]:
        """The document, to change in any way. Whether it was changed is found by comparison.

        Raises:
            Rejected: the vCon is signed or encrypted.
        """
        self._refuse_envelope()
        self._touched = True
        return self._data

    @property
    def parties(self) -> list[Any]:
        """The parties, to read; [] if there are none."""
        return self._data.get("parties") or []

    @property
    def dialogs(self) -> list[Any]:
        """The dialogs, to read; [] if there are none."""
        return self._data.get("dialog") or []

    @property
    def analysis(self) -> list[Any]:
        """The analyses, to read; [] if there are none."""
        return self._data.get("analysis") or []

    @property
    def attachments(self) -> list[Any]:
        """The attachments, to read; [] if there are none."""
        return self._data.get("attachments") or []

    @property
    def tags(self) -> dict[str, str]:
        """Every tag as name -> value, a copy; the last one wins where a name has several values.

        A tag without a colon has its name as its value, as the label tags of other systems do.
        """
        tags: dict[str, str] = {}
        for text in self.tag_texts():
            name, colon, value = text.partition(":")
            tags[name] = value if colon else name
        return tags

    def tag_texts(self) -> list[str]:
        """Every tag as it is written, mostly "name:value", in order; a copy."""
        texts: list[str] = []
        for attachment in self.attachments:
            if is_tags(attachment):
                texts.extend(_tag_texts(lenient_json(attachment.get("body"))))
        return texts

    def critical_unknown(self, supported: Collection[str] = ()) -> list[str]:
        """The extensions that this vCon calls critical and `supported` does not name.

        Whoever does not know a critical extension must not process the vCon. What is no list of
        names (a mistake of the producer's) counts as unknown: the safe side.
        """
        unknown: list[str] = []
        for member in ("critical", "must_support"):
            names = self._data.get(member)
            if not names:
                continue
            unknown.extend(
                str(name)
                for name in (names if type(names) is list else [names])
                if not isinstance(name, str) or name not in supported
            )
        return unknown

    # Changing it

    def add_party(self, party: dict[str, Any]) -> int:
        """Append a party and return its index. Raises Rejected for an envelope, as all add_* do."""
        return self._append("parties", party)

    def add_dialog(self, dialog: dict[str, Any]) -> int:
        """Append a dialog and return its index."""
        return self._append("dialog", dialog)

    def add_analysis(self, analysis: dict[str, Any]) -> int:
        """Append an analysis and return its index."""
        return self._append("analysis", analysis)

    def add_attachment(self, attachment: dict[str, Any]) -> int:
        """Append an attachment and return its index."""
        return self._append("attachments", attachment)

    def add_tag(self, name: str, value: str) -> None:
        """Add the tag `name:value`, once: a tag that is there already changes nothing.

        The last tags attachment takes it, in the style in which that one was written; where there
        is none, one is made.
        """
        self._refuse_envelope()
        text = f"{name}:{value}"
        home: dict[str, Any] | None = None
        for attachment in self.attachments:
            if not is_tags(attachment):
                continue
            tags = lenient_json(attachment.get("body"))
            if type(tags) is list or type(tags) is dict:
                if text in _tag_texts(tags):
                    return
                home = attachment
        if home is None:
            self._append("attachments", self._tags_attachment(text))
            return
        body = home["body"]
        tags = lenient_json(body)
        if type(tags) is list:
            tags.append(text)
        else:
            tags[name] = value
        home["body"] = orjson.dumps(tags).decode() if type(body) is str else tags
        self._changed = True

    def extend_extensions(self, name: str) -> None:
        """Declare that the vCon uses the extension `name`, unless it says so already."""
        self._refuse_envelope()
        extensions = self._data.get("extensions")
        if type(extensions) is list:
            if name in extensions:
                return
            extensions.append(name)
        else:
            self._data["extensions"] = [name]
        self._changed = True

    def remove(self, member: str, gone: Collection[int]) -> None:
        """Take elements out of "parties", "dialog", "analysis" or "attachments" by their indices.

        References to what stays follow it; those to a removed element go, or become null in a list.
        """
        self._refuse_envelope()
        if gone:
            remove_elements(self._data, member, gone)
            self._changed = True

    # Its bytes

    @property
    def changed(self) -> bool:
        """Whether `dump` would give other content than `base` holds."""
        if self._changed or not self._touched:
            return self._changed
        # Two dumps are compared, not two dicts: to Python 1, 1.0 and True are equal.
        return _dump(self._data) != _dump(orjson.loads(self.base))

    @property
    def raw(self) -> bytes | None:
        """The original bytes as long as they are what `dump` gives; None after a change."""
        return None if self.changed else self.base

    def dump(self) -> bytes:
        """The vCon as JSON bytes: the very bytes it came from unless it was changed.

        Raises:
            Rejected: a link put something into it that JSON cannot hold.
        """
        if self._changed:
            return _dump(self._data)
        if self._touched:
            body = _dump(self._data)
            if body != _dump(orjson.loads(self.base)):
                return body
        return self.base

    def rebase(self, written: bytes) -> None:
        """Take `written`, a dump of this vCon that Redis now holds, as the base from here on."""
        self.base = written
        self._changed = False

    def succeed(self, earlier: Vcon) -> None:
        """Stand for a vCon of which this is a later version: what differs from its base is a
        change.
        """
        self.base = earlier.base
        self._touched = True

    def become(self, other: Vcon) -> None:
        """Take over all of `other`: a link that holds this object goes on with merged content."""
        self._data, self.base, self.form = other._data, other.base, other.form
        self._changed, self._touched = other._changed, other._touched

    def _append(self, member: str, item: dict[str, Any]) -> int:
        self._refuse_envelope()
        items = self._data.get(member)
        if items is None:
            items = self._data[member] = []
        items.append(item)
        self._changed = True
        return len(items) - 1

    def _tags_attachment(self, text: str) -> dict[str, Any]:
        # The standard wants start, party and dialog. All three come from the vCon itself: a tag
        # that is added again after a crash, or by two chains, must come out the same.
        attachment: dict[str, Any] = {"purpose": "tags"}
        if created_at := self._data.get("created_at"):
            attachment["start"] = created_at
        if self.parties:
            attachment["party"] = 0
        if self.dialogs:
            attachment["dialog"] = 0
        attachment.update(mediatype="application/json", encoding="json", body=[text])
        return attachment

    def _refuse_envelope(self) -> None:
        if self.form != "unsigned":
            word = "signed" if self.form == "jws" else "encrypted"
            raise Rejected(f"{word} vCons cannot be changed: a new, amended vCon would be needed")


def numbered(items: list[Any]) -> Iterator[tuple[int, dict[str, Any]]]:
    """The objects of a list with their indices; what is none (a placeholder) is passed over."""
    for index, item in enumerate(items):
        if isinstance(item, dict):
            yield index, item


def indices(value: Any) -> list[int]:
    """A reference as a flat list: 1, [1, 2] and, per channel, [[0, 1], 2, null] are all legal."""
    if isinstance(value, list):
        return [index for inner in value for index in indices(inner)]
    return [value] if isinstance(value, int) and not isinstance(value, bool) else []


def is_tags(attachment: Any) -> bool:
    """Whether this attachment holds tags, in the current spelling (purpose) or the old (type)."""
    return isinstance(attachment, dict) and (
        attachment.get("purpose") == "tags" or attachment.get("type") == "tags"
    )


def _dump(data: dict[str, Any]) -> bytes:
    try:
        return orjson.dumps(data)
    except TypeError as error:
        raise Rejected(f"the vCon cannot be written as JSON: {error}") from None


def _tag_texts(tags: Any) -> list[str]:
    if isinstance(tags, list):
        return [tag for tag in tags if isinstance(tag, str)]
    if isinstance(tags, dict):
        return [f"{name}:{value}" for name, value in tags.items()]
    return []

"""A vCon in memory: one plain dict, and the bytes that it was parsed from.

1. Parses bytes. Refuses only bytes that no link could process: bytes that are not a JSON object, an
   object without an accepted uuid, an object with another type in the place of a list.
2. Keeps the original bytes until the first change, so that an unchanged vCon is written exactly as
   it was read: number formats, key order, duplicate keys and white space included.
3. Detects changes. `add_*` mark the vCon as changed; changes through `data` are detected by
   comparison; `view` is for reading only.
4. Reads old and current member names. Writes current names in the parts that it adds; parts of
   other programs keep their names.
5. Carries signed (JWS) and encrypted (JWE) vCons and refuses to change them.

This is the hot path: every item passes through `parse` and `dump`. Therefore it uses a dict
instead of models, __slots__, and no copies.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import Any, Literal

import orjson

from conserver.errors import Rejected
from conserver.vcon.content import content_hashes, decode_base64url, decode_body, encode_body
from conserver.vcon.ids import (
    USABLE_UUID,
    envelope_uuid,
    json_name,
    why_not_a_uuid,
    why_not_json,
)
from conserver.vcon.indices import indices, remove_elements
from storage.reading import (
    Said,
    dialogs_of,
    duration_s,
    is_tags,
    is_transcript,
    media_type,
    structured,
    tag_texts,
    tags_in,
    tags_of,
    transcript_of,
)

# Links import everything that they need of conserver.vcon from this module.
__all__ = [
    "Form",
    "Said",
    "Vcon",
    "content_hashes",
    "decode_base64url",
    "decode_body",
    "dialogs_of",
    "duration_s",
    "encode_body",
    "indices",
    "is_tags",
    "is_transcript",
    "media_type",
    "numbered",
    "structured",
    "tag_texts",
]

Form = Literal["unsigned", "jws", "jwe"]


class Vcon:
    """One vCon. Not thread-safe: one thread uses it at a time.

    Attributes:
        form: "unsigned", "jws" or "jwe".
        uuid: the id under which Redis and storages keep the vCon. For a signed or encrypted vCon
            without a uuid, an id derived from its bytes.
        names_uuid: whether the document contains that id.
        base: the bytes that were claimed, or that Redis holds after a later write (`rebase`). A
            merge compares both versions with these bytes.
    """

    __slots__ = ("_changed", "_data", "_touched", "base", "form", "names_uuid", "uuid")

    def __init__(
        self, data: dict[str, Any], base: bytes, form: Form, uuid: str, names_uuid: bool = True
    ) -> None:
        """Called by `parse`. Other code should make a Vcon with `parse`."""
        self._data = data
        self._changed = False
        self._touched = False
        self.base = base
        self.form: Form = form
        self.uuid = uuid
        self.names_uuid = names_uuid

    def __repr__(self) -> str:
        return f"<Vcon {self.uuid} {self.form} {'changed' if self.changed else 'unchanged'}>"

    @classmethod
    def parse(cls, raw: bytes) -> Vcon:
        """Parse a vCon of any form and version of the standard.

        Raises:
            Rejected: the bytes are not a JSON object, have no accepted uuid, or have another type
                in the place of a list. The error's text becomes the reason of the dead letter.
        """
        try:
            data = orjson.loads(raw)
        except orjson.JSONDecodeError as error:
            raise Rejected(why_not_json(raw, error)) from None
        if type(data) is not dict:
            raise Rejected(f"not a vCon: a JSON {json_name(data)} instead of an object")
        if "payload" in data and ("signatures" in data or "signature" in data):
            return cls(data, raw, "jws", *envelope_uuid(data, raw))
        if "ciphertext" in data:
            return cls(data, raw, "jwe", *envelope_uuid(data, raw))
        uuid = data.get("uuid")
        if type(uuid) is not str or not USABLE_UUID.fullmatch(uuid):
            raise Rejected(why_not_a_uuid(uuid))
        for name in ("parties", "dialog", "analysis", "attachments"):
            value = data.get(name)
            if value is not None and type(value) is not list:
                raise Rejected(f"not a vCon: '{name}' is a JSON {json_name(value)}, not an array")
        return cls(data, raw, "unsigned", uuid)

    # Reading

    @property
    def view(self) -> dict[str, Any]:
        """The document, for reading. A change made through it is not detected and may be lost."""
        return self._data

    @property
    def data(self) -> dict[str, Any]:
        """The document, for any change. `changed` and `dump` detect changes by comparison.

        Raises:
            Rejected: the vCon is signed or encrypted.
        """
        self._refuse_envelope()
        self._touched = True
        return self._data

    @property
    def parties(self) -> list[Any]:
        """The parties, for reading; [] if there are none."""
        return self._data.get("parties") or []

    @property
    def dialogs(self) -> list[Any]:
        """The dialogs, for reading; [] if there are none."""
        return self._data.get("dialog") or []

    @property
    def analysis(self) -> list[Any]:
        """The analyses, for reading; [] if there are none."""
        return self._data.get("analysis") or []

    @property
    def attachments(self) -> list[Any]:
        """The attachments, for reading; [] if there are none."""
        return self._data.get("attachments") or []

    @property
    def tags(self) -> dict[str, str]:
        """All tags as a new dict name -> value. If a name has several values, the last one.

        The value of a tag without a colon is its name, as in vcon-server.
        """
        found: dict[str, str] = {}
        for text in self.tag_texts():
            name, colon, value = text.partition(":")
            found[name] = value if colon else name
        return found

    def tag_texts(self) -> list[str]:
        """All tags in their order as a new list of texts, mostly "name:value"."""
        return tags_of(self.attachments)

    def said_in(self, dialog: int, kinds: Callable[[Any], bool] = is_transcript) -> Said:
        """The text of a dialog with its speakers, from its transcripts.

        Args:
            dialog: the index of the dialog.
            kinds: which analyses and attachments to read; by default, transcripts of every type.
        """
        return transcript_of(self._data, dialog, kinds)

    def critical_unknown(self, supported: Collection[str] = ()) -> list[str]:
        """The extensions that this vCon declares critical and that `supported` does not contain.

        The standard forbids to process a vCon with an unknown critical extension. Entries that are
        not strings (a mistake of the producer) count as unknown.
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

    # Changing

    def add_party(self, party: dict[str, Any]) -> int:
        """Append a party and return its index. All add_* raise Rejected for an envelope."""
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
        """Add the tag `name:value`; a tag that exists already is not added again.

        The tag is added to the last tags attachment, in the format of that attachment (list or
        mapping, native or as a string of JSON). If there is no tags attachment, one is appended.
        """
        self._refuse_envelope()
        text = f"{name}:{value}"
        home: dict[str, Any] | None = None
        content: Any = None
        for attachment in self.attachments:
            if not is_tags(attachment):
                continue
            found = structured(attachment)
            if text in (tags_in(found) or ()):
                return
            # A base64url body is left alone: the new body would not fit its `encoding`.
            encoded = (
                type(attachment.get("body")) is str and attachment.get("encoding") == "base64url"
            )
            if (type(found) is list or type(found) is dict) and not encoded:
                home, content = attachment, found
        if home is None:
            self._append("attachments", self._tags_attachment(text))
            return
        body = home["body"]
        if type(content) is list:
            content.append(text)
        else:
            content[name] = value
        home["body"] = _dump(content).decode() if type(body) is str else content
        self._changed = True

    def extend_extensions(self, name: str) -> None:
        """Add `name` to the extensions that the vCon declares, if it is missing there."""
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
        """Remove elements by index from "parties", "dialog", "analysis" or "attachments".

        Indices to the remaining elements are updated. A member that referred to a removed element
        is deleted; an index inside of a list becomes null.
        """
        self._refuse_envelope()
        if gone:
            remove_elements(self._data, member, gone)
            self._changed = True

    # Serializing

    @property
    def changed(self) -> bool:
        """Whether `dump` would return other content than `base`."""
        if self._changed or not self._touched:
            return self._changed
        # This compares JSON texts and not dicts, because in Python 1, 1.0 and True are equal.
        return _dump(self._data) != _dump(orjson.loads(self.base))

    @property
    def raw(self) -> bytes | None:
        """The original bytes while the vCon is unchanged; None after a change."""
        return None if self.changed else self.base

    def dump(self) -> bytes:
        """The vCon as JSON bytes; while it is unchanged, the original bytes.

        Raises:
            Rejected: a link added a value that JSON cannot express.
        """
        if self._changed:
            return _dump(self._data)
        if self._touched:
            body = _dump(self._data)
            if body != _dump(orjson.loads(self.base)):
                return body
        return self.base

    def rebase(self, written: bytes) -> None:
        """Make `written`, a dump of this vCon that Redis now holds, the new base."""
        self.base = written
        self._changed = False

    def take_base_of(self, earlier: Vcon) -> None:
        """Take over the base of `earlier`; this vCon is a later version of it.

        Every difference from that base then counts as a change. This is needed if a link returns
        another `Vcon` object than it got.
        """
        self.base = earlier.base
        self._touched = True

    def replace_content(self, other: Vcon) -> None:
        """Replace all content by the content of `other`. A link that holds this object then sees
        the new content.
        """
        self._data, self.base, self.form = other._data, other.base, other.form
        self.names_uuid = other.names_uuid
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
        # The standard requires start, party and dialog. All three are taken from the vCon and not
        # from the clock, so that a tag added again after a crash, or by two chains, is identical.
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
    """Yield (index, element) for the elements that are JSON objects; skip other elements."""
    for index, item in enumerate(items):
        if isinstance(item, dict):
            yield index, item


def _dump(data: dict[str, Any] | list[Any]) -> bytes:
    try:
        return orjson.dumps(data)
    except TypeError as error:
        raise Rejected(f"the vCon cannot be written as JSON: {error}") from None

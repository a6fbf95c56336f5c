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

import binascii
import hashlib
import json
import re
import uuid as uuidlib
from collections.abc import Collection, Iterator
from typing import Any, Literal

import orjson

from conserver.errors import Rejected
from conserver.references import remove_elements

Form = Literal["unsigned", "jws", "jwe"]

# The uuid becomes part of Redis keys, object keys and file names. Any version of UUID, and ids that
# are none, pass; what could climb out of a folder or be taken for a document does not.
_USABLE_UUID = re.compile(r"[0-9A-Za-z][0-9A-Za-z._:@+=-]{0,127}")

_FROM_BASE64URL = bytes.maketrans(b"-_", b"+/")
_TO_BASE64URL = bytes.maketrans(b"+/", b"-_")
_BINARY_MEDIA = ("audio/", "video/", "image/")


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
            raise Rejected(_why_not_json(raw, error)) from None
        if type(data) is not dict:
            raise Rejected(f"not a vCon: a JSON {_json_name(data)} instead of an object")
        if "payload" in data and ("signatures" in data or "signature" in data):
            return cls(data, raw, "jws", _envelope_uuid(data, raw))
        if "ciphertext" in data:
            return cls(data, raw, "jwe", _envelope_uuid(data, raw))
        uuid = data.get("uuid")
        if type(uuid) is not str or not _USABLE_UUID.fullmatch(uuid):
            raise Rejected(_why_not_a_uuid(uuid))
        for name in ("parties", "dialog", "analysis", "attachments"):
            value = data.get(name)
            if value is not None and type(value) is not list:
                raise Rejected(f"not a vCon: '{name}' is a JSON {_json_name(value)}, not an array")
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
                texts.extend(_tag_texts(_lenient_json(attachment.get("body"))))
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
            tags = _lenient_json(attachment.get("body"))
            if type(tags) is list or type(tags) is dict:
                if text in _tag_texts(tags):
                    return
                home = attachment
        if home is None:
            self._append("attachments", self._tags_attachment(text))
            return
        body = home["body"]
        tags = _lenient_json(body)
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


def usable_uuid(text: str) -> bool:
    """Whether `text` can be a vCon's uuid here: up to 128 letters, digits and ._:@+=-"""
    return _USABLE_UUID.fullmatch(text) is not None


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


def media_type(item: dict[str, Any]) -> str | None:
    """The media type in lower case without its parameters, of `mediatype` or the old `mimetype`."""
    value = item.get("mediatype") or item.get("mimetype")
    return value.partition(";")[0].strip().lower() if isinstance(value, str) else None


def decode_body(item: dict[str, Any]) -> Any:
    """The content of a dialog, analysis or attachment: bytes, text, a JSON value, None without one.

    encoding base64url gives bytes (padded or not, and the common alphabet, which many write);
    json gives the value, whether the body is native or a string of JSON, and the string itself if
    it is no JSON, since plain text under that label is frequent; none gives the text. Without an
    encoding the media type decides.

    Raises:
        Rejected: the body calls itself base64url and is not.
    """
    body = item.get("body")
    if not isinstance(body, str):
        return body
    encoding = item.get("encoding")
    if not encoding:
        kind = media_type(item) or ""
        if kind.startswith(_BINARY_MEDIA):
            encoding = "base64url"
        elif kind.endswith("json"):
            encoding = "json"
    if encoding == "base64url":
        return decode_base64url(body)
    return _lenient_json(body) if encoding == "json" else body


def decode_base64url(text: str) -> bytes:
    """Bytes of base64url or common base64, padded or not, line breaks ignored.

    Raises:
        Rejected: it is neither.
    """
    try:
        raw = text.encode("ascii").translate(_FROM_BASE64URL, b" \t\r\n").rstrip(b"=")
        return binascii.a2b_base64(raw + b"=" * (-len(raw) % 4), strict_mode=True)
    except ValueError as error:
        raise Rejected(f"a body is not base64url as its encoding says: {error}") from None


def encode_body(content: bytes) -> str:
    """The text of bytes for a body with encoding base64url: without padding, as it has to be."""
    encoded = binascii.b2a_base64(content, newline=False).translate(_TO_BASE64URL)
    return encoded.rstrip(b"=").decode("ascii")


def content_hashes(item: dict[str, Any]) -> list[tuple[str, bytes]]:
    """The digests that external content must match, as (name for hashlib, digest).

    Reads `content_hash` ("sha512-..." or a list of such) and the old `alg` with `signature`. Names
    that hashlib does not know are left out; [] means that nothing was promised.
    """
    promised = item.get("content_hash")
    texts = promised if isinstance(promised, list) else [promised]
    pairs = [text.partition("-")[::2] for text in texts if isinstance(text, str)]
    if not pairs and isinstance(item.get("signature"), str):
        pairs = [(str(item.get("alg") or "SHA-512"), item["signature"])]
    names = [(name.replace("-", "").replace("_", "").lower(), digest) for name, digest in pairs]
    return [
        (name, decode_base64url(digest))
        for name, digest in names
        if name in hashlib.algorithms_available
    ]


def uuid8_of(raw: bytes) -> str:
    """A UUIDv8 made of the SHA-256 of `raw`: the same bytes have the same id everywhere."""
    digest = bytearray(hashlib.sha256(raw).digest()[:16])
    digest[6] = digest[6] & 0x0F | 0x80
    digest[8] = digest[8] & 0x3F | 0x80
    return str(uuidlib.UUID(bytes=bytes(digest)))


def _dump(data: dict[str, Any]) -> bytes:
    try:
        return orjson.dumps(data)
    except TypeError as error:
        raise Rejected(f"the vCon cannot be written as JSON: {error}") from None


def _lenient_json(body: Any) -> Any:
    if type(body) is not str:
        return body
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return body


def _tag_texts(tags: Any) -> list[str]:
    if isinstance(tags, list):
        return [tag for tag in tags if isinstance(tag, str)]
    if isinstance(tags, dict):
        return [f"{name}:{value}" for name, value in tags.items()]
    return []


def _envelope_uuid(data: dict[str, Any], raw: bytes) -> str:
    signatures = data.get("signatures")
    headers = [data.get("header"), data.get("unprotected"), data.get("protected")]
    for signature in signatures if isinstance(signatures, list) else []:
        if isinstance(signature, dict):
            headers += [signature.get("header"), signature.get("protected")]
    for header in [*headers, data]:
        fields = _protected_header(header) if isinstance(header, str) else header
        if isinstance(fields, dict) and (uuid := fields.get("uuid")) is not None:
            if isinstance(uuid, str) and usable_uuid(uuid):
                return uuid
            raise Rejected(_why_not_a_uuid(uuid))
    return uuid8_of(raw)


def _protected_header(text: str) -> Any:
    try:
        return orjson.loads(decode_base64url(text))
    except (Rejected, orjson.JSONDecodeError):
        return None  # Not ours to judge: whoever verifies the envelope will.


def _why_not_json(raw: bytes, error: orjson.JSONDecodeError) -> str:
    """The reason, with the two cases told apart that other parsers let pass."""
    if not raw.strip():
        return "not a vCon: empty"
    try:
        json.loads(raw)
    except (ValueError, RecursionError):
        return f"not a vCon: not JSON: {error}"
    if re.search(rb"\b(NaN|Infinity)\b", raw):
        return f"not a vCon: NaN or Infinity, which JSON does not have: {error}"
    return f"not a vCon: JSON that stricter parsers refuse (half of a surrogate pair?): {error}"


def _why_not_a_uuid(uuid: Any) -> str:
    if uuid is None or uuid == "":
        return "not a vCon: it has no uuid"
    if not isinstance(uuid, str):
        return f"not a vCon: its uuid is a JSON {_json_name(uuid)}, not a string"
    return f"not a vCon: its uuid {uuid[:80]!r} cannot serve as a key"


def _json_name(value: Any) -> str:
    if value is None:
        return "null"
    names = {dict: "object", list: "array", str: "string", bool: "boolean"}
    return names.get(type(value), "number")

"""The content of a dialog, an analysis or an attachment: bodies, media types, hashes.

Reading accepts the old and the current member names; writing uses the current ones.
"""

from __future__ import annotations

import binascii
import hashlib
from typing import Any

import orjson

from conserver.errors import Rejected

_FROM_BASE64URL = bytes.maketrans(b"-_", b"+/")
_TO_BASE64URL = bytes.maketrans(b"+/", b"-_")
_BINARY_MEDIA = ("audio/", "video/", "image/")


def media_type(item: dict[str, Any]) -> str | None:
    """The media type of a part in lower case, without parameters; None if it names none.

    Reads `mediatype`, else the older `mimetype`.
    """
    value = item.get("mediatype") or item.get("mimetype")
    return value.partition(";")[0].strip().lower() if isinstance(value, str) else None


def decode_body(item: dict[str, Any]) -> Any:
    """Decode the body of a dialog, an analysis or an attachment by its `encoding`.

    - base64url: bytes. Padding and the alphabet of plain base64 are accepted, because many
      producers write them.
    - json: the JSON value, from a native value or from a string that holds JSON. A string that is
      not JSON is returned as it is, because plain text is often labelled json.
    - none: the text.
    - no encoding: audio, video and image are read as base64url, JSON media types as json, all
      others as text.

    Returns:
        bytes, str or a JSON value; None if there is no body.

    Raises:
        Rejected: the encoding is base64url and the body is not.
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
    return lenient_json(body) if encoding == "json" else body


def decode_base64url(text: str) -> bytes:
    """Decode base64url or plain base64, with or without padding; white space is ignored.

    Raises:
        Rejected: the text is neither.
    """
    try:
        raw = text.encode("ascii").translate(_FROM_BASE64URL, b" \t\r\n").rstrip(b"=")
        return binascii.a2b_base64(raw + b"=" * (-len(raw) % 4), strict_mode=True)
    except ValueError as error:
        raise Rejected(f"a body is not base64url as its encoding says: {error}") from None


def encode_body(content: bytes) -> str:
    """Encode bytes for a body with encoding base64url. The standard forbids padding."""
    encoded = binascii.b2a_base64(content, newline=False).translate(_TO_BASE64URL)
    return encoded.rstrip(b"=").decode("ascii")


def content_hashes(item: dict[str, Any]) -> list[tuple[str, bytes]]:
    """The digests that a part's content must have, as (hashlib's name, digest).

    Reads `content_hash` ("sha512-..." or a list of such), else the older `alg` with `signature`.
    Algorithms that hashlib does not know are left out. [] means that there is nothing to compare.

    Raises:
        Rejected: a digest is not base64url.
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


def lenient_json(body: Any) -> Any:
    """The JSON value of a string that holds JSON; any other value is returned unchanged."""
    if type(body) is not str:
        return body
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return body

"""The content of a dialog, an analysis or an attachment: bodies, media types, hashes.

Old and new spellings are read, the current ones are written.
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
    return lenient_json(body) if encoding == "json" else body


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


def lenient_json(body: Any) -> Any:
    """The value of a string of JSON; whatever else it is, as it is."""
    if type(body) is not str:
        return body
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return body

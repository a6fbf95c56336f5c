"""The content of a dialog, an analysis or an attachment: bodies and hashes.

storage.reading decodes bodies. The functions here raise Rejected if a body does not have the
encoding that its part names. They read old and current member names, and write current ones.
"""

from __future__ import annotations

import binascii
import hashlib
from typing import Any

from conserver.errors import Rejected
from storage import reading

_TO_BASE64URL = bytes.maketrans(b"+/", b"-_")
_ENCODED_AT_ONCE = 3 << 14
"""Bytes per piece; a multiple of three, so that pieces can be joined. Pieces that fit into the
processor's cache take half the time."""


def decode_body(item: dict[str, Any]) -> Any:
    """Decode the body of a part by its `encoding`: see storage.reading.decode_body.

    Returns:
        bytes, str or a JSON value; None if there is no body.

    Raises:
        Rejected: the part names the encoding base64url, and the body is not base64url.
    """
    try:
        return reading.decode_body(item)
    except reading.NotBase64Error as error:
        raise Rejected(f"a body is not base64url as its encoding says: {error}") from None


def decode_base64url(text: str) -> bytes:
    """Decode base64url or plain base64, with or without padding; white space is ignored.

    Raises:
        Rejected: the text is neither.
    """
    try:
        return reading.decode_base64url(text)
    except reading.NotBase64Error as error:
        raise Rejected(f"a body is not base64url as its encoding says: {error}") from None


def encode_body(content: bytes) -> str:
    """Encode bytes for a body with encoding base64url. The standard forbids padding."""
    pieces = [
        binascii.b2a_base64(content[at : at + _ENCODED_AT_ONCE], newline=False)
        .translate(_TO_BASE64URL)
        .decode("ascii")
        for at in range(0, len(content), _ENCODED_AT_ONCE)
    ]
    return "".join(pieces).rstrip("=")


def content_hashes(item: dict[str, Any]) -> list[tuple[str, bytes]]:
    """The digests that a part's content must have, as pairs (hashlib's name, digest).

    Reads `content_hash` ("sha512-..." or a list of such strings), else the older members `alg` and
    `signature`. Leaves out algorithms that hashlib does not know. [] if there is no digest.

    Raises:
        Rejected: a digest is not base64url, or has the wrong length for its algorithm.
    """
    promised = item.get("content_hash")
    texts = promised if isinstance(promised, list) else [promised]
    member = "content_hash"
    pairs = [text.partition("-")[::2] for text in texts if isinstance(text, str)]
    if not pairs and isinstance(item.get("signature"), str):
        member = "signature"
        pairs = [(str(item.get("alg") or "SHA-512"), item["signature"])]
    names = [(name.replace("-", "").replace("_", "").lower(), digest) for name, digest in pairs]
    return [
        (name, _digest(member, name, digest))
        for name, digest in names
        if name in hashlib.algorithms_available
    ]


def _digest(member: str, name: str, text: str) -> bytes:
    try:
        digest = reading.decode_base64url(text)
    except reading.NotBase64Error as error:
        raise Rejected(f"the {name} digest in `{member}` is not base64url: {error}") from None
    wanted = hashlib.new(name).digest_size
    if wanted and len(digest) != wanted:
        raise Rejected(f"the {name} digest in `{member}` has {len(digest)} bytes, not {wanted}")
    return digest

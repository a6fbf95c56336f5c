"""Reads the body, the media type and the duration of a dialog, an analysis or an attachment."""

from __future__ import annotations

import binascii
import math
from collections.abc import Mapping
from typing import Any

import orjson

_FROM_BASE64URL = bytes.maketrans(b"-_", b"+/")
_BINARY_MEDIA = ("audio/", "video/", "image/")
_BASE64 = ("base64url", "base64")


class NotBase64Error(ValueError):
    """A text that should be base64url is not."""


def media_type(part: Mapping[str, Any]) -> str | None:
    """The media type of a part in lower case, without parameters; None if it has none.

    Reads `mediatype`, else the older `mimetype`.
    """
    value = part.get("mediatype") or part.get("mimetype")
    return value.partition(";")[0].strip().lower() if isinstance(value, str) else None


def decode_body(part: Mapping[str, Any]) -> Any:
    """Decode the body of a dialog, an analysis or an attachment by its `encoding`.

    - base64url, or the older base64: bytes. Padding and both alphabets are accepted.
    - json: the JSON value of a string that contains JSON. A string that is not JSON is returned
      unchanged, because producers often label plain text json.
    - none: the text.
    - no encoding: recordings, audio, video and images are read as base64url, JSON media types as
      json, all other parts as text.

    A body that is not a string is returned unchanged.

    Returns:
        bytes, str or a JSON value; None if there is no body.

    Raises:
        NotBase64Error: the encoding is base64url and the body is not.
    """
    body = part.get("body")
    if not isinstance(body, str):
        return body
    encoding = part.get("encoding")
    if not encoding:
        kind = media_type(part) or ""
        if kind.endswith("json"):
            encoding = "json"
        elif kind.startswith(_BINARY_MEDIA) or (
            part.get("type") == "recording" and not kind.startswith("text/")
        ):
            encoding = "base64url"
    if encoding in _BASE64:
        return decode_base64url(body)
    return _parsed(body) if encoding == "json" else body


def structured(part: Mapping[str, Any]) -> Any:
    """The body of a part as text or JSON value.

    A JSON object or array is parsed even if the body's encoding is text, base64url or missing,
    because producers use all of these for JSON. Other JSON values (`26`) are parsed only if the
    encoding is json. Bytes that are not UTF-8 are returned as bytes.
    """
    try:
        value = decode_body(part)
    except NotBase64Error:
        value = part.get("body")
    if isinstance(value, bytes):
        try:
            value = value.decode("utf-8")
        except UnicodeDecodeError:
            return value
    if isinstance(value, str) and value.lstrip()[:1] in ("{", "["):
        return _parsed(value)
    return value


def decode_base64url(text: str) -> bytes:
    """Decode base64url or plain base64, with or without padding; white space is ignored.

    Raises:
        NotBase64Error: the text is neither.
    """
    try:
        raw = text.encode("ascii").translate(_FROM_BASE64URL, b" \t\r\n").rstrip(b"=")
        return binascii.a2b_base64(raw + b"=" * (-len(raw) % 4), strict_mode=True)
    except ValueError as error:
        raise NotBase64Error(str(error)) from None


def duration_s(dialog: Mapping[str, Any]) -> float | None:
    """The duration of a dialog in seconds; None if it has none.

    Negative numbers count as none, because producers write -1 for an unknown duration.
    """
    value = dialog.get("duration")
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if 0 <= value < math.inf else None


def _parsed(text: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return text

"""Checks uuids, finds the uuid of signed and encrypted vCons, and says why bytes are no vCon.

Bytes are a vCon if they are a JSON object with a uuid that can serve as a key.
"""

from __future__ import annotations

import hashlib
import json
import re
import uuid as uuidlib
from typing import Any

import orjson

from conserver.errors import Rejected
from conserver.vcon.content import decode_base64url

# The uuid becomes part of Redis keys, object keys and file names. Every version of UUID is
# accepted, and other ids, too. Text that could leave a folder ("../") or be mistaken for a document
# ("{") is refused.
USABLE_UUID = re.compile(r"[0-9A-Za-z][0-9A-Za-z._:@+=-]{0,127}")


def usable_uuid(text: str) -> bool:
    """Whether `text` is accepted as a uuid: 1 to 128 letters, digits and ._:@+=-"""
    return USABLE_UUID.fullmatch(text) is not None


def uuid8_of(raw: bytes) -> str:
    """A UUIDv8 derived from the SHA-256 of `raw`: equal bytes get equal ids on every host."""
    digest = bytearray(hashlib.sha256(raw).digest()[:16])
    digest[6] = digest[6] & 0x0F | 0x80
    digest[8] = digest[8] & 0x3F | 0x80
    return str(uuidlib.UUID(bytes=bytes(digest)))


def envelope_uuid(data: dict[str, Any], raw: bytes) -> tuple[str, bool]:
    """The uuid of a signed or encrypted vCon, and whether its headers name it.

    An envelope without a uuid gets one derived from its bytes.

    Raises:
        Rejected: a header has a uuid that cannot serve as a key.
    """
    signatures = data.get("signatures")
    headers = [data.get("header"), data.get("unprotected"), data.get("protected")]
    for signature in signatures if isinstance(signatures, list) else []:
        if isinstance(signature, dict):
            headers += [signature.get("header"), signature.get("protected")]
    for header in [*headers, data]:
        fields = _protected_header(header) if isinstance(header, str) else header
        if isinstance(fields, dict) and (uuid := fields.get("uuid")) is not None:
            if isinstance(uuid, str) and usable_uuid(uuid):
                return uuid, True
            raise Rejected(why_not_a_uuid(uuid))
    return uuid8_of(raw), False


def _protected_header(text: str) -> Any:
    try:
        return orjson.loads(decode_base64url(text))
    except (Rejected, orjson.JSONDecodeError):
        return None  # the program that verifies the envelope reports a broken header


def why_not_json(raw: bytes, error: orjson.JSONDecodeError) -> str:
    """A sentence that says why bytes are not JSON, for the reason of the dead letter.

    Names the cases that more lenient parsers accept (NaN, lone surrogates), because the producer
    may see no error on its side.
    """
    if not raw.strip():
        return "not a vCon: empty"
    try:
        json.loads(raw)
    except (ValueError, RecursionError):
        return f"not a vCon: not JSON: {error}"
    if re.search(rb"\b(NaN|Infinity)\b", raw):
        return f"not a vCon: NaN or Infinity, which JSON does not have: {error}"
    # A lone surrogate, a number beyond a double's range or a byte order mark: `error` says which.
    return f"not a vCon: JSON that stricter parsers refuse: {error}"


def why_not_a_uuid(uuid: Any) -> str:
    """A sentence that says why a uuid is not accepted, for the reason of the dead letter."""
    if uuid is None or uuid == "":
        return "not a vCon: it has no uuid"
    if not isinstance(uuid, str):
        return f"not a vCon: its uuid is a JSON {json_name(uuid)}, not a string"
    return f"not a vCon: its uuid {uuid[:80]!r} cannot serve as a key"


def json_name(value: Any) -> str:
    """JSON's name of the type of a value."""
    if value is None:
        return "null"
    names = {dict: "object", list: "array", str: "string", bool: "boolean"}
    return names.get(type(value), "number")

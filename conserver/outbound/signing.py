"""Signatures of Standard Webhooks 1.0 (standardwebhooks.com), and the secrets they are made with.

A secret is `whsec_` and the base64 form of its key. While a secret is being replaced, the new and
the old one both sign; the receiver accepts a call if either signature matches. Secrets have names,
so that each receiver can have its own. The secret without a name is the default.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping, Sequence
from pathlib import Path

PREFIX = "whsec_"
KEY_BYTES_MIN, KEY_BYTES_MAX = 24, 64
SECRETS_MAX = 2

Secrets = Mapping[str, Sequence[str]]
"""Name -> its one or two secrets, the newest first; the name "" is the default."""


def signature(secrets: Sequence[str], identity: str, stamp: str, body: bytes) -> str:
    """The value of `webhook-signature`: for each secret `v1,` and the HMAC-SHA256, in base64.

    Args:
        identity: the webhook-id.
        stamp: the webhook-timestamp, in seconds since 1970.
        body: the exact bytes that are sent.
    """
    message = f"{identity}.{stamp}.".encode() + body
    made = [hmac.new(key_of(secret), message, hashlib.sha256).digest() for secret in secrets]
    return " ".join("v1," + base64.b64encode(digest).decode() for digest in made)


def key_of(secret: str) -> bytes:
    """The key of a secret. A secret without the prefix is itself the key. Raises ValueError."""
    if not secret.startswith(PREFIX):
        return secret.encode()
    try:
        return base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    except binascii.Error:
        raise ValueError(f"the part behind {PREFIX} is not base64") from None


def secrets_of(default: str, file: str) -> Secrets:
    """The secrets of this host.

    Args:
        default: the default secret, or two separated by a space.
        file: a file whose lines have a name and its one or two secrets; `#` begins a comment. "":
            no file.

    Raises:
        ValueError: a secret cannot be used. The message names its line and shows no secret.
        OSError: the file cannot be read.
    """
    found: dict[str, Sequence[str]] = {}
    if default.strip():
        found[""] = _checked(default.split(), "CONSERVER_WEBHOOK_SECRET")
    if not file:
        return found
    for number, line in enumerate(Path(file).read_text("utf-8").splitlines(), 1):
        words = line.partition("#")[0].split()
        if words:
            name = "" if words[0].startswith(PREFIX) else words.pop(0)
            found[name] = _checked(words, f"{file}, line {number}")
    return found


def _checked(secrets: list[str], where: str) -> list[str]:
    if not 1 <= len(secrets) <= SECRETS_MAX:
        raise ValueError(f"{where}: one secret is needed, or two while they are exchanged")
    for secret in secrets:
        if not secret.startswith(PREFIX):
            raise ValueError(f"{where}: a secret begins with {PREFIX}")
        try:
            size = len(key_of(secret))
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from None
        if not KEY_BYTES_MIN <= size <= KEY_BYTES_MAX:
            raise ValueError(
                f"{where}: the key of a secret has {KEY_BYTES_MIN} to {KEY_BYTES_MAX} bytes, not "
                f"{size}"
            )
    return secrets

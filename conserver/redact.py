"""The one place that knows what must not be shown: passwords, tokens, keys, control characters.

Used by every log line, by the messages about wrong configuration, and by the commands that show
settings. Three rules: a value is hidden when its name says that it is a secret, a URL loses its
password wherever it appears in text, and what goes to a terminal is made of characters that only
print: a producer's text must not move the cursor or change the colours of whoever reads it.
"""

from __future__ import annotations

import re
from functools import lru_cache

HIDDEN = "***"

_SECRET_NAME = re.compile(
    r"password|passwd|secret|token|api[_-]?key|access[_-]?key|authorization|credential"
    r"|private[_-]?key|cookie",
    re.IGNORECASE,
)
# These names merely contain the word: a token of the queue is an item's name, needed in logs, and
# counts of a model's tokens are figures.
_HARMLESS_NAME = re.compile(
    r"^(item_token|secret_name|tokens|(max|prompt|completion|total|input|output)_tokens)$"
    r"|_(file|path)$",
    re.IGNORECASE,
)
# The user may be empty (redis://:password@host); the password ends at the last @ before the path
# begins.
_URL_PASSWORD = re.compile(r"(?P<head>[a-z][a-z0-9+.-]*://[^\s:/@]*):[^\s/]+@", re.IGNORECASE)

# What moves the cursor or turns the direction of writing, and halves of characters, which cannot be
# written at all.
_CONTROL = re.compile(
    "[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)


@lru_cache(maxsize=1024)
def is_secret_name(name: str) -> bool:
    """Whether a value under this name must be hidden. Cached: log lines ask it for every field."""
    return bool(_SECRET_NAME.search(name)) and not _HARMLESS_NAME.search(name)


def redact_text(text: str) -> str:
    """`text` with the password of every URL in it hidden; user, host and path stay readable."""
    if "://" not in text or "@" not in text:
        return text
    return _URL_PASSWORD.sub(rf"\g<head>:{HIDDEN}@", text)


def redact(value: object, name: str = "") -> object:
    """A copy of `value` that can be shown: secrets hidden and URLs cleaned, at every depth."""
    if name and is_secret_name(name) and value not in (None, ""):
        return HIDDEN
    if isinstance(value, str):
        return redact_text(value)
    if isinstance(value, dict):
        return {key: redact(item, str(key)) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [redact(item) for item in value]
    return value


def printable(text: str, keep: str = "") -> str:
    """`text` with its control characters made visible (`\\x1b`, `\\n`), except those in `keep`."""
    if text.isprintable():
        return text
    return _CONTROL.sub(
        lambda match: match[0] if match[0] in keep else match[0].encode("unicode_escape").decode(),
        text,
    )

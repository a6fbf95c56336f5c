"""The one place that knows what must not be shown: passwords, tokens, keys, control characters.

Used by every log line, every dead letter, and all that a command says. Four rules: a value is
hidden when its name says that it is a secret; a URL loses its login and its secret parameters
wherever it appears in text; the secrets of this process's own configuration are hidden wherever
they stand; and what goes to a terminal is made of characters that only print: a producer's text
must not move the cursor or change the colours of whoever reads it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from urllib.parse import unquote

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
# In a URL these are secrets too; elsewhere they say too little.
_SECRET_PARAMETER = re.compile(r"^(key|auth|pass|pwd|sig)$|signature", re.IGNORECASE)

# What follows the scheme of a URL in a text: all until a blank, the quote that closes it, or the
# next URL of a list. It may hold quotes, commas and slashes: passwords do.
_URL = re.compile(
    r"://(?P<rest>(?:(?![\"'`](?:[\s,;:)\]}]|$)|[,;|][a-z][a-z0-9+.-]{1,20}://)[^\s<>])*)",
    re.IGNORECASE,
)
# The URLs of these have no @ behind their login, unless somebody wrote a / into a password.
_WITHOUT_AT = re.compile(r"(redis|unix|postgres|mysql|mongodb|amqp)[a-z0-9+.-]*$", re.IGNORECASE)
_QUERY = re.compile(r"\?[\w.%~-]+=")
_PARAMETER = re.compile(r"(?P<head>[?&#;](?P<name>[^=&?#;]{1,64})=)(?P<value>[^&]+)")
# A colon behind which no port stands: what follows belongs to a password.
_NO_PORT = re.compile(r":(?!\d{0,5}(?:\W|$))")
_IPV6 = re.compile(r"\[[0-9a-f:.%]*\]", re.IGNORECASE)

_WORTH_HIDING_CHARS = 8

# What moves the cursor or turns the direction of writing, and halves of characters, which cannot be
# written at all.
_CONTROL = re.compile(
    "[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)


@lru_cache(maxsize=1024)
def is_secret_name(name: str) -> bool:
    """Whether a value under this name must be hidden. Cached: log lines ask it for every field."""
    return bool(_SECRET_NAME.search(name)) and not _HARMLESS_NAME.search(name)


class Secrets:
    """Values that are hidden wherever they stand in a text, whatever stands around them."""

    def __init__(self) -> None:
        self._values: tuple[str, ...] = ()

    def add(self, values: Iterable[str]) -> None:
        """Hide these from now on.

        A short one, or a plain word, is not: it would be taken out of texts that mean something
        else, and a log that lacks all words `conserver` tells nobody anything.
        """
        worth = {value for value in values if _is_worth_hiding(value)}
        # The longest first: one secret may be the beginning of another.
        self._values = tuple(sorted({*self._values, *worth}, key=len, reverse=True))

    def hide(self, text: str) -> str:
        """`text` without them."""
        for value in self._values:
            if value in text:
                text = text.replace(value, HIDDEN)
        return text


_known = Secrets()


def keep_secret(values: Iterable[str]) -> None:
    """Hide these values in all that this process, and what it forks, logs, says and writes down."""
    _known.add(values)


def secret_values(value: object, name: str = "") -> Iterator[str]:
    """The secrets in settings or options, plain or a model of pydantic's: what is a SecretStr or
    has a secret name, and what URLs carry.
    """
    if hasattr(value, "get_secret_value"):
        value, name = value.get_secret_value(), "secret"
    elif hasattr(type(value), "model_fields"):
        value = dict(value)  # type: ignore[call-overload]
    if isinstance(value, dict):
        for key, item in value.items():
            yield from secret_values(item, name if is_secret_name(name) else str(key))
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from secret_values(item, name)
    elif isinstance(value, str) and "://" in value:
        for match in _URL.finditer(value):
            yield from _secrets_of_url(match)
    elif isinstance(value, str) and is_secret_name(name):
        yield value
        yield value.rpartition(" ")[2]  # of `Bearer abc`, a server may quote the second word only


def _is_worth_hiding(value: str) -> bool:
    is_word = value.isalpha() and value.islower()
    return len(value) >= _WORTH_HIDING_CHARS and not is_word and value != HIDDEN


def redact_text(text: str) -> str:
    """`text` without secrets: of its URLs the scheme, user, host, path and harmless parameters stay
    readable.
    """
    text = _known.hide(text)
    return _URL.sub(_shown_url, text) if "://" in text else text


def _shown_url(match: re.Match[str]) -> str:
    login, rest = _split_login(match)
    user, _, password = login.partition(":")
    if login:
        # Where nothing stands behind the user, it is a token as often as not.
        login = f"{user}:{HIDDEN}" if password else HIDDEN
    return "://" + login + _PARAMETER.sub(_shown_parameter, rest)


def _shown_parameter(match: re.Match[str]) -> str:
    return match["head"] + HIDDEN if _is_secret_parameter(match["name"]) else match[0]


def _secrets_of_url(match: re.Match[str]) -> Iterator[str]:
    login, rest = _split_login(match)
    user, _, password = login.partition(":")
    for text in (password or user, *_secret_parameters(rest)):
        yield text
        yield unquote(text)


def _secret_parameters(rest: str) -> list[str]:
    found = _PARAMETER.finditer(rest)
    return [one["value"] for one in found if _is_secret_parameter(one["name"])]


def _is_secret_parameter(name: str) -> bool:
    name = unquote(name)
    return is_secret_name(name) or bool(_SECRET_PARAMETER.search(name))


def _split_login(match: re.Match[str]) -> tuple[str, str]:
    """The login of a URL, as (what must not be shown whole, the rest, which begins with the @)."""
    rest = match["rest"]
    authority = re.split("[/?#]", rest, maxsplit=1)[0]
    scheme = match.string[max(0, match.start() - 20) : match.start()]
    end = authority.rfind("@")
    unfinished = end < 0 and _NO_PORT.search(_IPV6.sub("", authority))
    if authority and (unfinished or _WITHOUT_AT.search(scheme)):
        query = _QUERY.search(rest)
        end = rest.rfind("@", 0, query.start() if query else len(rest))
    end = max(end, 0)
    return rest[:end], rest[end:]


def redact_texts(value: object) -> object:
    """A copy of `value` whose texts are redacted at every depth, whatever their names are."""
    if isinstance(value, str):
        return redact_text(value)
    if isinstance(value, dict):
        return {key: redact_texts(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [redact_texts(item) for item in value]
    return value


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

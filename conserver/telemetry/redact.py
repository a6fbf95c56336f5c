"""Removes secrets (passwords, tokens, keys) and control characters from output.

Documents are not redacted: `conserver get` prints a document, and `DLQ:<list>` holds a payload,
unchanged. The rules:

1. A value is hidden if its name or its type is that of a secret (`redact_fields`).
2. A URL in any text loses its password and its secret parameters. A presigned URL loses its whole
   query, because that alone grants access.
3. The secrets of this process's configuration, and in a worker those of its links and storages, are
   hidden wherever they occur in a text. `hide_everywhere` tells which are excepted.
4. `printable` escapes control characters for terminals, so that a producer's text cannot move the
   cursor or change colours.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from urllib.parse import quote, quote_plus, unquote

HIDDEN = "***"

_SECRET_NAME = re.compile(
    r"password|passwd|secret|token|api[_-]?key|access[_-]?key|authorization|credential"
    r"|private[_-]?key|cookie",
    re.IGNORECASE,
)
# Names that match _SECRET_NAME although their values are no secrets: `item_token` is the
# id of an item, and `max_tokens` and the like are numbers.
_HARMLESS_NAME = re.compile(
    r"^(item_token|secret_name|tokens|(max|prompt|completion|total|input|output)_tokens)$"
    r"|_(file|path)$",
    re.IGNORECASE,
)
# Names that mean a secret in the query of a URL only; elsewhere they are too general.
_SECRET_PARAMETER = re.compile(r"^(key|auth|pass|pwd|sig)$|signature", re.IGNORECASE)

# The part of a URL behind its scheme. The match ends at white space, a closing quote, or the next
# URL of a list. It may contain quotes, commas and slashes, because passwords do.
_URL = re.compile(
    r"://(?P<rest>(?:(?![\"'`](?:[\s,;:)\]}]|$)|[,;|][a-z][a-z0-9+.-]{1,20}://)[^\s<>])*)",
    re.IGNORECASE,
)
# In URLs of these schemes an @ can only end the credentials. So the credentials end at the last @
# before the query, even if the password contains an unescaped slash.
_LAST_AT_ENDS_LOGIN = re.compile(
    r"(redis|unix|postgres|mysql|mongodb|amqp)[a-z0-9+.-]*$", re.IGNORECASE
)
_QUERY = re.compile(r"\?[\w.%~-]+=")
_PARAMETER = re.compile(r"(?P<head>[?&#;](?P<name>[^=&?#;]{1,64})=)(?P<value>[^&]+)")
_PRESIGNED = re.compile(r"[?&](?:x-[a-z]+-signature|signature|sig)=", re.IGNORECASE)
# A colon without a port behind it. The text behind such a colon is part of a password.
_NO_PORT = re.compile(r":(?!\d{0,5}(?:\W|$))")
_IPV6 = re.compile(r"\[[0-9a-f:.%]*\]", re.IGNORECASE)

_WORTH_HIDING_CHARS = 8
_ANY = "surrogatepass"
"""The error handler for encoding secrets. Python reads bytes of an environment variable that are
not UTF-8 as lone surrogates, which a plain encode() refuses.
"""

# Characters that move the cursor or change the direction of writing; and lone surrogates, because
# UTF-8 cannot encode them.
_CONTROL = re.compile(
    "[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)


@lru_cache(maxsize=1024)
def is_secret_name(name: str) -> bool:
    """Whether values of this name are hidden. Cached, because it is called for every log field."""
    return bool(_SECRET_NAME.search(name)) and not _HARMLESS_NAME.search(name)


_hidden: tuple[str, ...] = ()
_quoted: tuple[str, ...] = ()
"""The values of `_hidden` as JSON writes them between quotation marks."""


def hide_everywhere(values: Iterable[str]) -> None:
    """Let the functions of this module hide these values in all texts, in this process and in those
    that it forks. Short values and plain lower-case words are excepted.

    Otherwise a password such as `conserver` would remove that word from every log line.
    """
    global _hidden, _quoted  # Replaced as a whole, because other threads iterate over them.
    worth = {value for value in values if _is_worth_hiding(value)}
    for value in tuple(worth):
        worth.add(quote(value, safe="", errors=_ANY))
        worth.add(quote_plus(value, errors=_ANY))
    # The longest first, because one secret may be a prefix of another.
    _hidden = tuple(sorted({*_hidden, *worth}, key=len, reverse=True))
    quoted = [json.dumps(one, ensure_ascii=escape) for one in _hidden for escape in (False, True)]
    _quoted = tuple(dict.fromkeys(one[1:-1] for one in quoted))


def secret_values(value: object, name: str = "") -> Iterator[str]:
    """The secrets in settings or options, given as plain data or as a pydantic model.

    A secret is a value of type SecretStr, a value with the name of a secret, or a password or
    secret parameter in a URL.
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
        yield value.rpartition(" ")[2]  # A server may quote only the `abc` of `Bearer abc`.


def _is_worth_hiding(value: str) -> bool:
    is_word = value.isalpha() and value.islower()
    return len(value) >= _WORTH_HIDING_CHARS and not is_word and value != HIDDEN


def redact_text(text: str) -> str:
    """`text` without secrets. A URL keeps its scheme, host, path and harmless parameters. It keeps
    the user only beside a password, because a user alone is often a token.
    """
    for value in _hidden:
        if value in text:
            text = text.replace(value, HIDDEN)
    return _URL.sub(_shown_url, text) if "://" in text else text


def redact_quoted(text: str) -> str:
    """Like `redact_text`, for a text in which secrets may be escaped as in a JSON string."""
    for value in _quoted:
        if value in text:
            text = text.replace(value, HIDDEN)
    return redact_text(text)


def redact_json(body: bytes) -> bytes:
    """JSON with all its texts redacted, keys too; `body` itself if nothing has to be hidden."""
    if b"://" not in body and not any(value.encode(errors=_ANY) in body for value in _quoted):
        return body
    try:
        return json.dumps(redact_texts(json.loads(body)), separators=(",", ":")).encode()
    except ValueError:  # It is no JSON.
        return redact_quoted(body.decode("utf-8", "replace")).encode()


def _shown_url(match: re.Match[str]) -> str:
    login, rest = _split_login(match)
    user, _, password = login.partition(":")
    if login:
        # A user without a password is often a token.
        login = f"{user}:{HIDDEN}" if password else HIDDEN
    if _PRESIGNED.search(rest):
        return "://" + login + rest.partition("?")[0] + "?" + HIDDEN
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
    """Split the text behind a URL's scheme into (credentials, rest). If there are credentials, the
    rest begins with @.
    """
    rest = match["rest"]
    authority = re.split("[/?#]", rest, maxsplit=1)[0]
    scheme = match.string[max(0, match.start() - 20) : match.start()]
    end = authority.rfind("@")
    unfinished = end < 0 and _NO_PORT.search(_IPV6.sub("", authority))
    if authority and (unfinished or _LAST_AT_ENDS_LOGIN.search(scheme)):
        query = _QUERY.search(rest)
        end = rest.rfind("@", 0, query.start() if query else len(rest))
    end = max(end, 0)
    return rest[:end], rest[end:]


def redact_texts(value: object) -> object:
    """A copy of `value` with all texts redacted at every depth, regardless of their names."""
    if isinstance(value, str):
        return redact_text(value)
    if isinstance(value, dict):
        return {redact_texts(key): redact_texts(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [redact_texts(item) for item in value]
    return value


def redact_fields(value: object, name: str = "") -> object:
    """A copy of `value` with secrets hidden, by type, by name and in texts, at every depth.

    A SecretStr that is a URL is shown without its secrets.
    """
    if hasattr(value, "get_secret_value"):
        value = value.get_secret_value()
        name = name if "://" in str(value) else "secret"
    if name and is_secret_name(name) and value not in (None, ""):
        return HIDDEN
    if isinstance(value, str):
        return redact_text(value)
    if isinstance(value, dict):
        return {key: redact_fields(item, str(key)) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [redact_fields(item) for item in value]
    return value


def printable(text: str, keep: str = "") -> str:
    """`text` with its control characters escaped (`\\x1b`, `\\n`), except those in `keep`."""
    if text.isprintable():
        return text
    return _CONTROL.sub(
        lambda match: match[0] if match[0] in keep else match[0].encode("unicode_escape").decode(),
        text,
    )

"""API tokens: the secrets of the HTTP API's callers, with their roles, in a file.

The text of a token is `cv_` and 43 characters; `conserver token add` shows it once. The file has
one JSON object per token: its name, its roles, the lists to which it is restricted, and the SHA-256
of its text. A plain hash is enough, because the text has 256 random bits.

    submit    submit documents, recordings and jobs; follow and cancel its own jobs
    read      see everything: lists, jobs, documents, dead letters, hosts
    operate   read, and pause, resume, requeue, purge, cancel
    admin     everything, also submitting, reloading and deleting
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import orjson

from conserver.config.settings import Settings
from conserver.errors import ConfigError, Problem

ROLES = ("submit", "read", "operate", "admin")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
_IMPLIED = {
    "submit": {"submit"},
    "read": {"read"},
    "operate": {"operate", "read"},
    "admin": {"admin", "operate", "read", "submit"},
}


@dataclass(frozen=True, slots=True)
class Token:
    """One API token, without its text.

    lists: the lists to which it is restricted; empty means all. jobs_at_once, jobs_per_minute,
    bytes_per_day: its own limits; 0 for the limits of the settings.
    """

    name: str
    roles: tuple[str, ...]
    lists: tuple[str, ...] = ()
    sha256: str = ""
    created_at: float = 0.0
    jobs_at_once: int = 0
    bytes_per_day: int = 0
    jobs_per_minute: int = 0
    guessable: bool = False
    """Whether a person may have chosen the text, so that it has few random bits."""

    def may(self, role: str) -> bool:
        """Whether one of the token's roles includes this role."""
        return any(role in _IMPLIED[own] for own in self.roles)

    def may_use(self, name: str) -> bool:
        """Whether the token may see and use this list."""
        return not self.lists or name in self.lists


def digest(text: str) -> str:
    """The SHA-256 of a token's text, in hex."""
    return hashlib.sha256(text.encode()).hexdigest()


class Keyring:
    """The accepted tokens. A comparison takes the same time whichever token matches."""

    def __init__(self, tokens: Iterable[Token], *, wanted: bool = False) -> None:
        """wanted: require a token even if `tokens` is empty, because all were revoked."""
        self._tokens = list(tokens)
        self._wanted = wanted

    @property
    def is_open(self) -> bool:
        """Whether the API requires no token, because none is configured."""
        return not (self._tokens or self._wanted)

    def find(self, text: str) -> Token | None:
        """The token with this text, or None."""
        wanted = digest(text).encode()
        found = None
        for token in self._tokens:
            if hmac.compare_digest(token.sha256.encode(), wanted):
                found = token
        return found

    def with_digest(self, sha256: str) -> Token | None:
        """The token whose text has this SHA-256; None if it was revoked."""
        return next((token for token in self._tokens if token.sha256 == sha256), None)


def keyring_of(settings: Settings) -> Keyring:
    """The tokens of the settings and of the files that the settings name. Raises ConfigError."""
    found: list[Token] = []
    if settings.api_tokens_file:
        found += load(Path(settings.api_tokens_file))
    if text := settings.api_token.get_secret_value().strip():
        found.append(Token("CONSERVER_API_TOKEN", ("admin",), (), digest(text), guessable=True))
    if settings.api_token_file:
        found += load_plain(Path(settings.api_token_file))
    return Keyring(found, wanted=bool(settings.api_tokens_file))


def load(path: Path) -> list[Token]:
    """Read the tokens of a file.

    Raises:
        ConfigError: the file cannot be read, or a line is no token.
    """
    try:
        entries = [line for line in path.read_bytes().splitlines() if line.strip()]
    except OSError as error:
        raise ConfigError(
            [Problem("CONSERVER_API_TOKENS_FILE", f"`{path}` cannot be read: {error.strerror}")],
            "the environment",
        ) from None
    tokens, problems = [], []
    for number, line in enumerate(entries, 1):
        try:
            tokens.append(_token(orjson.loads(line)))
        except (ValueError, KeyError, TypeError) as error:
            # The error never quotes the line: somebody may have written a token's text there.
            problems.append(Problem(f"{path}:{number}", f"is no token: {error}"))
    names = [token.name for token in tokens]
    problems += [
        Problem(str(path), f"the name `{name}` occurs more than once")
        for name in sorted({name for name in names if names.count(name) > 1})
    ]
    if problems:
        raise ConfigError(problems, "CONSERVER_API_TOKENS_FILE")
    return tokens


def load_plain(path: Path) -> list[Token]:
    """Read vcon-server's file of tokens: one per line, as plain text. All have the role admin.

    Raises:
        ConfigError: the file cannot be read, or is empty (as after a failed mount).
    """
    variable = "CONSERVER_API_TOKEN_FILE"
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8"
        problem = Problem(variable, f"`{path}` cannot be read: {reason}")
        raise ConfigError([problem], "the environment") from None
    found = [
        Token(f"{variable}:{number}", ("admin",), (), digest(line.strip()), guessable=True)
        for number, line in enumerate(lines, 1)
        if line.strip()
    ]
    if not found:
        raise ConfigError([Problem(variable, f"`{path}` holds no token")], "the environment")
    return found


def _token(entry: Any) -> Token:
    if not isinstance(entry, dict) or not {"name", "roles", "sha256"} <= entry.keys():
        raise ValueError("a line is a JSON object (`conserver token add` writes it)")
    name, roles = str(entry["name"]), tuple(map(str, entry["roles"]))
    check(name, roles)
    if not re.fullmatch(r"[0-9a-f]{64}", str(entry["sha256"])):
        raise ValueError("`sha256` has 64 hexadecimal digits")
    return Token(
        name,
        roles,
        tuple(str(one) for one in entry.get("lists", ())),
        str(entry["sha256"]),
        float(entry.get("created_at", 0)),
        _limit(entry, "jobs_at_once"),
        _limit(entry, "bytes_per_day"),
        _limit(entry, "jobs_per_minute"),
    )


def _limit(entry: Any, name: str) -> int:
    limit = int(entry.get(name, 0))
    if limit < 0:
        raise ValueError(f"`{name}` is 0 or more")
    return limit


def check(name: str, roles: Sequence[str]) -> None:
    """Check the name and the roles of a new token.

    Raises:
        ValueError: they are invalid; the error says why.
    """
    if not _NAME.fullmatch(name):
        raise ValueError(f"a name has 1 to 64 letters, digits and ._@-, not `{name[:80]}`")
    unknown = [role for role in roles if role not in ROLES]
    if unknown or not roles:
        raise ValueError(f"roles are some of {', '.join(ROLES)}, not `{', '.join(unknown)}`")


def add(
    path: Path,
    name: str,
    roles: Sequence[str],
    lists: Sequence[str] = (),
    *,
    jobs_at_once: int = 0,
    bytes_per_day: int = 0,
    jobs_per_minute: int = 0,
) -> str:
    """Make a token and add it to the file. Returns its text, which is stored nowhere.

    jobs_at_once, bytes_per_day, jobs_per_minute: 0 for the limits of the settings.

    Raises:
        ConfigError: the file cannot be read.
        ValueError: the name is taken, or the name or a role is invalid.
        OSError: the file cannot be written.
    """
    check(name, roles)
    known = load(path) if path.exists() else []
    if any(token.name == name for token in known):
        raise ValueError(f"there is a token of the name `{name}`; revoke it first")
    text = f"cv_{secrets.token_urlsafe(32)}"
    made = Token(
        name,
        tuple(roles),
        tuple(lists),
        digest(text),
        round(time.time(), 3),
        jobs_at_once,
        bytes_per_day,
        jobs_per_minute,
    )
    _write(path, [*known, made])
    return text


def revoke(path: Path, name: str) -> bool:
    """Remove a token from the file. Returns whether it was there.

    Raises:
        ConfigError: the file cannot be read.
        OSError: the file cannot be written.
    """
    known = load(path)
    left = [token for token in known if token.name != name]
    if len(left) == len(known):
        return False
    _write(path, left)
    return True


def _entry(token: Token) -> dict[str, Any]:
    entry = asdict(token)
    del entry["guessable"]
    return entry


def _write(path: Path, tokens: Sequence[Token]) -> None:
    """Replace the file in one step: a reader sees either the old or the new file."""
    text = b"".join(orjson.dumps(_entry(token)) + b"\n" for token in tokens)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise

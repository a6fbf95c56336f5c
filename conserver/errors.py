"""The exceptions that Conserver raises on purpose, as one tree, and its exit codes.

    ConserverError
    ├── BootError             the process cannot start; carries its exit code
    │   └── ConfigError       the configuration is wrong; lists every problem found
    ├── OperationError        an operator's request failed; has the kind of the failure
    │   └── InvalidArgumentError  an argument of the operation cannot be used
    ├── Filtered              a link stops the chain: the item is neither stored nor passed on
    ├── Retry                 a link asks for another attempt later
    ├── Rejected              the item can never succeed, so it is dead-lettered at once
    └── Cancelled             an operator has cancelled the running item

A message tells an operator what happened, where, and what to do about it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

EXIT_FAILURE = 1
EXIT_USAGE = 2
EXIT_UNAVAILABLE = 69
EXIT_CHILD = 70
EXIT_INSANE = 76
"""The exit code of a transcriber whose device computes other results than at first."""
EXIT_CONFIG = 78


class ConserverError(Exception):
    """The root of the tree."""


class BootError(ConserverError):
    """The daemon or a child cannot start; `exit_code` follows sysexits(3)."""

    def __init__(self, message: str, exit_code: int = EXIT_CHILD) -> None:
        super().__init__(message)
        self.exit_code = exit_code


@dataclass(frozen=True, slots=True)
class Problem:
    """One fault of a configuration: where it is, what is wrong, and how to mend it."""

    path: str
    message: str
    hint: str = ""

    def __str__(self) -> str:
        text = f"{self.path}: {self.message}" if self.path else self.message
        return f"{text} ({self.hint})" if self.hint else text


class ConfigError(BootError):
    """The configuration cannot be used. `problems` holds all faults that were found."""

    def __init__(self, problems: Sequence[Problem], source: str = "") -> None:
        self.problems = tuple(problems)
        head = f"{source} cannot be used:" if source else "the configuration cannot be used:"
        lines = [head, *(f"  - {problem}" for problem in self.problems)]
        super().__init__("\n".join(lines), EXIT_CONFIG)


ErrorKind: TypeAlias = Literal[
    "invalid", "not_found", "conflict", "denied", "unavailable", "failed"
]
"""Why an operation failed, in this order: an argument cannot be used; the list, item or job is
unknown; its present state forbids the operation; a server refuses the login; a server does not
answer; a server refused a command.
"""


class OperationError(ConserverError):
    """An operation failed. Commands map `kind` to exit codes, the HTTP API to status codes."""

    def __init__(self, message: str, kind: ErrorKind) -> None:
        super().__init__(message)
        self.kind = kind


class InvalidArgumentError(OperationError):
    """An argument of an operation cannot be used.

    `argument` is the parameter's name. It replaces the first "{}" in `text`, because commands and
    the HTTP API write the name differently (`--reason`, `reason`).
    """

    def __init__(self, argument: str, text: str) -> None:
        super().__init__(text.replace("{}", argument, 1), "invalid")
        self.argument = argument
        self._text = text

    def named(self, name: str) -> str:
        """The message with the argument under the name `name`."""
        return self._text.replace("{}", name, 1)


class Filtered(ConserverError):
    """Raised by a link: stops the chain, as `return None` does. The log shows the reason.

    As with `return None`, the link's changes, pushes and expiry are kept.
    """

    def __init__(self, reason: str = "") -> None:
        super().__init__(reason)
        self.reason = reason


class Retry(ConserverError):
    """Raised by a link: run the item again after `after_s` seconds; None: the chain's backoff."""

    def __init__(
        self, after_s: float | None = None, reason: str = "the link asked for a retry"
    ) -> None:
        super().__init__(reason)
        self.after_s = after_s


def with_type(kind: str, text: str) -> str:
    """An exception's text. If the text is one word, its type stands before: `KeyError: 'nope'`."""
    clear = " " in text or kind in ("", "Rejected", "Retry") or text.startswith(kind)
    return text if clear else f"{kind}: {text}".rstrip(": ")


class Rejected(ConserverError):
    """This item can never succeed: it is dead-lettered with `reason`, without another attempt."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Cancelled(ConserverError):
    """An operator has cancelled the item. Raised inside a link, by its context."""

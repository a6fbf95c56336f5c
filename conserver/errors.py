"""The exceptions that Conserver raises on purpose, as one tree, and its exit codes.

    ConserverError
    ├── BootError             the process cannot start; carries its exit code
    │   └── ConfigError       the configuration is wrong; lists every problem found
    ├── OperationError        what an operator asked for cannot be done; says of which kind that is
    │   └── InvalidArgumentError  an argument of it cannot be used
    ├── Filtered              a link stops the chain: the item is neither stored nor passed on
    ├── Retry                 a link asks for another attempt later
    ├── Rejected              a link or we ourselves: this item can never succeed; dead-letter it
    └── Cancelled             an operator has cancelled the item that runs

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
"""Of a transcriber whose device computes something else than at first."""
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
"""Why an operation cannot be done: an argument cannot be used; there is no such thing; what is
there now forbids it; a server refuses our login; a server does not answer; a server refused a
command.
"""


class OperationError(ConserverError):
    """An operation that cannot be done. Each face (command, HTTP API) has its codes for `kind`."""

    def __init__(self, message: str, kind: ErrorKind) -> None:
        super().__init__(message)
        self.kind = kind


class InvalidArgumentError(OperationError):
    """An argument of an operation cannot be used.

    `argument` is the parameter's name. In `text`, the first "{}" stands for it, because each face
    has its own name for it (`--reason`, `reason`).
    """

    def __init__(self, argument: str, text: str) -> None:
        super().__init__(text.replace("{}", argument, 1), "invalid")
        self.argument = argument
        self._text = text

    def named(self, name: str) -> str:
        """The message with the argument under the name `name`."""
        return self._text.replace("{}", name, 1)


class Filtered(ConserverError):
    """Raised by a link: stop here, as `return None` does, for a reason that the log then tells.

    What the link has changed, pushed and asked for until then is kept, as with `return None`.
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
    """An exception's text, with its type before a text of one word: `KeyError: 'nope'`."""
    clear = " " in text or kind in ("", "Rejected", "Retry") or text.startswith(kind)
    return text if clear else f"{kind}: {text}".rstrip(": ")


class Rejected(ConserverError):
    """This item can never succeed: it is dead-lettered with `reason`, without another attempt."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Cancelled(ConserverError):
    """An operator has cancelled the item. Raised inside a link, by its context."""

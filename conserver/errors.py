"""Every error that Conserver raises on purpose, as one tree.

    ConserverError
    ├── BootError             the daemon cannot start; carries its exit code
    │   └── ConfigError       the configuration is wrong; lists every problem found
    ├── Retry                 a link asks for another attempt later
    ├── Rejected              this item can never succeed: dead-lettered at once, with the reason
    └── Cancelled             an operator cancelled the item while it ran

Messages are for the person who reads them at night: what happened, where, what to do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

EXIT_FAILURE = 1
EXIT_USAGE = 2
EXIT_UNAVAILABLE = 69
EXIT_CHILD = 70
EXIT_CONFIG = 78


class ConserverError(Exception):
    """The root: `except ConserverError` catches what we raise and nothing else."""


class BootError(ConserverError):
    """The daemon cannot start and a restart would not help; `exit_code` follows sysexits(3)."""

    def __init__(self, message: str, exit_code: int = EXIT_CHILD) -> None:
        super().__init__(message)
        self.exit_code = exit_code


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong in a configuration: where, what, and how to mend it."""

    path: str
    message: str
    hint: str = ""

    def __str__(self) -> str:
        text = f"{self.path}: {self.message}" if self.path else self.message
        return f"{text} ({self.hint})" if self.hint else text


class ConfigError(BootError):
    """The configuration cannot be used. `problems` holds every fault, never only the first."""

    def __init__(self, problems: Sequence[Problem], source: str = "") -> None:
        self.problems = tuple(problems)
        head = f"{source} cannot be used:" if source else "the configuration cannot be used:"
        lines = [head, *(f"  - {problem}" for problem in self.problems)]
        super().__init__("\n".join(lines), EXIT_CONFIG)


class Retry(ConserverError):
    """A link wants another attempt: after `after_s` seconds, else as the chain says."""

    def __init__(
        self, after_s: float | None = None, reason: str = "the link asked for a retry"
    ) -> None:
        super().__init__(reason)
        self.after_s = after_s


class Rejected(ConserverError):
    """This item can never succeed. It becomes a dead letter with `reason`, without further
    attempts.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Cancelled(ConserverError):
    """An operator cancelled the item; it ends at the next edge between links."""

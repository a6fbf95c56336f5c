"""The environment, with secrets from files.

Where NAME is not set and NAME_FILE is, the value of NAME is what that file holds, without the line
break at its end: the convention of Docker's and Kubernetes' mounted secrets. So no password has to
stand in a compose file, an environment or an image. A file is read when its variable is asked for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from conserver.errors import ConfigError, Problem

SUFFIX = "_FILE"


class Environment(Mapping[str, str]):
    """A mapping over `environ` (os.environ in the daemon) in which NAME_FILE stands for NAME."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ

    def __getitem__(self, name: str) -> str:
        """The variable, or what its file holds.

        Raises:
            KeyError: there is neither.
            ConfigError: the file cannot be read.
        """
        if name in self._environ or not self._environ.get(name + SUFFIX):
            return self._environ[name]
        path = self._environ[name + SUFFIX]
        try:
            return Path(path).read_text(encoding="utf-8").rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            what = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
            problem = Problem(name + SUFFIX, f"`{path}` cannot be read: {what}")
            raise ConfigError([problem], "the environment") from None

    def __contains__(self, name: object) -> bool:
        """Whether the variable or its file is named; the file is not read for this."""
        return name in self._environ or bool(self._environ.get(f"{name}{SUFFIX}"))

    def __iter__(self) -> Iterator[str]:
        """The names that are set; a secret's own name is not among them."""
        return iter(self._environ)

    def __len__(self) -> int:
        """How many variables are set."""
        return len(self._environ)

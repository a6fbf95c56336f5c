"""Environment variables whose values may come from files, for secrets.

If NAME is not set (or empty) and NAME_FILE is set, the value of NAME is the content of that file
without the line break at its end. If both are set, reading NAME is an error. Docker and Kubernetes
mount secrets by this convention, so that no password has to be in a compose file, an environment or
an image. The file is read each time the variable is read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from conserver.errors import ConfigError, Problem

SUFFIX = "_FILE"
OWN_FILES = frozenset(
    f"CONSERVER_{name}{SUFFIX}" for name in ("CONFIG", "API_TOKEN", "API_TOKENS", "WEBHOOK_SECRET")
)
"""Settings whose names end with _FILE, too. They are not files with the value of NAME."""


class Environment(Mapping[str, str]):
    """A mapping over `environ` (os.environ in the daemon) that reads NAME from NAME_FILE, too."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ

    def __getitem__(self, name: str) -> str:
        """The value of the variable, or the content of its file.

        Raises:
            KeyError: neither NAME nor NAME_FILE is set.
            ConfigError: the file cannot be read, or both are set.
        """
        path = self._file_of(name)
        if not path:
            return self._environ[name]
        if self._environ.get(name):
            problem = Problem(name + SUFFIX, f"{name} is set as well", "unset one of the two")
            raise ConfigError([problem], "the environment")
        try:
            return Path(path).read_text(encoding="utf-8").rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            what = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
            problem = Problem(name + SUFFIX, f"`{path}` cannot be read: {what}")
            raise ConfigError([problem], "the environment") from None

    def _file_of(self, name: str) -> str:
        """The path of the file with a variable's value; "" if NAME_FILE is not set."""
        return "" if name + SUFFIX in OWN_FILES else self._environ.get(name + SUFFIX, "")

    def __contains__(self, name: object) -> bool:
        """Whether the variable or the variable of its file is set. Does not read the file."""
        return name in self._environ or bool(self._file_of(str(name)))

    def __iter__(self) -> Iterator[str]:
        """The names of all variables that are set. If only NAME_FILE is set, NAME is missing."""
        return iter(self._environ)

    def __len__(self) -> int:
        """The number of variables that are set."""
        return len(self._environ)

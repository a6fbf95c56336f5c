"""Environment variables whose values may come from files, for secrets.

If NAME is not set and NAME_FILE is, the value of NAME is the content of that file without the line
break at its end. This is the convention for secrets mounted by Docker and Kubernetes; with it, no
password has to be in a compose file, an environment or an image. A file is read each time its
variable is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from conserver.errors import ConfigError, Problem

SUFFIX = "_FILE"


class Environment(Mapping[str, str]):
    """A mapping over `environ` (os.environ in the daemon) that reads NAME from NAME_FILE, too."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ

    def __getitem__(self, name: str) -> str:
        """The value of the variable, or the content of its file.

        Raises:
            KeyError: neither is set.
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
        """Whether the variable or the variable of its file is set. Does not read the file."""
        return name in self._environ or bool(self._environ.get(f"{name}{SUFFIX}"))

    def __iter__(self) -> Iterator[str]:
        """The names of all variables that are set; NAME is not among them if only NAME_FILE is."""
        return iter(self._environ)

    def __len__(self) -> int:
        """The number of variables that are set."""
        return len(self._environ)

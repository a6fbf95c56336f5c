"""A server as a container of a Docker engine.

The container is kept while its server is stopped, so that a second start finds the same data on
the same port.
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from servers.guard import GUARD
from servers.packages import Missing

if TYPE_CHECKING:
    from servers.base import Image

_COMMAND_TIMEOUT_S = 60
_FIRST_RUN_TIMEOUT_S = 600


class Container:
    """One container, published on one loopback port."""

    def __init__(
        self, name: str, image: Image, port: int, log_file: Path, *, guarded: bool
    ) -> None:
        self.name = name
        self._image = image
        self._port = port
        self._log_file = log_file
        self._guarded = guarded
        self._made = False

    @property
    def pid(self) -> int:
        return int(_docker("inspect", "--format", "{{.State.Pid}}", self.name))

    def launch(self) -> None:
        if self._made:
            _docker("start", self.name)
            return
        image = self._image
        environment = [f"--env={name}={value}" for name, value in image.environment.items()]
        try:
            _docker(
                "run",
                "--detach",
                f"--name={self.name}",
                f"--publish=127.0.0.1:{self._port}:{image.port}",
                "--label=conserver-test",
                *environment,
                image.name,
                *image.arguments,
                timeout_s=_FIRST_RUN_TIMEOUT_S,
            )
        except subprocess.CalledProcessError as error:
            reason = str(error.stderr).strip()
            raise Missing(f"docker cannot run {image.name}: {reason}") from error
        self._made = True
        if self._guarded:
            GUARD.watch("container", self.name)

    def alive(self) -> bool:
        if not self._made:
            return False
        running = container_runs(self.name)
        if not running:
            self._log_file.write_text(_docker("logs", self.name, keep_errors=True))
        return running

    def stop(self, timeout_s: float) -> None:
        if self._paused():
            self.resume()
        _docker("stop", f"--time={timeout_s:.0f}", self.name, timeout_s=timeout_s + 30)

    def kill(self) -> None:
        if self.alive():
            _docker("kill", self.name)

    def pause(self) -> None:
        _docker("pause", self.name)

    def resume(self) -> None:
        _docker("unpause", self.name)

    def discard(self) -> None:
        if not self._made:
            return
        _docker("rm", "--force", "--volumes", self.name)
        self._made = False
        if self._guarded:
            GUARD.forget("container", self.name)

    def _paused(self) -> bool:
        return _docker("inspect", "--format", "{{.State.Paused}}", self.name) == "true"


def container_runs(name: str) -> bool:
    """Whether there is a container of that name and it runs (paused counts as running)."""
    command = ["docker", "inspect", "--format", "{{.State.Running}}", name]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=_COMMAND_TIMEOUT_S, check=False
    )
    return done.stdout.strip() == "true"


def _docker(
    *arguments: str, timeout_s: float = _COMMAND_TIMEOUT_S, keep_errors: bool = False
) -> str:
    """Run a docker command and give what it printed; raises CalledProcessError."""
    done = subprocess.run(
        ["docker", *arguments], capture_output=True, text=True, check=True, timeout=timeout_s
    )
    return (done.stdout + (done.stderr if keep_errors else "")).strip()

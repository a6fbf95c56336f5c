"""The servers that scripts/services has started and that go on without it.

One small file per kind in the cache folder says where a server is and how to recognise it, so
that another run finds it, and stop() ends that process and no other.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path

from servers.base import Server
from servers.container import Container, container_runs
from servers.packages import cache_folder
from servers.tree import birth_of, kill_tree


@dataclass(frozen=True)
class Running:
    """A server that somebody started: what clients need, and what stop() needs."""

    kind: str
    settings: dict[str, str]
    folder: str
    pid: int
    birth: int | None
    container: str | None

    @property
    def alive(self) -> bool:
        """Whether that very process or container is still there."""
        if self.container is not None:
            return container_runs(self.container)
        return self.birth is not None and birth_of(self.pid) == self.birth


def variable(kind: str, name: str) -> str:
    """The environment variable of one setting of a kind: CONSERVER_TEST_S3_URL."""
    return f"CONSERVER_TEST_{kind.upper()}_{name}"


def given(kind: str) -> dict[str, str] | None:
    """The settings of a server that the environment points to; None if it does not."""
    prefix = variable(kind, "")
    found = {
        name.removeprefix(prefix): value
        for name, value in os.environ.items()
        if name.startswith(prefix) and value
    }
    return found if "URL" in found else None


def find(kind: str) -> Running | None:
    """The server of a kind that was started here and still runs."""
    try:
        known = Running(**json.loads(_file(kind).read_text()))
    except (OSError, ValueError, TypeError):
        return None
    return known if known.alive else None


def remember(server: Server) -> Running:
    """Note a server, started with outlive=True, for later runs."""
    life = server.life
    known = Running(
        kind=server.kind,
        settings=server.settings(),
        folder=str(server.folder),
        pid=life.pid,
        birth=birth_of(life.pid),
        container=life.name if isinstance(life, Container) else None,
    )
    file = _file(server.kind)
    _sweep(file)
    file.parent.mkdir(parents=True, exist_ok=True)
    fresh = file.with_suffix(".new")
    fresh.write_text(json.dumps(asdict(known), indent=1))
    fresh.rename(file)
    return known


def stop(known: Running) -> None:
    """End it and delete its data: these are tests' servers."""
    if known.container is not None:
        command = ["docker", "rm", "--force", "--volumes", known.container]
        subprocess.run(command, check=False, capture_output=True, timeout=60)
    elif known.alive:
        kill_tree(known.pid)
    shutil.rmtree(known.folder, ignore_errors=True)
    _file(known.kind).unlink(missing_ok=True)


def _sweep(file: Path) -> None:
    """Delete the data of a server that was noted here and is gone, with its machine perhaps."""
    try:
        shutil.rmtree(json.loads(file.read_text())["folder"], ignore_errors=True)
    except (OSError, ValueError, KeyError):
        return


def _file(kind: str) -> Path:
    return cache_folder() / "running" / f"{kind}.json"

"""Servers in containers, with a stand-in for the docker command that keeps an account."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from servers import KINDS
from servers.container import Container

STAND_IN = """\
#!/bin/sh
# Remembers in files what runs, and every command line.
cd "$(dirname "$0")"
echo "$@" >>account
case "$1" in
    run) touch made running ;;
    start) [ -e made ] && touch running ;;
    stop | kill) rm running ;;
    rm) rm -f made running ;;
    inspect)
        case "$3" in
            *Running*) [ -e running ] && echo true || echo false ;;
            *) echo 7 ;;
        esac
        ;;
    logs) echo "what the server said" ;;
esac
"""


@pytest.fixture
def account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    docker = tmp_path / "docker"
    docker.write_text(STAND_IN)
    docker.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return tmp_path / "account"


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_a_container_is_made_once_and_started_again_with_its_data(
    kind: str, account: Path, tmp_path: Path
) -> None:
    server = KINDS[kind](port=7000, folder=tmp_path / "server", outlive=True)
    image = server.image()
    container = Container("a-name", image, server.port, server.log_file, guarded=False)

    container.launch()
    assert container.alive()
    assert container.pid == 7
    container.stop(timeout_s=3)
    assert not container.alive()
    assert server.log_file.read_text() == "what the server said"
    container.launch()
    container.pause()
    container.resume()
    container.kill()
    container.discard()

    words = [line.split() for line in account.read_text().splitlines()]
    done = [line[0] for line in words if line[0] not in ("inspect", "logs")]
    assert done == ["run", "stop", "start", "pause", "unpause", "kill", "rm"]
    run = words[0]
    assert f"--publish=127.0.0.1:7000:{image.port}" in run
    assert run[run.index(image.name) + 1 :] == " ".join(image.arguments).split()

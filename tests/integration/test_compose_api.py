"""The service `api` of docker-compose.yml: its command, environment and health check, run as they
stand there, with the user of Redis that it gets.
"""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from servers import Redis

from tests.clients import http_client
from tests.daemon import vcon
from tests.helpers import LONG_S, eventually, free_port

ROOT = Path(__file__).parents[2]
TOKEN = "cv_" + "t" * 43
GIVEN = re.compile(r"\$\{\w+:-(.*?)\}")


class Service:
    """One service of the compose file, on this machine: another port, secrets in another folder."""

    def __init__(self, folder: Path, redis_url: str, **given: str) -> None:
        service = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]["api"]
        self.port = free_port()
        self.service = service
        secrets = folder / "secrets"
        (secrets / "redis_url").write_text(redis_url)
        self.environment = {
            name: given.get(name, GIVEN.sub(r"\1", str(value))).replace(
                "/run/secrets", str(secrets)
            )
            for name, value in service["environment"].items()
        }
        self.environment["PATH"] = "/usr/bin:/bin"
        self.environment["PYTHONPATH"] = str(ROOT)
        self.environment["CONSERVER_CONFIG_FILE"] = str(ROOT / "scripts" / "docker" / "config.yml")
        self.data = folder / "data"
        self.data.mkdir(exist_ok=True)

    def words(self, told: list[str]) -> list[str]:
        return [word.replace("8000", str(self.port)) for word in told]

    @contextmanager
    def running(self) -> Iterator[subprocess.Popen[bytes]]:
        with (self.data / "log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "conserver", *self.words(self.service["command"])],
                cwd=self.data,
                env=self.environment,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        try:
            yield process
        finally:
            process.kill()
            process.wait()

    def is_healthy(self) -> bool:
        """What the engine asks, in the same words."""
        kind, program, *words = self.service["healthcheck"]["test"]
        assert (kind, program) == ("CMD", "python")
        timeout_s = float(self.service["healthcheck"]["timeout"].rstrip("s"))
        done = subprocess.run(
            [sys.executable, *self.words(words)],
            check=False,
            env=self.environment,
            capture_output=True,
            timeout=timeout_s * 4,
        )
        return done.returncode == 0


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the secrets that the script makes."""
    (tmp_path / "scripts").mkdir()
    shutil.copy(ROOT / "scripts" / "make-secrets", tmp_path / "scripts")
    script = str(tmp_path / "scripts" / "make-secrets")
    subprocess.run(["sh", script], check=True, capture_output=True)
    return tmp_path


@pytest.fixture
def server(folder: Path, private: Callable[[Redis], Redis]) -> Redis:
    """Redis with the users that the secrets name."""
    return private(Redis({"aclfile": str(folder / "secrets" / "redis_acl")}))


def url(folder: Path, server: Redis) -> str:
    password = (folder / "secrets" / "redis_password").read_text().strip()
    return server.url.replace("redis://", f"redis://conserver:{password}@")


def test_it_serves_within_its_limits_and_drains(folder: Path, server: Redis) -> None:
    service = Service(folder, url(folder, server), CONSERVER_API_TOKEN=TOKEN)
    with service.running() as process:
        eventually(service.is_healthy, LONG_S)
        headers = {"authorization": f"Bearer {TOKEN}"}
        with http_client(f"http://127.0.0.1:{service.port}", headers=headers, timeout=60) as web:
            answer = web.post("/v1/vcons", params={"list": "inbox"}, json=vcon(), timeout=LONG_S)
            assert answer.status_code == 202, answer.text
            assert web.get("/v1/lists/inbox").json()["queued"] == 1
            assert web.get("/v1/lists", headers={"authorization": ""}).status_code == 401
        limit = service.service["deploy"]["resources"]["limits"]["memory"]
        assert GIVEN.sub(r"\1", limit) == "512m"
        assert _peak_mib(process.pid) < 256, "half of its limit"
        began_s = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(LONG_S * 4) == 0
        grace_s = float(service.service["stop_grace_period"].rstrip("s"))
        assert time.monotonic() - began_s < grace_s
        assert not service.is_healthy()


def test_it_is_unhealthy_while_redis_is_away(folder: Path, server: Redis) -> None:
    service = Service(folder, url(folder, server), CONSERVER_API_TOKEN=TOKEN)
    with service.running():
        eventually(service.is_healthy, LONG_S)
        server.stop()
        eventually(lambda: not service.is_healthy(), LONG_S)
        server.start()
        eventually(service.is_healthy, LONG_S)


def test_without_a_token_it_answers_inside_its_container_only(folder: Path, server: Redis) -> None:
    service = Service(folder, url(folder, server))
    assert service.environment["CONSERVER_API_TOKEN"] == ""
    with service.running():
        eventually(service.is_healthy, LONG_S)
        assert "api_serves_loopback_only" in (service.data / "log").read_text()


def _peak_mib(pid: int) -> int:
    status: dict[str, Any] = dict(
        line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines()
    )
    return int(status["VmHWM"].split()[0]) // 1024

"""`conserver run` against a Redis that accepts only TLS with client certificates."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from servers import Redis, ServerFailed
from servers.packages import docker_works

from conserver.errors import EXIT_UNAVAILABLE
from conserver.queue import clients as connection
from tests.conftest import Private, absent
from tests.daemon import Daemon, elements, push, vcon
from tests.helpers import free_port

CONFIG = {
    "links": {"tag": {"module": "conserver.links.tag", "options": {"tags": ["seen"]}}},
    "chains": {"main": {"links": ["tag"], "ingress_lists": ["in"], "egress_lists": ["out"]}},
}


def certify(folder: Path, name: str, issuer: str = "") -> None:
    """Make <name>.pem and <name>.key, self-signed or signed by `issuer`."""
    words = f"openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN={name}"
    words += f" -addext subjectAltName=DNS:localhost -keyout {name}.key -out {name}.pem"
    if issuer:
        words += f" -CA {issuer}.pem -CAkey {issuer}.key"
    subprocess.run(words.split(), cwd=folder, check=True, capture_output=True)
    (folder / f"{name}.key").chmod(0o644)


@pytest.fixture
def url(private: Private, tmp_path: Path) -> str:
    """The URL of such a Redis, with the options that it requires; the files are in tmp_path."""
    if docker_works():
        pytest.skip("a container's Redis cannot read the certificates of this machine")
    if shutil.which("openssl") is None:
        absent("openssl, which makes the certificates, is not installed")
    certify(tmp_path, "ca")
    for name in ("server", "client"):
        certify(tmp_path, name, "ca")
    certify(tmp_path, "stranger")
    port = free_port()
    files = {"cert-file": "server.pem", "key-file": "server.key", "ca-cert-file": "ca.pem"}
    options = {f"tls-{name}": str(tmp_path / file) for name, file in files.items()}
    try:
        private(Redis({"tls-port": str(port), "tls-auth-clients": "yes", **options}))
    except ServerFailed:
        absent("this Redis was built without TLS")
    return (
        f"rediss://localhost:{port}?ssl_ca_certs={tmp_path}/ca.pem"
        f"&ssl_certfile={tmp_path}/client.pem&ssl_keyfile={tmp_path}/client.key"
    )


def test_items_pass_through_it(url: str, tmp_path: Path) -> None:
    with Daemon(tmp_path / "host", url, CONFIG) as daemon, connection.client(url) as client:
        uuids = push(client, "in", [vcon() for _ in range(20)])
        daemon.until(lambda: sorted(elements(client, "out")) == sorted(uuids))
        assert daemon.stop() == 0


@pytest.mark.parametrize("flaw", ["its CA is not known", "no certificate of ours"])
def test_a_daemon_without_the_right_certificates_does_not_start(
    url: str, tmp_path: Path, flaw: str
) -> None:
    if flaw == "its CA is not known":
        wrong = url.replace("/ca.pem", "/stranger.pem")
    else:
        wrong = url.partition("&")[0]
    daemon = Daemon(tmp_path / "host", wrong, CONFIG, CONSERVER_BOOT_TIMEOUT_S="1").launch()
    try:
        assert daemon.wait(20) == EXIT_UNAVAILABLE
        [failed] = daemon.events("boot_failed")
        assert "certificate" in failed["reason"].lower()
    finally:
        daemon.destroy()

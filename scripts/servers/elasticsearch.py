"""Elasticsearch: one node, small, from the minimal distribution that Elastic makes for tests.

It has no data streams, ingest processors, API keys or answer to `GET /` (405), which the full
product has.
"""

from __future__ import annotations

import base64
import os
import subprocess
import urllib.error
import urllib.request
from pathlib import Path

from servers.base import Image, Plan, Server, ServerFailed
from servers.packages import ELASTICSEARCH_VERSION, elasticsearch_home, java_home
from servers.ports import free_port
from servers.process import as_user, give

_ANSWER_TIMEOUT_S = 2
_KEYSTORE_TIMEOUT_S = 60
_IN_CONTAINER_PORT = 9200
# It refuses root; Debian's nobody is there on every machine.
_USER = "nobody"
# A node that lives for minutes is better off with the quick compiler, and without the check of all
# its classes, which takes a seventh of a start's CPU. Its temporary directory must not be the
# system's, which holds its configuration: its own sandbox would refuse that.
_JVM_OPTIONS = """\
-Djava.io.tmpdir=${ES_TMPDIR}
-XX:+UseSerialGC
-XX:TieredStopAtLevel=1
-XX:+ExitOnOutOfMemoryError
-XX:+IgnoreUnrecognizedVMOptions
-XX:+UnlockDiagnosticVMOptions
-XX:-BytecodeVerificationRemote
"""


class Elasticsearch(Server):
    """One node. With a `password`, requests need basic authentication as user `elastic`."""

    kind = "elasticsearch"
    start_timeout_s = 120

    def __init__(
        self,
        *,
        password: str | None = None,
        heap_mb: int = 512,
        port: int | None = None,
        folder: Path | None = None,
        outlive: bool = False,
    ) -> None:
        super().__init__(port=port, folder=folder, outlive=outlive)
        self.password = password
        self.heap_mb = heap_mb

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def plan(self) -> Plan:
        home = elasticsearch_home()
        environment = self._environment()
        if not (self.folder / "config").exists():
            self._configure(home, environment)
        command = [str(home / "bin/elasticsearch")]
        return Plan(command, user=_USER, environment=environment)

    def image(self) -> Image:
        environment = {
            "discovery.type": "single-node",
            "ES_JAVA_OPTS": f"-Xms{self.heap_mb}m -Xmx{self.heap_mb}m",
            "cluster.routing.allocation.disk.threshold_enabled": "false",
            "xpack.security.enabled": "true" if self.password else "false",
            "xpack.security.http.ssl.enabled": "false",
        }
        if self.password:
            environment["ELASTIC_PASSWORD"] = self.password
        name = f"elasticsearch:{ELASTICSEARCH_VERSION}"
        return Image(name, _IN_CONTAINER_PORT, [], environment)

    def answers(self) -> bool:
        request = urllib.request.Request(f"{self.url}/_cluster/health")
        if self.password:
            pair = base64.b64encode(f"elastic:{self.password}".encode()).decode()
            request.add_header("Authorization", f"Basic {pair}")
        try:
            with urllib.request.urlopen(request, timeout=_ANSWER_TIMEOUT_S) as answer:
                return b'"status":"red"' not in answer.read()
        except urllib.error.HTTPError as error:
            error.close()
            return False
        except OSError:
            return False

    def _environment(self) -> dict[str, str]:
        heap = f"-Xms{self.heap_mb}m -Xmx{self.heap_mb}m"
        return {
            "ES_JAVA_HOME": str(java_home()),
            "ES_JAVA_OPTS": heap,
            "ES_PATH_CONF": str(self.folder / "config"),
            "ES_TMPDIR": str(self.folder / "tmp"),
            # Of the programs that only start and configure the node.
            "CLI_JAVA_OPTS": "-Xms16m -Xmx64m -XX:+UseSerialGC -XX:TieredStopAtLevel=1",
        }

    def _configure(self, home: Path, environment: dict[str, str]) -> None:
        """A configuration of its own: the distribution is shared by all nodes and not written."""
        config = self.folder / "config"
        for name in ("config", "data", "logs", "tmp"):
            (self.folder / name).mkdir()
        for name in ("log4j2.properties", "role_mapping.yml", "roles.yml", "users", "users_roles"):
            (config / name).write_bytes((home / "config" / name).read_bytes())
        (config / "jvm.options").write_text(_JVM_OPTIONS)
        settings = {
            "cluster.name": f"conserver-test-{self.port}",
            "path.data": str(self.folder / "data"),
            "path.logs": str(self.folder / "logs"),
            "network.host": "127.0.0.1",
            "http.port": str(self.port),
            "transport.port": str(free_port()),
            "discovery.type": "single-node",
            # A developer's disk is often fuller than a node would have it.
            "cluster.routing.allocation.disk.threshold_enabled": "false",
            "xpack.security.enabled": "true" if self.password else "false",
            "xpack.security.http.ssl.enabled": "false",
        }
        lines = [f"{name}: {value}\n" for name, value in settings.items()]
        (config / "elasticsearch.yml").write_text("".join(lines))
        give(self.folder, _USER)
        if self.password:
            self._set_password(home, environment)

    def _set_password(self, home: Path, environment: dict[str, str]) -> None:
        keystore = str(home / "bin/elasticsearch-keystore")
        for words in (["create"], ["add", "--stdin", "bootstrap.password"]):
            done = subprocess.run(
                [*as_user(_USER), keystore, *words],
                input=self.password,
                env={"PATH": os.environ.get("PATH", os.defpath)} | environment,
                cwd=self.folder,
                capture_output=True,
                text=True,
                timeout=_KEYSTORE_TIMEOUT_S,
                check=False,
            )
            if done.returncode != 0:
                raise ServerFailed(f"elasticsearch-keystore failed:\n{done.stdout}{done.stderr}")

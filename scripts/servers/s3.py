"""S3, spoken by versitygw over a folder: signatures, checksums and conditional puts are checked."""

from __future__ import annotations

import os
import urllib.error
import urllib.request
from pathlib import Path

from servers.base import Image, Plan, Server
from servers.packages import VERSITYGW_VERSION, versitygw_program

_ANSWER_TIMEOUT_S = 1
_IN_CONTAINER_PORT = 7070


class S3(Server):
    """An S3 endpoint with one account and path-style addresses."""

    kind = "s3"
    key = "conserver"
    secret = "conserver-secret"
    region = "us-east-1"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def plan(self) -> Plan:
        data = self.folder / "buckets"
        data.mkdir(exist_ok=True)
        command = [str(versitygw_program()), "--port", f"127.0.0.1:{self.port}"]
        command += ["--region", self.region, "--keep-alive", "--quiet", "posix"]
        if not _keeps_attributes(data):
            sidecar = self.folder / "attributes"
            sidecar.mkdir(exist_ok=True)
            command += ["--sidecar", str(sidecar)]
        return Plan([*command, str(data)], environment=self._account())

    def image(self) -> Image:
        command = ["--port", f":{_IN_CONTAINER_PORT}", "--region", self.region, "--keep-alive"]
        command += ["--quiet", "posix", "/tmp"]
        name = f"versity/versitygw:{VERSITYGW_VERSION}"
        return Image(name, _IN_CONTAINER_PORT, command, self._account())

    def answers(self) -> bool:
        try:
            with urllib.request.urlopen(self.url, timeout=_ANSWER_TIMEOUT_S):
                return True
        except urllib.error.HTTPError as refused:
            # An unsigned request is refused by a server that works.
            refused.close()
            return refused.code < 500
        except OSError:
            return False

    def settings(self) -> dict[str, str]:
        return {"URL": self.url, "KEY": self.key, "SECRET": self.secret, "REGION": self.region}

    def _account(self) -> dict[str, str]:
        return {"ROOT_ACCESS_KEY": self.key, "ROOT_SECRET_KEY": self.secret}


def _keeps_attributes(folder: Path) -> bool:
    """Whether the file system has the extended attributes that versitygw keeps metadata in."""
    try:
        os.setxattr(folder, "user.conserver", b"1")
        os.removexattr(folder, "user.conserver")
    except OSError:
        return False
    return True

"""What this machine has: a Docker engine, installed programs, and the cache of downloads.

Everything here only looks. install.py brings what is missing, and is run by scripts/services.
"""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
from pathlib import Path

VERSITYGW_VERSION = "v1.8.0"
ELASTICSEARCH_VERSION = "8.19.0"
# Elasticsearch 8 was made for these; a later Java may do, and is taken only for want of them.
_JAVA_OF_8 = range(17, 22)
_JAVA_OF_9 = range(21, 26)
_DOCKER_TIMEOUT_S = 10


class Missing(RuntimeError):
    """This machine has no such server. The text says what to do about it."""


@functools.cache
def docker_works() -> bool:
    """Whether servers come from Docker: an engine answers, and nothing says otherwise.

    CONSERVER_TEST_SERVERS=packages keeps Docker out, =docker insists on it.
    """
    wish = os.environ.get("CONSERVER_TEST_SERVERS", "")
    if wish not in ("", "docker", "packages"):
        raise ValueError(f"CONSERVER_TEST_SERVERS is docker or packages, not {wish!r}")
    if wish == "packages" or (not wish and shutil.which("docker") is None):
        return False
    try:
        command = ["docker", "info", "--format", "{{.ServerVersion}}"]
        done = subprocess.run(command, capture_output=True, timeout=_DOCKER_TIMEOUT_S, check=False)
        works = done.returncode == 0 and bool(done.stdout.strip())
    except (OSError, subprocess.TimeoutExpired):
        works = False
    if wish == "docker" and not works:
        raise Missing("CONSERVER_TEST_SERVERS=docker, but no Docker engine answers")
    return works


def cache_folder() -> Path:
    """Where downloads are kept between runs.

    Root's own cache is not readable by the users that PostgreSQL and Elasticsearch run as, hence
    the system's one for root.
    """
    base = os.environ.get("XDG_CACHE_HOME")
    if base is None:
        base = "/var/cache" if os.geteuid() == 0 else str(Path.home() / ".cache")
    return Path(base) / "conserver-services"


def chosen(kind: str) -> Path | None:
    """What CONSERVER_TEST_<KIND>_PROGRAM names instead of this machine's own, for another version.

    Of redis the program, of postgres the folder of its programs, of elasticsearch the folder that
    it was unpacked into.
    """
    text = os.environ.get(f"CONSERVER_TEST_{kind.upper()}_PROGRAM")
    return Path(text) if text else None


def redis_program() -> Path:
    """The redis-server (or valkey-server) to run. Raises Missing."""
    if other := chosen("redis"):
        return other
    for name in ("redis-server", "valkey-server"):
        found = shutil.which(name)
        if found:
            return Path(found)
    raise _missing("redis", "redis-server is not installed")


def postgres_folder() -> Path:
    """The folder with initdb and postgres, newest version first. Raises Missing."""
    if other := chosen("postgres"):
        return other
    versions = Path("/usr/lib/postgresql").glob("*/bin")
    candidates = sorted(versions, key=lambda path: -_number(path.parent.name))
    on_path = shutil.which("initdb")
    if on_path:
        candidates.append(Path(on_path).resolve().parent)
    for folder in candidates:
        if (folder / "initdb").exists() and (folder / "postgres").exists():
            return folder
    raise _missing("postgres", "PostgreSQL is not installed")


def versitygw_program() -> Path:
    """The S3 server. Raises Missing."""
    program = cache_folder() / f"versitygw-{VERSITYGW_VERSION}" / "versitygw"
    if program.exists():
        return program
    raise _missing("s3", f"versitygw {VERSITYGW_VERSION} has not been built")


def elasticsearch_home() -> Path:
    """The unpacked Elasticsearch. Raises Missing."""
    if other := chosen("elasticsearch"):
        return other
    home = cache_folder() / f"elasticsearch-{ELASTICSEARCH_VERSION}"
    if home.exists():
        return home
    raise _missing("elasticsearch", f"Elasticsearch {ELASTICSEARCH_VERSION} was not downloaded")


def java_home() -> Path:
    """The Java that Elasticsearch runs on. Raises Missing."""
    homes = [Path(os.environ["JAVA_HOME"])] if os.environ.get("JAVA_HOME") else []
    homes += sorted(Path("/usr/lib/jvm").glob("*"))
    on_path = shutil.which("java")
    if on_path:
        homes.append(Path(on_path).resolve().parent.parent)
    versions = {home: _java_version(home) for home in homes if (home / "bin/java").exists()}
    other = chosen("elasticsearch")
    made_for = _JAVA_OF_9 if other and list(other.glob("lib/elasticsearch-9.*.jar")) else _JAVA_OF_8
    fit = [home for home, version in versions.items() if version >= made_for.start]
    if not fit:
        raise _missing("elasticsearch", f"there is no Java {made_for.start} or later")
    preferred = [home for home in fit if versions[home] in made_for]
    return (preferred or fit)[0]


def _java_version(home: Path) -> int:
    """A Java's major version from the file that every JDK and JRE carries; 0 if it has none."""
    try:
        text = (home / "release").read_text()
    except OSError:
        return 0
    found = re.search(r'JAVA_VERSION="(?:1\.)?(\d+)', text)
    return int(found[1]) if found else 0


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0


def _missing(kind: str, what: str) -> Missing:
    return Missing(f"{what}: run `scripts/services install {kind}`")

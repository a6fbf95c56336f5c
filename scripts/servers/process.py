"""A server as a process tree of this machine."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from servers.guard import GUARD
from servers.tree import birth_of, kill_tree, signal_tree, stop_tree

if TYPE_CHECKING:
    from servers.base import Plan

_KILL_TIMEOUT_S = 60


class ProcessTree:
    """Runs a Plan in a session of its own, as the plan's user where we are root."""

    def __init__(self, plan: Plan, folder: Path, log_file: Path, *, guarded: bool) -> None:
        self._plan = plan
        self._folder = folder
        self._log_file = log_file
        self._guarded = guarded
        self._process: subprocess.Popen[bytes] | None = None
        self._name = ""

    @property
    def pid(self) -> int:
        if self._process is None:
            raise RuntimeError("not launched")
        return self._process.pid

    def launch(self) -> None:
        environment = {"PATH": os.environ.get("PATH", os.defpath), "LANG": "C.UTF-8"}
        environment |= {"HOME": str(self._folder)} | self._plan.environment
        with self._log_file.open("ab") as log:
            self._process = subprocess.Popen(
                [*as_user(self._plan.user), *self._plan.command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self._folder,
                env=environment,
                start_new_session=True,
            )
        self._name = f"{self._process.pid} {birth_of(self._process.pid)}"
        if self._guarded:
            GUARD.watch("process", self._name)

    def alive(self) -> bool:
        if self._process is None or self._process.poll() is None:
            return self._process is not None
        if self._guarded:
            GUARD.forget("process", self._name)
        return False

    def stop(self, timeout_s: float) -> None:
        if not self.alive() or self._process is None:
            return
        self.resume()
        self._process.send_signal(self._plan.stop_signal)
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()
        self.alive()

    def kill(self) -> None:
        if self._process is not None and self.alive():
            kill_tree(self._process.pid)
            self._process.wait(_KILL_TIMEOUT_S)
            self.alive()

    def pause(self) -> None:
        stop_tree(self.pid)

    def resume(self) -> None:
        signal_tree(self.pid, signal.SIGCONT)

    def discard(self) -> None:
        self.kill()


def as_user(user: str | None) -> list[str]:
    """The words before a command that make it run as `user`; none where we are not root."""
    if user is None or os.geteuid() != 0:
        return []
    return ["setpriv", "--reuid", user, "--regid", user_group(user), "--clear-groups"]


def user_group(user: str) -> str:
    """The name of a user's first group (Debian's nobody is in nogroup)."""
    import grp
    import pwd

    return grp.getgrgid(pwd.getpwnam(user).pw_gid).gr_name


def give(folder: Path, user: str) -> None:
    """Make `user` the owner of a folder and all in it, where we are root."""
    if os.geteuid() != 0:
        return
    import pwd

    entry = pwd.getpwnam(user)
    for path in [folder, *folder.rglob("*")]:
        with contextlib.suppress(FileNotFoundError):
            os.chown(path, entry.pw_uid, entry.pw_gid, follow_symlinks=False)

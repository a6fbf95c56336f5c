"""A link that does what the vCon tells it to: wait, crash, hang, fail, change, hold the lock.

The vCon's `subject` names the deed, as "deed" or "deed:argument". Every run leaves a line in the
Redis list `runs:<uuid>`, so that a test can count how often an item was really run.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import threading
import time
from pathlib import Path
from typing import Any

import redis
from pydantic import BaseModel, ConfigDict

from conserver.errors import Rejected, Retry
from conserver.links import LinkContext
from conserver.vcon.document import Vcon


class Options(BaseModel):
    """Where to count, and the deed for vCons that name none."""

    model_config = ConfigDict(extra="forbid")

    redis_url: str
    deed: str = "nothing"
    gate: str = ""


def run(vcon: Vcon, options: Options, context: LinkContext) -> Vcon | None:
    """Count this run, then do the deed."""
    client = redis.Redis.from_url(options.redis_url)
    client.rpush(f"runs:{vcon.uuid}", f"{os.getpid()}:{context.link}")
    client.close()
    deed, _, argument = str(vcon.view.get("subject") or options.deed).partition(":")
    answer = DEEDS[deed](vcon, argument, context)
    return None if answer == "filter" else vcon


def _wait_for_gate(_vcon: Vcon, argument: str, context: LinkContext) -> None:
    """Run until the file exists: the test decides when."""
    deadline_s = time.monotonic() + 600
    while not Path(argument).exists():
        if time.monotonic() > deadline_s:
            raise TimeoutError("nobody opened the gate")
        context.check_cancelled()
        time.sleep(0.01)


def _hold_the_lock(_vcon: Vcon, argument: str, _context: LinkContext) -> None:
    """Keep the interpreter lock without a break: PyDLL does not release it."""
    # usleep takes less than 2^32 µs at once: an hour.
    ctypes.PyDLL(None).usleep(int(float(argument) * 1_000_000))


def _wait_in_c(_vcon: Vcon, argument: str, _context: LinkContext) -> None:
    """Stay in a foreign function: CDLL lets the interpreter lock go for as long as it runs."""
    ctypes.CDLL(None).usleep(int(float(argument) * 1_000_000))


def _burn(_vcon: Vcon, argument: str, _context: LinkContext) -> None:
    end_s = time.monotonic() + float(argument)
    while time.monotonic() < end_s:
        pass


def _deadlock(_vcon: Vcon, _argument: str, _context: LinkContext) -> None:
    """Two threads that wait for each other."""
    mine, other = threading.Lock(), threading.Lock()
    both = threading.Barrier(2)

    def take(first: threading.Lock, second: threading.Lock) -> None:
        with first:
            both.wait()
            with second:
                return

    threading.Thread(target=take, args=(other, mine), daemon=True).start()
    take(mine, other)


def _loop(_vcon: Vcon, _argument: str, _context: LinkContext) -> None:
    while True:
        pass


def _ask_without_timeout(_vcon: Vcon, _argument: str, _context: LinkContext) -> None:
    """A client that waits for ever for a server that accepts and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = socket.create_connection(server.getsockname())
        client.sendall(b"GET / HTTP/1.1\r\n\r\n")
        client.recv(1)


def _keep_to_the_soft_limit(_vcon: Vcon, _argument: str, context: LinkContext) -> None:
    """Do what a good link does: end in time, with an error of its own."""
    remaining_s = context.remaining_s()
    if remaining_s is None:
        raise AssertionError("no limit is known")
    client = socket.create_server(("127.0.0.1", 0))
    client.settimeout(remaining_s)
    with client:
        client.accept()


def _fail(_vcon: Vcon, argument: str, context: LinkContext) -> None:
    if not argument or context.attempt <= int(argument):
        raise ValueError(f"attempt {context.attempt} fails")


def _retry(_vcon: Vcon, argument: str, context: LinkContext) -> None:
    if context.attempt == 1:
        raise Retry(float(argument or 0.05))


def _reject(_vcon: Vcon, argument: str, _context: LinkContext) -> None:
    raise Rejected(argument or "not wanted")


def _checkpoint(vcon: Vcon, argument: str, context: LinkContext) -> None:
    """Write something costly, checkpoint, then wait for the gate."""
    if not any(a.get("type") == "costly" for a in vcon.analysis):
        vcon.add_analysis({"type": "costly", "vendor": "test", "body": "paid", "encoding": "none"})
        context.checkpoint()
    _wait_for_gate(vcon, argument, context)


def _add(vcon: Vcon, argument: str, context: LinkContext) -> None:
    vcon.add_analysis(
        {"type": argument or context.chain, "vendor": "test", "body": "x", "encoding": "none"}
    )


def _linger(vcon: Vcon, argument: str, context: LinkContext) -> None:
    """Leave the chain's mark, and give the other chain that is at work on this vCon time to."""
    _add(vcon, "", context)
    time.sleep(float(argument))


_beside_each_other = threading.Semaphore(1)


def _kill_in_company(_vcon: Vcon, argument: str, _context: LinkContext) -> None:
    """Harmless alone; two at once in one process are its end."""
    if not _beside_each_other.acquire(blocking=False):
        os._exit(4)
    time.sleep(float(argument))
    _beside_each_other.release()


_leaked: list[bytes] = []


def _leak(_vcon: Vcon, argument: str, _context: LinkContext) -> None:
    """Keep so many MiB for ever."""
    _leaked.append(os.urandom(1 << 20) * int(argument))


DEEDS: dict[str, Any] = {
    "nothing": lambda *_: None,
    "gate": _wait_for_gate,
    "sleep": lambda _v, argument, _c: time.sleep(float(argument)),
    "lock": _hold_the_lock,
    "native": _wait_in_c,
    "deadlock": _deadlock,
    "loop": _loop,
    "ask": _ask_without_timeout,
    "soft": _keep_to_the_soft_limit,
    "kill": lambda *_: os.kill(os.getpid(), signal.SIGKILL),
    "burn": _burn,
    "leak": _leak,
    "exit": lambda _vcon, argument, _context: os._exit(int(argument or 3)),
    "segfault": lambda *_: ctypes.string_at(0),
    "company": _kill_in_company,
    "host": lambda *_: os.killpg(os.getpgid(os.getppid()), signal.SIGKILL),
    "fail": _fail,
    "retry": _retry,
    "reject": _reject,
    "filter": lambda *_: "filter",
    "checkpoint": _checkpoint,
    "add": _add,
    "linger": _linger,
}

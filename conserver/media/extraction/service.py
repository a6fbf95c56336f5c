"""The entry of a page reader that is a child of the supervisor.

It ends when the supervisor orders it, or when the supervisor has died. Stop signals do not end it:
a terminal sends them to all processes of the group, but draining workers still need page readers.
"""

from __future__ import annotations

import importlib.metadata
import os
import select
from collections.abc import MutableMapping

from conserver.media.extraction.reader import Reader, ReaderOptions
from conserver.process import memory
from conserver.process.boot import Boot
from conserver.process.messages import receive
from conserver.process.shared_status import State


def main(boot: Boot) -> int:
    """Read pages until ordered to end. Returns the exit code."""
    memory.use_one_arena()
    options = ReaderOptions(
        memory_bytes=boot.memory_bytes,
        gpu=take_gpu(boot.device, os.environ) if _can_use_gpus() else None,
    )
    assert boot.listener is not None
    reader = Reader(boot.listener, options, boot.status.beat, boot.status.count)
    boot.status.state = State.IDLE
    boot.send("ready")
    reader.run(lambda: _ended(boot), [boot.supervisor.fileno(), boot.lifeline])
    if not _is_cut(boot):
        boot.send("retiring", reason="it gives its memory back")
    return 0


def take_gpu(device: str, environ: MutableMapping[str, str]) -> int | None:
    """Make this GPU the only one that CUDA shows, before a library uses CUDA. Returns its number,
    which is then 0; None for the CPU.

    device: as in CUDA_VISIBLE_DEVICES: a number, or an id; empty for the CPU.
    """
    if not device:
        return None
    environ["CUDA_VISIBLE_DEVICES"] = device
    return 0


def _can_use_gpus() -> bool:
    """Whether the installed onnxruntime supports CUDA."""
    try:
        importlib.metadata.version("onnxruntime-gpu")
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _ended(boot: Boot) -> bool:
    return _is_cut(boot) or any(one["type"] == "drain" for one in receive(boot.supervisor))


def _is_cut(boot: Boot) -> bool:
    poll = select.poll()
    poll.register(boot.lifeline, select.POLLIN)
    return bool(poll.poll(0))

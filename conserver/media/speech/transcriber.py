"""The entry of a transcriber that is a child of the supervisor.

It ends when the supervisor orders it, or when the supervisor has died. Stop signals do not end it:
a terminal sends them to all processes of the group, but draining workers still need a transcriber.
"""

from __future__ import annotations

import os
import select

from conserver.media.speech.meters import SpeechMeters, memory_of
from conserver.media.speech.service import Service
from conserver.media.speech.service_options import ServiceOptions
from conserver.process import memory
from conserver.process.boot import Boot
from conserver.process.messages import receive
from conserver.process.shared_status import State

# The size of CUDA's cache of compiled kernels: enough for one model and its library.
_CACHE_BYTES = 4 << 30


def main(boot: Boot) -> int:
    """Serve workers until ordered to end. Returns the exit code."""
    _set_environment(boot)
    memory.use_one_arena()
    options: ServiceOptions = boot.options
    assert boot.listener is not None
    status = boot.status
    meters = SpeechMeters(status.metrics, boot.device) if boot.basics.measures else None
    used = memory_of(boot.device)

    def look_at_memory() -> None:
        used_bytes = used()
        if used_bytes is None:
            return
        status.set_memory(used_bytes)
        if meters is not None:
            meters.memory(used_bytes)

    service = Service(
        boot.listener,
        options,
        status.beat,
        status.count,
        status.set_calls,
        meters,
        look_at_memory,
    )

    def ready() -> None:
        memory.trim_heap()  # Loading leaves free heap of half the size of the weights.
        boot.status.state = State.IDLE
        boot.send("ready")

    code = service.run(ready, lambda: _ended(boot), [boot.supervisor.fileno(), boot.lifeline])
    if service.idle:
        boot.send("retiring", reason="nobody has called for a while")
    return code


def _set_environment(boot: Boot) -> None:
    """Set environment variables of the libraries. Runs before they are imported."""
    if boot.device:
        os.environ["CUDA_VISIBLE_DEVICES"] = boot.device
    os.environ.setdefault("CUDA_CACHE_MAXSIZE", str(_CACHE_BYTES))
    if boot.safer:
        os.environ["CT2_CUDA_ALLOCATOR"] = "cub_caching"


def _ended(boot: Boot) -> bool:
    poll = select.poll()
    poll.register(boot.lifeline, select.POLLIN)
    poll.register(boot.supervisor.fileno(), select.POLLIN)
    ready = {fd for fd, _ in poll.poll(0)}
    if boot.lifeline in ready:
        return True
    if boot.supervisor.fileno() not in ready:
        return False
    return any(message["type"] == "drain" for message in receive(boot.supervisor))

"""The entry of a transcriber that is a child of the supervisor.

It ends when the supervisor orders it, or when the supervisor has died. Stop signals do not end it:
a terminal sends them to all processes of the group, but draining workers still need a transcriber.
"""

from __future__ import annotations

import os
import select
from collections.abc import Sequence
from typing import Any

from conserver.media.speech.meters import SpeechMeters, memory_of
from conserver.media.speech.service import Service, ServiceOptions
from conserver.media.transcription.engine import Model
from conserver.process import memory
from conserver.process.boot import Boot
from conserver.process.messages import receive
from conserver.process.shared_status import State

ROWS_GPU = 32
# Rows of a batch on a CPU. Four rows would decode in 10 % less time, and take 50 MB more per lane.
ROWS_CPU = 2
GATHER_GPU_S = 0.01
# CPU threads per lane. More threads hardly speed up a batch; more lanes do.
_LANE_THREADS = 4

# The size of CUDA's cache of compiled kernels: enough for one model and its library.
_CACHE_BYTES = 4 << 30


def main(boot: Boot) -> int:
    """Serve workers until ordered to end. Returns the exit code."""
    _set_environment(boot)
    memory.use_one_arena()
    settings = boot.settings
    options = service_options(
        models=[Model(**model) for model in boot.models],
        gpu=bool(boot.device),
        cores=len(os.sched_getaffinity(0)) // max(1, len(boot.transcribers)),
        rows=settings.transcriber_rows,
        slots=settings.max_concurrent_requests,
        memory_bytes=settings.transcriber_memory,
        allow_cpu=settings.transcriber_cpu_fallback,
        idle_s=settings.transcriber_idle_s,
    )
    assert boot.listener is not None
    status = boot.status
    meters = SpeechMeters(status.metrics, boot.device) if settings.measures else None
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


def service_options(
    *, models: Sequence[Model], gpu: bool, cores: int, rows: int = 0, **options: Any
) -> ServiceOptions:
    """The options that suit a GPU or CPU.

    Args:
        models: loaded first. For a GPU their `device_index` must be 0: the process sees no other.
        gpu: whether the process owns a GPU.
        cores: CPU cores that it may use.
        rows: windows of a batch; 0 chooses by the device.
        options: further members of `ServiceOptions`.
    """
    if gpu:
        return ServiceOptions(
            rows=rows or ROWS_GPU,
            lanes=1,
            threads=min(_LANE_THREADS, max(1, cores)),
            gather_s=GATHER_GPU_S,
            models=tuple(models),
            **options,
        )
    asked = max((model.cpu_threads for model in models), default=0)
    threads = asked or (1 if cores <= _LANE_THREADS else _LANE_THREADS)
    return ServiceOptions(
        rows=rows or ROWS_CPU,
        lanes=max(1, cores // threads),
        threads=threads,
        models=tuple(models),
        **options,
    )


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

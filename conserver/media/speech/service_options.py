"""How a transcriber uses its device. The supervisor decides it, and passes it in the Boot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from conserver.media.transcription.engine import Model

ROWS_GPU = 32
# Rows of a batch on a CPU. Four rows would decode in 10 % less time, and take 50 MB more per lane.
ROWS_CPU = 2
GATHER_GPU_S = 0.01
# CPU threads per lane. More threads hardly speed up a batch; more lanes do.
_LANE_THREADS = 4


@dataclass(frozen=True, slots=True)
class ServiceOptions:
    """How a transcriber uses its device.

    Attributes:
        rows: windows of a full batch.
        lanes: batches at once.
        threads: CPU threads of a lane.
        slots: calls at once; 0 means as many as fill two batches of every lane.
        gather_s: how long an incomplete batch waits for more windows.
        memory_bytes, allow_cpu: as for `Models`.
        models: loaded before the transcriber is ready.
        idle_s: the process ends after this time without a connection; 0 means never.
    """

    rows: int = 8
    lanes: int = 1
    threads: int = 1
    slots: int = 0
    gather_s: float = 0.0
    memory_bytes: int = 0
    allow_cpu: bool = False
    models: tuple[Model, ...] = ()
    idle_s: float = 0.0

    @property
    def slot_count(self) -> int:
        """How many calls may be transcribed at once."""
        return self.slots or 2 * self.rows * self.lanes


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

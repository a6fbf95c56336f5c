"""What a transcriber counts for /metrics (telemetry/metrics.py says what each number means).

Once per batch, so a lock costs nothing: on a CPU several lanes compute at once.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable

from conserver.process import memory
from conserver.telemetry import metrics
from conserver.telemetry.cells import Cells

FRAMES_PER_S = 100
"""Of a window's mel spectrogram."""


class SpeechMeters:
    """The series of one transcriber."""

    def __init__(self, region: memoryview, device: str) -> None:
        """
        Args:
            region: the memory of the process's slot.
            device: the GPU, as CUDA_VISIBLE_DEVICES names it; "" for the CPU.
        """
        cells, name = Cells(region), f"GPU {device}" if device else "CPU"
        self._lock = threading.Lock()
        self._rows = cells.histogram(metrics.BATCH_ROWS, name)
        self._took = cells.histogram(metrics.BATCH_S, name)
        self._waited = cells.histogram(metrics.SPEECH_WAIT_S, name)
        self._windows = {
            outcome: cells.counter(metrics.WINDOWS, name, outcome)
            for outcome in ("answered", "failed")
        }
        self._seconds = cells.counter(metrics.WINDOW_S, name)
        self._steps = {
            step: cells.counter(metrics.OUT_OF_MEMORY, name, step) for step in metrics.MEMORY_STEPS
        }
        self._memory = cells.counter(metrics.SPEECH_MEMORY, name)

    def batch(self, rows: int, took_s: float, waited_s: float) -> None:
        """A batch was computed. waited_s: of the row that had waited longest."""
        with self._lock:
            self._rows.observe(rows)
            self._took.observe(took_s)
            self._waited.observe(waited_s)

    def window(self, outcome: str, frames: int) -> None:
        """A window is finished: "answered" or "failed"."""
        with self._lock:
            self._windows[outcome].add()
            if outcome == "answered":
                self._seconds.add(frames / FRAMES_PER_S)

    def out_of_memory(self, step: str) -> None:
        """The device was full; step: one of metrics.MEMORY_STEPS."""
        with self._lock:
            self._steps[step].add()

    def memory(self, used_bytes: int) -> None:
        """So much is in use on the device now."""
        self._memory.set(used_bytes)


def memory_of(device: str) -> Callable[[], int | None]:
    """What tells the memory in use on a device, by all processes; "" is the CPU, where it is that
    of this process. It tells None where nobody knows.
    """
    return _gpu_memory(device) if device else memory.resident_bytes


class _NvmlMemory(ctypes.Structure):
    """nvmlMemory_t."""

    _fields_ = (
        ("total", ctypes.c_ulonglong),
        ("free", ctypes.c_ulonglong),
        ("used", ctypes.c_ulonglong),
    )


def _gpu_memory(device: str) -> Callable[[], int | None]:
    """What tells the memory in use on a GPU: the driver's own library (NVML), which makes no CUDA
    context. It tells None where that library is missing or does not know the device.

    https://docs.nvidia.com/deploy/nvml-api/
    """
    try:
        nvml = ctypes.CDLL("libnvidia-ml.so.1")
        handle = ctypes.c_void_p()
        if nvml.nvmlInit_v2():
            return _unknown
        if device.isdigit():
            failed = nvml.nvmlDeviceGetHandleByIndex_v2(int(device), ctypes.byref(handle))
        else:
            failed = nvml.nvmlDeviceGetHandleByUUID(device.encode(), ctypes.byref(handle))
    except (OSError, AttributeError):
        return _unknown
    if failed:
        return _unknown

    def used() -> int | None:
        found = _NvmlMemory()
        return None if nvml.nvmlDeviceGetMemoryInfo(handle, ctypes.byref(found)) else found.used

    return used


def _unknown() -> int | None:
    return None

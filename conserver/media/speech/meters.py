"""Counts a transcriber's work for /metrics. (telemetry/metrics.py explains each series.)

Several lanes count at once, so there is a lock. It is taken once per batch and costs nothing.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable

from conserver.process import memory
from conserver.telemetry import metrics
from conserver.telemetry.cells import Cells

FRAMES_PER_S = 100
"""Frames per second of a window's mel spectrogram."""


class SpeechMeters:
    """The series of one transcriber."""

    def __init__(self, region: memoryview, device: str) -> None:
        """
        Args:
            region: the shared memory for the metrics of this process.
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
        """Count a computed batch. waited_s: how long its oldest row had waited."""
        with self._lock:
            self._rows.observe(rows)
            self._took.observe(took_s)
            self._waited.observe(waited_s)

    def window(self, outcome: str, frames: int) -> None:
        """Count a finished window. outcome: "answered" or "failed"."""
        with self._lock:
            self._windows[outcome].add()
            if outcome == "answered":
                self._seconds.add(frames / FRAMES_PER_S)

    def out_of_memory(self, step: str) -> None:
        """Count that memory was full. step: one of metrics.MEMORY_STEPS."""
        with self._lock:
            self._steps[step].add()

    def memory(self, used_bytes: int) -> None:
        """Set the memory in use on the device."""
        self._memory.set(used_bytes)


def memory_of(device: str) -> Callable[[], int | None]:
    """A function that returns the memory in use on a device, by all processes; None if unknown. For
    "" (the CPU) it returns the memory of this process.
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
    """A function that returns the memory in use on a GPU; None if NVML is missing or does not know
    the device. NVML is the driver's own library, and makes no CUDA context.

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

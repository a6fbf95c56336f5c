"""The GPUs of this host, found out without touching CUDA (whoever has touched it cannot fork), and
what a process is started with that computes on its CPU.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from conserver.process import memory

_DEVICE = re.compile(r"nvidia(\d+)")


def gpus(environ: Mapping[str, str], folder: Path = Path("/dev")) -> list[str]:
    """The GPUs that may be used, as values for CUDA_VISIBLE_DEVICES.

    Args:
        environ: its CUDA_VISIBLE_DEVICES limits them, as in CUDA itself; "" and "-1" are none.
        folder: where the driver's device files are.
    """
    found = [_DEVICE.fullmatch(path.name) for path in folder.glob("nvidia*")]
    numbers = sorted(int(one[1]) for one in found if one)
    wanted = environ.get("CUDA_VISIBLE_DEVICES")
    if wanted is None:
        return [str(number) for number in numbers]
    if not numbers:
        return []
    named = [name.strip() for name in wanted.split(",")]
    # What follows a name that does not exist is not seen.
    end = next((at for at, name in enumerate(named) if name in ("", "-1")), len(named))
    return named[:end]


def cpu_environment(
    environ: Mapping[str, str], switch: Path = memory.HUGE_PAGES_SWITCH
) -> dict[str, str]:
    """The variables that a transcriber on the CPU is started with.

    The encoder allocates and frees 100 MB for each layer: with pages of 4 KiB a third of its time
    is the kernel's. With huge pages it is not, but MKL's buffers, of which only a part is used,
    would take 170 MB. oneDNN computes the same without them, and as fast.

    Args:
        environ: of this process; a variable that is set there stays.
        switch: the kernel's file that says whether it gives huge pages.
    """
    found = memory.with_huge_pages(environ, switch)
    if not found or environ.get("CT2_USE_MKL", "0") != "0":
        return {}
    return {**found, "CT2_USE_MKL": "0"}

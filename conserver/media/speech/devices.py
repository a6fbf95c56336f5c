"""Finds the GPUs of this host, and the environment for a transcriber on the CPU.

It does not use CUDA: the supervisor calls it, and a process that has used CUDA cannot fork.
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
        environ: its CUDA_VISIBLE_DEVICES limits them, as in CUDA itself; "" and "-1" mean none.
        folder: with the driver's device files.
    """
    found = [_DEVICE.fullmatch(path.name) for path in folder.glob("nvidia*")]
    numbers = sorted(int(one[1]) for one in found if one)
    wanted = environ.get("CUDA_VISIBLE_DEVICES")
    if wanted is None:
        return [str(number) for number in numbers]
    if not numbers:
        return []
    named = [name.strip() for name in wanted.split(",")]
    # CUDA ignores all names after one that does not exist.
    end = next((at for at, name in enumerate(named) if name in ("", "-1")), len(named))
    return named[:end]


def cpu_environment(
    environ: Mapping[str, str],
    switch: Path = memory.HUGE_PAGES_SWITCH,
    library: str | None = None,
) -> dict[str, str]:
    """The environment variables for a transcriber on the CPU.

    The encoder allocates and frees 100 MB for each layer. With pages of 4 KiB a third of its time
    goes to page faults; huge pages avoid this. With huge pages, however, MKL's partly used buffers
    would take 170 MB. So oneDNN is used, which is as fast and has no such buffers.

    Args:
        environ: of this process; a variable that is set in it is not changed.
        switch, library: as for `memory.with_huge_pages`.
    """
    found = memory.with_huge_pages(environ, switch, library)
    if not found or environ.get("CT2_USE_MKL", "0") != "0":
        return {}
    return {**found, "CT2_USE_MKL": "0"}

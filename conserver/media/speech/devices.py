"""The GPUs of this host, found out without touching CUDA: whoever has touched it cannot fork."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

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

"""What a worker does about its memory: measures it, keeps it in one piece, gives it back.

A batch of documents lives in several forms for some milliseconds. glibc keeps what was freed, and
with an arena per thread it keeps it several times: 10 MB and more per worker for nothing. Elsewhere
(musl) there is neither function, and nothing is done.
"""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

_M_ARENA_MAX = -8  # malloc.h
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def resident_bytes() -> int:
    """The resident set size of this process."""
    return int(Path("/proc/self/statm").read_bytes().split()[1]) * _PAGE_BYTES


def use_one_arena() -> None:
    """Let all threads share one heap. To be called before there are any.

    They hold the interpreter's lock most of the time, so that they do not wait for one another.
    """
    _call("mallopt", _M_ARENA_MAX, 1)


def trim_heap() -> None:
    """Return freed memory to the system; for an idle moment, it takes some milliseconds."""
    _call("malloc_trim", 0)


def _call(function: str, *arguments: int) -> None:
    call = getattr(ctypes.CDLL(None), function, None)
    if call is not None:
        call(*arguments)

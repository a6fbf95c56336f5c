"""The memory of a process: its size, and how the C library's allocator is kept in check.

Documents live for milliseconds, in several forms. glibc keeps freed memory for reuse, per thread
arena, which adds up to 10 MB and more per worker. musl has neither function, and nothing is done.
"""

from __future__ import annotations

import ctypes
import gc
import os
from pathlib import Path

_M_ARENA_MAX = -8  # malloc.h
_M_MMAP_THRESHOLD = -3
_LARGE_BYTES = 1 << 20
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def resident_bytes() -> int:
    """The resident set size of this process."""
    return int(Path("/proc/self/statm").read_bytes().split()[1]) * _PAGE_BYTES


def use_one_arena() -> None:
    """Let all threads share one heap. Call it before threads are started.

    The threads do not contend for it, because they hold the interpreter's lock most of the time.
    """
    _call("mallopt", _M_ARENA_MAX, 1)


def give_large_blocks_back() -> None:
    """Let blocks of 1 MiB and more go back to the system as soon as they are freed.

    glibc raises that limit to the largest block that was freed, and keeps the memory of all smaller
    ones: an array of sound that lived for a moment then counts for ever.
    """
    _call("mallopt", _M_MMAP_THRESHOLD, _LARGE_BYTES)


def keep_what_is_there() -> None:
    """Let the search for garbage pass over all objects that exist. Call it once all is loaded.

    A search through them all takes tens of milliseconds, in which nothing else runs.
    """
    gc.collect()
    gc.freeze()
    trim_heap()


def trim_heap() -> None:
    """Return freed memory to the system. It takes some milliseconds: call it when idle."""
    _call("malloc_trim", 0)


def _call(function: str, *arguments: int) -> None:
    call = getattr(ctypes.CDLL(None), function, None)
    if call is not None:
        call(*arguments)

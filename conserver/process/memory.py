"""The memory of a process: its size, and how the C library's allocator is kept in check.

Documents live for milliseconds, in several forms. glibc keeps freed memory for reuse, per thread
arena, which adds up to 10 MB and more per worker. musl has neither function, and nothing is done.
"""

from __future__ import annotations

import ctypes
import gc
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

_HUGE_PAGES = "glibc.malloc.hugetlb"
HUGE_PAGES_SWITCH = Path("/sys/kernel/mm/transparent_hugepage/enabled")
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


def with_huge_pages(environ: Mapping[str, str], switch: Path = HUGE_PAGES_SWITCH) -> dict[str, str]:
    """The variables with which glibc (2.35 and newer) asks for huge pages from a process's start.

    Blocks that are allocated and freed again and again then cost a fault per 2 MiB, not per 4 KiB.

    Args:
        environ: of this process; what it says of huge pages already stays.
        switch: the kernel's file that says whether it gives huge pages.

    Returns:
        Nothing if the kernel gives none to those who ask, or `environ` decides.
    """
    try:
        never = "[never]" in switch.read_text()
    except OSError:
        return {}
    tunables = environ.get("GLIBC_TUNABLES", "")
    if never or _HUGE_PAGES in tunables:
        return {}
    return {"GLIBC_TUNABLES": ":".join(filter(None, [tunables, f"{_HUGE_PAGES}=1"]))}


@contextmanager
def environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Set these variables for what is started meanwhile. No other thread may start processes."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _call(function: str, *arguments: int) -> None:
    call = getattr(ctypes.CDLL(None), function, None)
    if call is not None:
        call(*arguments)

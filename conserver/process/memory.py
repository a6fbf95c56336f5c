"""The memory of a process: its size, and settings of the C library's allocator that keep it small.

Documents live for milliseconds, in several forms. glibc keeps freed memory for reuse in an arena
per thread, which adds up to 10 MB and more per worker. musl lacks mallopt and malloc_trim; there
these functions do nothing.
"""

from __future__ import annotations

import ctypes
import gc
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

_HUGE_PAGES = "glibc.malloc.hugetlb"
_HUGE_PAGES_SINCE = (2, 35)
HUGE_PAGES_SWITCH = Path("/sys/kernel/mm/transparent_hugepage/enabled")
_M_ARENA_MAX = -8  # malloc.h
_M_MMAP_THRESHOLD = -3
_LARGE_BYTES = 1 << 20
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def resident_bytes() -> int:
    """The resident set size of this process."""
    return int(Path("/proc/self/statm").read_bytes().split()[1]) * _PAGE_BYTES


def use_one_arena() -> None:
    """Let all threads share one heap. Call this before threads are started.

    Threads hardly contend for the heap, because they allocate while they hold the interpreter's
    lock (GIL).
    """
    _call("mallopt", _M_ARENA_MAX, 1)


def give_large_blocks_back() -> None:
    """Return blocks of 1 MiB and more to the system as soon as they are freed.

    By default glibc raises this limit to the size of the largest block that was freed, and keeps
    the memory of all smaller blocks. So an array of audio that lived for a moment would stay in the
    process's memory.
    """
    _call("mallopt", _M_MMAP_THRESHOLD, _LARGE_BYTES)


def keep_what_is_there() -> None:
    """Let the garbage collector ignore all objects that exist. Call this once all is loaded.

    A collection that visits all of them takes tens of milliseconds, and stops all threads.
    """
    gc.collect()
    gc.freeze()
    trim_heap()


def trim_heap() -> None:
    """Return freed memory to the system. It takes some milliseconds."""
    _call("malloc_trim", 0)


def c_library() -> str:
    """The C library and its version, such as "glibc 2.36"; "" if it is not glibc."""
    try:
        return os.confstr("CS_GNU_LIBC_VERSION") or ""
    except ValueError:
        return ""


def _has_huge_pages(library: str) -> bool:
    name, _, version = library.partition(" ")
    numbers = version.split(".")[:2]
    known = name == "glibc" and all(number.isdigit() for number in numbers)
    return known and tuple(map(int, numbers)) >= _HUGE_PAGES_SINCE


def with_huge_pages(
    environ: Mapping[str, str], switch: Path = HUGE_PAGES_SWITCH, library: str | None = None
) -> dict[str, str]:
    """Environment variables for a new process, whose glibc (2.35 and newer) then uses huge pages.

    Memory that is allocated and freed again and again then costs a page fault per 2 MiB, not per
    4 KiB.

    Args:
        environ: the variables of this process. A setting for huge pages in them is not changed.
        switch: the kernel's file that says whether programs may get huge pages.
        library: the C library, as `c_library` names it; None is this process's.

    Returns:
        {} if the C library or the kernel has no huge pages, or `environ` has a setting for them.
    """
    if not _has_huge_pages(c_library() if library is None else library):
        return {}
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
    """Set environment variables for processes that are started in this block. Meanwhile no other
    thread may start processes.
    """
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

"""The allocator gives large blocks back; what stays is not searched for garbage."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from conserver.process import memory

# Each large block lies between small ones that stay: on a heap its memory would stay as well.
_PROGRAM = """
from conserver.process import memory

LARGE = 4 << 20
memory.use_one_arena()
memory.give_large_blocks_back()
bytes(bytearray(8 << 20))  # What is freed first raises the limit, unless it is set.
large, small = [], []
for _ in range(10):
    large.append(bytearray(LARGE))
    small.append(bytearray(100_000))
before = memory.resident_bytes()
large.clear()
print(before - memory.resident_bytes())
"""


def test_large_blocks_go_back_to_the_system_at_once() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) > 8 * (4 << 20)


_KEPT = """
import gc
from conserver.process import memory

made = [[number] for number in range(1000)]
memory.keep_what_is_there()
later = [[number] for number in range(1000)]
searched = {id(one) for one in gc.get_objects()}
print(sum(id(one) in searched for one in made), sum(id(one) in searched for one in later))
"""


def test_what_is_kept_is_not_searched_for_garbage_again() -> None:
    done = subprocess.run([sys.executable, "-c", _KEPT], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["0", "1000"]


@pytest.mark.parametrize(
    ("kernel", "tunables", "found"),
    [
        ("always [madvise] never", "", "glibc.malloc.hugetlb=1"),
        ("[always] madvise never", "glibc.malloc.check=1", "glibc.malloc.check=1:{}"),
        ("always madvise [never]", "", None),
        ("always [madvise] never", "glibc.malloc.hugetlb=0", None),
        (None, "", None),
    ],
)
def test_huge_pages_are_asked_for_where_the_kernel_has_them(
    tmp_path: Path, kernel: str | None, tunables: str, found: str | None
) -> None:
    switch = tmp_path / "enabled"
    if kernel:
        switch.write_text(kernel)
    environ = {"GLIBC_TUNABLES": tunables} if tunables else {}
    expected = {"GLIBC_TUNABLES": found.format("glibc.malloc.hugetlb=1")} if found else {}
    assert memory.with_huge_pages(environ, switch, "glibc 2.36") == expected


@pytest.mark.parametrize(
    ("library", "asks"),
    [
        ("glibc 2.34", False),
        ("glibc 2.35", True),
        ("glibc 2.41.9000", True),
        ("glibc 3.0", True),
        ("glibc next", False),
        ("", False),
    ],
)
def test_huge_pages_are_asked_for_where_the_c_library_does_it(
    tmp_path: Path, library: str, asks: bool
) -> None:
    switch = tmp_path / "enabled"
    switch.write_text("always [madvise] never")
    assert bool(memory.with_huge_pages({}, switch, library)) == asks


def test_the_c_library_is_named_with_its_version() -> None:
    assert memory.c_library() == " ".join(platform.libc_ver()).strip()


def test_variables_are_set_for_what_is_started_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONSERVER_KEPT", "before")
    monkeypatch.delenv("CONSERVER_NEW", raising=False)
    told = "import os; print(os.environ['CONSERVER_KEPT'], os.environ['CONSERVER_NEW'])"
    with memory.environment({"CONSERVER_KEPT": "1", "CONSERVER_NEW": "2"}):
        done = subprocess.run(
            [sys.executable, "-c", told], capture_output=True, text=True, check=True
        )
    assert done.stdout.split() == ["1", "2"]
    assert os.environ["CONSERVER_KEPT"] == "before"
    assert "CONSERVER_NEW" not in os.environ

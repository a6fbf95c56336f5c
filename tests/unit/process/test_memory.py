"""The allocator gives large blocks back; what stays is not searched for garbage."""

from __future__ import annotations

import subprocess
import sys

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

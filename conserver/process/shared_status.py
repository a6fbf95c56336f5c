"""The page: what a child shows of itself in shared memory, so that others can judge it.

1. The child's main loop moves the stamp; a stamp that stands still is a stalled child.
2. Per item in its hands it shows phase, token and epoch: whom a crash blames, what is overdue.
3. It shows what it has done, for recycling and for the status.

One writer (the child it belongs to), any number of readers, no lock, no system call. Laid out in
native byte order, because it never leaves the host:

    offset          size        field
    0               u64         stamp: beat() adds one
    8               u64         items done
    16              u64         items failed
    24              u64         memory of the process in bytes, by its own account
    32              u64         state (State)
    40              u64         a bit per storage that a chain writes to, by its place among their
                                sorted names: whether its breaker is open
    64              256 * u8    phase of each item slot (Phase); apart from the rest, so that one
                                look tells an idle page
    320             256 * 208   item slots:
        0           u32         run: another number whenever a link begins
        4           u32         chain run: another number whenever an item begins
        8           f32         hard limit of the running link in seconds, 0 = none
        12          f32         hard limit of the chain's links together in seconds, 0 = none
        16          u64         epoch
        24          f64         time.monotonic() of the last change of phase (for the status only)
        32          64 bytes    token          (text is UTF-8, cut to its field, padded with NUL)
        96          40 bytes    uuid
        136         32 bytes    link
        168         40 bytes    chain

An item's phase byte is written last, so a reader never sees a slot that was not filled; it may see
one that is being changed, and then a mixture of old and new. That harms nobody: the clocks restart
on any change, and whatever is said of an item is fenced by its token and epoch in Redis.
"""

from __future__ import annotations

import enum
import mmap
import os
import struct
import time
from collections.abc import Iterable
from dataclasses import dataclass
from multiprocessing import reduction
from typing import Any

ITEMS_MAX = 256
"""Item slots of a page: as many items as a worker may hold."""

TOKEN_BYTES_MAX = 64

_PHASES_AT = 64
_ITEMS_AT = _PHASES_AT + ITEMS_MAX
_RECORD = struct.Struct("=IIffQd64s40s32s40s")
_SIZE = _ITEMS_AT + ITEMS_MAX * _RECORD.size

# Parts of an item slot, by their offset in it.
_RUN = struct.Struct("=I")
_LIMITS_AT, _LIMITS = 8, struct.Struct("=ff")
_BEGAN_AT, _BEGAN = 24, struct.Struct("=d")
_UUID_AT, _UUID = 96, struct.Struct("=40s")
_LINK_AT, _LINK = 136, struct.Struct("=32s")

# Places in the header, counted in u64.
_STAMP, _DONE, _FAILED, _RSS, _STATE, _AWAY = range(6)
_BITS = 64

_U32 = 0xFFFFFFFF


class State(enum.IntEnum):
    """What a child as a whole is doing."""

    STARTING = 0
    IDLE = 1
    WORKING = 2
    DRAINING = 3


class Phase(enum.IntEnum):
    """Where an item is inside its worker. Limits are counted in RUNNING alone."""

    FREE = 0
    HELD = 1
    RUNNING = 2
    STORING = 3
    PAUSED = 4  # we read or write its document, before a link or for a checkpoint: no limit runs

    @property
    def blamed(self) -> bool:
        """Whether an item in this phase may be what killed its worker."""
        return self in (Phase.RUNNING, Phase.STORING, Phase.PAUSED)


@dataclass(frozen=True, slots=True)
class StatusItem:
    """One item as its page shows it; `slot` is its index on the page."""

    slot: int
    phase: Phase
    run: int
    chain_run: int
    limit_s: float
    chain_limit_s: float
    epoch: int
    began_s: float
    token: str
    uuid: str
    link: str
    chain: str


@dataclass(frozen=True, slots=True)
class StatusView:
    """A page at one moment; `items` are the slots in use, in the order of their index."""

    stamp: int
    state: State
    items_done: int
    items_failed: int
    rss_bytes: int
    away: int  # a bit for each place of a storage whose breaker is open
    items: tuple[StatusItem, ...]


class SharedStatus:
    """Shared memory of one slot of the household; handed to children as a Process argument.

    The supervisor makes it with `create`, a child gets a mapping of its own. The writing methods
    are for the child that the page belongs to; each item slot has one writing thread at a time.
    """

    def __init__(self, fd: int) -> None:
        """Map the page behind the descriptor `fd`, which from now on belongs to this object."""
        self.fd = fd
        self._map = mmap.mmap(fd, _SIZE)
        self._bytes = memoryview(self._map)
        self._header = self._bytes[:_PHASES_AT].cast("Q")
        self._phases = self._bytes[_PHASES_AT:_ITEMS_AT]

    @classmethod
    def create(cls, name: str = "page") -> SharedStatus:
        """A new, empty page. `name` is what /proc/<pid>/maps shows of it."""
        fd = os.memfd_create(f"conserver-{name}", os.MFD_CLOEXEC)
        os.ftruncate(fd, _SIZE)
        return cls(fd)

    def remapped(self) -> SharedStatus:
        """The same page through a descriptor and a mapping of its own (after a fork)."""
        return SharedStatus(os.dup(self.fd))

    def close(self) -> None:
        """Give the mapping and the descriptor back; closing twice is harmless."""
        if self.fd < 0:
            return
        for view in (self._header, self._phases, self._bytes):
            view.release()
        self._map.close()
        os.close(self.fd)
        self.fd = -1

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (reduction.DupFd(self.fd),)

    # What the child's main loop tells.

    def beat(self) -> None:
        """Show that the main loop is alive: to be called at least once a second."""
        header = self._header
        header[_STAMP] = (header[_STAMP] + 1) & 0xFFFFFFFFFFFFFFFF

    @property
    def state(self) -> State:
        """What the child as a whole is doing."""
        return State(self._header[_STATE])

    @state.setter
    def state(self, state: State) -> None:
        self._header[_STATE] = state

    def count(self, done: int = 0, failed: int = 0) -> None:
        """Add to the items that were settled, and to those that failed."""
        self._header[_DONE] += done
        self._header[_FAILED] += failed

    def tell_memory(self, rss_bytes: int) -> None:
        """Show how much memory the process has, in bytes."""
        self._header[_RSS] = rss_bytes

    def tell_away(self, places: Iterable[int]) -> None:
        """Show which storages' breakers are open; the page has room for the first 64 storages."""
        self._header[_AWAY] = sum(1 << place for place in places if place < _BITS)

    # What happens to an item.

    def hold(self, slot: int, token: str, epoch: int, uuid: str, chain: str) -> None:
        """Put an item that was claimed into a free slot.

        Raises:
            ValueError: the token is longer than its field; cut short it would blame nobody.
        """
        name = token.encode()
        if len(name) > TOKEN_BYTES_MAX:
            raise ValueError(f"a token has at most {TOKEN_BYTES_MAX} bytes: {token!r}")
        at = _ITEMS_AT + slot * _RECORD.size
        run, chain_run = self._numbers(at)
        _RECORD.pack_into(
            self._map,
            at,
            run,
            (chain_run + 1) & _U32,
            0.0,
            0.0,
            epoch,
            time.monotonic(),
            name,
            uuid.encode(),
            b"",
            chain.encode(),
        )
        self._phases[slot] = Phase.HELD

    def run(self, slot: int, link: str, limit_s: float = 0.0, chain_limit_s: float = 0.0) -> None:
        """A link begins on the item; hard limits in seconds, 0 for none."""
        at = _ITEMS_AT + slot * _RECORD.size
        run, _ = self._numbers(at)
        _LINK.pack_into(self._map, at + _LINK_AT, link.encode())
        _LIMITS.pack_into(self._map, at + _LIMITS_AT, limit_s, chain_limit_s)
        _RUN.pack_into(self._map, at, (run + 1) & _U32)
        self._enter(slot, Phase.RUNNING)

    def open(self, slot: int) -> None:
        """Its document is read or parsed: from here on it may be what kills the worker."""
        self._enter(slot, Phase.PAUSED)

    def name(self, slot: int, uuid: str) -> None:
        """Its document has told which vCon it is: it was pushed whole."""
        _UUID.pack_into(self._map, _ITEMS_AT + slot * _RECORD.size + _UUID_AT, uuid.encode())

    def rest(self, slot: int) -> None:
        """Nobody does anything with the item."""
        self._enter(slot, Phase.HELD)

    def pause(self, slot: int) -> None:
        """The running link waits for us (a checkpoint): its limits stand still."""
        self._enter(slot, Phase.PAUSED)

    def resume(self, slot: int) -> None:
        """The link that was paused goes on, with the clocks it had."""
        self._enter(slot, Phase.RUNNING)

    def store(self, slot: int) -> None:
        """The links are done: the item is on its way to Redis and the storages."""
        self._enter(slot, Phase.STORING)

    def free(self, slot: int) -> None:
        """The item has left this worker."""
        self._phases[slot] = Phase.FREE

    def _enter(self, slot: int, phase: Phase) -> None:
        _BEGAN.pack_into(self._map, _ITEMS_AT + slot * _RECORD.size + _BEGAN_AT, time.monotonic())
        self._phases[slot] = phase

    def _numbers(self, at: int) -> tuple[int, int]:
        run, chain_run = struct.unpack_from("=II", self._map, at)
        return run, chain_run

    # What readers see.

    def read(self) -> StatusView:
        """The page as it is now. Never fails on what a child wrote, or half wrote."""
        header = self._header
        state = header[_STATE]
        phases = bytes(self._phases)
        items = []
        if phases.strip(b"\0"):
            items = [self._item(slot, phase) for slot, phase in enumerate(phases) if phase]
        return StatusView(
            stamp=header[_STAMP],
            state=State(state) if state <= State.DRAINING else State.STARTING,
            items_done=header[_DONE],
            items_failed=header[_FAILED],
            rss_bytes=header[_RSS],
            away=header[_AWAY],
            items=tuple(items),
        )

    def _item(self, slot: int, phase: int) -> StatusItem:
        run, chain_run, limit_s, chain_limit_s, epoch, began_s, token, uuid, link, chain = (
            _RECORD.unpack_from(self._map, _ITEMS_AT + slot * _RECORD.size)
        )
        return StatusItem(
            slot=slot,
            phase=Phase(phase) if phase <= Phase.PAUSED else Phase.HELD,
            run=run,
            chain_run=chain_run,
            limit_s=limit_s,
            chain_limit_s=chain_limit_s,
            epoch=epoch,
            began_s=began_s,
            token=_text(token),
            uuid=_text(uuid),
            link=_text(link),
            chain=_text(chain),
        )

    def reset(self) -> None:
        """Make the page as new, for the child that replaces a dead one."""
        self._bytes[:] = bytes(_SIZE)


def _rebuild(descriptor: Any) -> SharedStatus:
    return SharedStatus(descriptor.detach())


def _text(field: bytes) -> str:
    return field.rstrip(b"\0").decode("utf-8", "ignore")

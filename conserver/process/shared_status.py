"""SharedStatus: shared memory in which a child shows that it is alive and what it works on.

1. Liveness: the child's main loop calls beat(), and the watchdog kills a child whose heartbeat
   count stops changing.
2. Per held item: phase, token, epoch and time limits, for blame (supervisor/death.py) and hard time
   limits (supervisor/watchdog.py).
3. Counters and memory, for recycling and for `conserver status`.
4. The child's metrics (telemetry/cells.py). reset() does not clear them: the next child of the slot
   continues to count.

There is one writer (the child) and any number of readers, and neither a lock nor a system call. The
layout is in native byte order, because the memory never leaves the host:

    offset          size        field
    0               u64         heartbeats: how often beat() was called
    8               u64         items done
    16              u64         items failed
    24              u64         resident memory in bytes, as the child measured it; 0: not measured
    32              u64         state (State)
    40              u64         one bit per storage that a chain writes to, in the order of their
                                sorted names: 1 = its circuit breaker is open
    48              u64         of a transcriber: the most calls that it works on at once
    56              u64         of a transcriber: calls that it works on (high 32 bits), and calls
                                that wait (low 32 bits)
    64              256 * u8    phase of each status slot (Phase), outside of the slots, so that a
                                reader sees quickly whether any slot is in use
    320             256 * 360   status slots:
        0           u32         link run: a number that changes whenever a link starts
        4           u32         chain run: a number that changes when another item gets the slot
        8           f32         hard limit of the running link in seconds, 0 = none
        12          f32         hard limit of all links of the chain together in seconds, 0 = none
        16          u64         epoch
        24          f64         time.monotonic() of the last change of phase (for the status only)
        32          128 bytes   token          (text is UTF-8, cut to its field, padded with NUL)
        160         128 bytes   uuid
        288         32 bytes    link
        320         40 bytes    chain
    92480           64 * 256    for each storage with a bit at 40: why its breaker is open, as text
    108864          1 MiB       metrics; the kernel allocates these pages on first write

The child writes the phase last, so a reader never sees a slot that was not filled. A reader may see
a slot that is being changed, with a mixture of old and new fields. This does no harm: time limits
restart whenever a run number changes, and Redis checks token and epoch of every blamed item.
"""

from __future__ import annotations

import enum
import mmap
import os
import struct
import time
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing import reduction
from typing import Any

from conserver.telemetry.cells import REGION_BYTES

ITEMS_MAX = 256
"""The number of status slots. A worker holds at most this many items."""

TOKEN_BYTES_MAX = 128

_BITS = 64
_PHASES_AT = 64
_ITEMS_AT = _PHASES_AT + ITEMS_MAX
_ITEM = struct.Struct("=IIffQd128s128s32s40s")
_REASONS_AT = _ITEMS_AT + ITEMS_MAX * _ITEM.size
_REASON = struct.Struct("=256s")
_METRICS_AT = _REASONS_AT + _BITS * _REASON.size
_SIZE = _METRICS_AT + REGION_BYTES

# Fields of a status slot, by their offset in it.
_RUN, _RUNS = struct.Struct("=I"), struct.Struct("=II")
_LIMITS_AT, _LIMITS = 8, struct.Struct("=ff")
_SINCE_AT, _SINCE = 24, struct.Struct("=d")
_UUID_AT, _UUID = 160, struct.Struct("=128s")
_LINK_AT, _LINK = 288, struct.Struct("=32s")

# Fields of the header, counted in u64.
_HEARTBEATS, _DONE, _FAILED, _RSS, _STATE, _AWAY, _CAPACITY, _CALLS = range(8)
_U32 = 0xFFFFFFFF


class State(enum.IntEnum):
    """What a child is doing."""

    STARTING = 0
    IDLE = 1
    WORKING = 2
    DRAINING = 3


class Phase(enum.IntEnum):
    """What happens to a held item.

        from                to         when
        FREE                QUEUED     the item was claimed; it waits for a chain thread
        QUEUED              UNTIMED    its document is parsed, or read alone
        UNTIMED             QUEUED     its document was read
        FINISHING           QUEUED     its links go on, because its rate slot is now; or they run
                                       again, because its document was replaced
        UNTIMED             RUNNING    a link starts, or goes on after a checkpoint
        RUNNING             RUNNING    the next link starts
        RUNNING             UNTIMED    the link waits until its checkpoint is written
        RUNNING, UNTIMED    FINISHING  the chain thread returns the item to the worker loop, which
                                       stores, settles or parks it, or reserves a rate slot
        QUEUED              FINISHING  no link was left to run, or the document is looked up in
                                       the storages
        any                 FREE       the item was settled, parked, dead-lettered or released

    Hard time limits count in RUNNING only.
    """

    FREE = 0
    QUEUED = 1
    RUNNING = 2
    FINISHING = 3
    UNTIMED = 4

    @property
    def at_work(self) -> bool:
        """Whether an item in this phase is at work, as supervisor/death.py says."""
        return self in (Phase.RUNNING, Phase.FINISHING, Phase.UNTIMED)


@dataclass(frozen=True, slots=True)
class StatusItem:
    """A slot in use. slot: its index. limit_s, chain_limit_s: hard time limits, 0.0 for none."""

    slot: int
    phase: Phase
    link_run: int
    chain_run: int
    limit_s: float
    chain_limit_s: float
    epoch: int
    phase_since_s: float
    token: str
    uuid: str
    link: str
    chain: str


@dataclass(frozen=True, slots=True)
class StatusView:
    """A SharedStatus at one moment. items: the status slots in use, in the order of their index."""

    heartbeats: int
    state: State
    items_done: int
    items_failed: int
    rss_bytes: int
    # The storages whose circuit breaker is open: index in the order of their names -> reason.
    away: Mapping[int, str]
    items: tuple[StatusItem, ...]
    # Of a transcriber: the most calls at once, calls that it works on, and calls that wait.
    capacity: int = 0
    busy: int = 0
    waiting: int = 0


class SharedStatus:
    """The shared memory of one child slot.

    The supervisor creates it and passes it to the child as an argument of Process; the child maps
    it again. While the child lives, only the child calls the methods that write, and only one
    thread at a time writes to a status slot. Between two children the supervisor calls reset().
    """

    def __init__(self, fd: int) -> None:
        """Map the memory of the descriptor `fd`. This object closes `fd`."""
        self.fd = fd
        self._map = mmap.mmap(fd, _SIZE)
        self._bytes = memoryview(self._map)
        self._header = self._bytes[:_PHASES_AT].cast("Q")
        self._phases = self._bytes[_PHASES_AT:_ITEMS_AT]
        self.metrics = self._bytes[_METRICS_AT:]
        """The memory of the metrics (telemetry/cells.py)."""

    @classmethod
    def create(cls, name: str = "status") -> SharedStatus:
        """Create an empty shared memory. /proc/<pid>/maps shows it as "conserver-<name>"."""
        fd = os.memfd_create(f"conserver-{name}", os.MFD_CLOEXEC)
        os.ftruncate(fd, _SIZE)
        return cls(fd)

    def is_same(self, other: SharedStatus) -> bool:
        """Whether `other` maps the same memory."""
        return os.path.sameopenfile(self.fd, other.fd)

    def close(self) -> None:
        """Release the mapping and the descriptor. A second call does nothing."""
        if self.fd < 0:
            return
        for view in (self._header, self._phases, self.metrics, self._bytes):
            view.release()
        self._map.close()
        os.close(self.fd)
        self.fd = -1

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (reduction.DupFd(self.fd),)

    # Written by the child's main loop.

    def beat(self) -> None:
        """Show that the main loop is alive. The loop calls this at least once a second."""
        header = self._header
        header[_HEARTBEATS] = (header[_HEARTBEATS] + 1) & 0xFFFFFFFFFFFFFFFF

    @property
    def state(self) -> State:
        """What the child is doing."""
        return State(self._header[_STATE])

    @state.setter
    def state(self, state: State) -> None:
        self._header[_STATE] = state

    def count(self, done: int = 0, failed: int = 0) -> None:
        """Add to the number of items settled, and to the number of items failed."""
        self._header[_DONE] += done
        self._header[_FAILED] += failed

    def set_memory(self, rss_bytes: int) -> None:
        """Show the resident memory of the process."""
        self._header[_RSS] = rss_bytes

    def set_away(self, reasons: Mapping[int, str]) -> None:
        """Show whose circuit breakers are open: index of the storage -> reason.

        There is room for the first 64 storages. Others are left out.
        """
        shown = {place: reason for place, reason in reasons.items() if place < _BITS}
        for place, reason in shown.items():
            at = _REASONS_AT + place * _REASON.size
            _REASON.pack_into(self._map, at, reason.encode("utf-8", "replace"))
        self._header[_AWAY] = sum(1 << place for place in shown)

    def set_calls(self, capacity: int, busy: int, waiting: int) -> None:
        """Show a transcriber's calls: the most at once, those in work, and those that wait."""
        self._header[_CAPACITY] = capacity
        self._header[_CALLS] = busy << 32 | waiting

    # Written by whichever thread works on the item.

    def hold(self, slot: int, token: str, epoch: int, uuid: str, chain: str) -> None:
        """Put a claimed item into a free slot; uuid may be empty.

        Raises:
            ValueError: the token is longer than its field. (A token that was cut matches no item.)
        """
        name = token.encode()
        if len(name) > TOKEN_BYTES_MAX:
            raise ValueError(f"a token has at most {TOKEN_BYTES_MAX} bytes: {token!r}")
        at = _ITEMS_AT + slot * _ITEM.size
        link_run, chain_run = _RUNS.unpack_from(self._map, at)
        _ITEM.pack_into(
            self._map,
            at,
            link_run,
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
        self._phases[slot] = Phase.QUEUED

    def start_link(
        self, slot: int, link: str, limit_s: float = 0.0, chain_limit_s: float = 0.0
    ) -> None:
        """Show that a link starts on the item. limit_s, chain_limit_s: hard limits; 0.0: none."""
        at = _ITEMS_AT + slot * _ITEM.size
        link_run, _ = _RUNS.unpack_from(self._map, at)
        _LINK.pack_into(self._map, at + _LINK_AT, link.encode())
        _LIMITS.pack_into(self._map, at + _LIMITS_AT, limit_s, chain_limit_s)
        _RUN.pack_into(self._map, at, (link_run + 1) & _U32)
        self.set_phase(slot, Phase.RUNNING)

    def set_uuid(self, slot: int, uuid: str) -> None:
        """Show the uuid of an item whose document was pushed inline and is parsed now."""
        _UUID.pack_into(self._map, _ITEMS_AT + slot * _ITEM.size + _UUID_AT, uuid.encode())

    def set_phase(self, slot: int, phase: Phase) -> None:
        """Change the phase of an item."""
        _SINCE.pack_into(self._map, _ITEMS_AT + slot * _ITEM.size + _SINCE_AT, time.monotonic())
        self._phases[slot] = phase

    def free(self, slot: int) -> None:
        """Mark the status slot as free, because the item has left this worker."""
        self._phases[slot] = Phase.FREE

    # Read by any process.

    def read(self) -> StatusView:
        """Read everything. Never raises, even if a child has written only half of a field."""
        header = self._header
        state = header[_STATE]
        phases = bytes(self._phases)
        items = []
        if phases.strip(b"\0"):
            items = [self._item(slot, phase) for slot, phase in enumerate(phases) if phase]
        return StatusView(
            heartbeats=header[_HEARTBEATS],
            state=State(state) if state <= State.DRAINING else State.STARTING,
            items_done=header[_DONE],
            items_failed=header[_FAILED],
            rss_bytes=header[_RSS],
            away=self._away(header[_AWAY]),
            items=tuple(items),
            capacity=header[_CAPACITY],
            busy=header[_CALLS] >> 32,
            waiting=header[_CALLS] & _U32,
        )

    def _away(self, bits: int) -> dict[int, str]:
        places = [place for place in range(_BITS) if bits >> place & 1] if bits else []
        return {
            place: _text(_REASON.unpack_from(self._map, _REASONS_AT + place * _REASON.size)[0])
            for place in places
        }

    def _item(self, slot: int, phase: int) -> StatusItem:
        link_run, chain_run, limit_s, chain_limit_s, epoch, since_s, token, uuid, link, chain = (
            _ITEM.unpack_from(self._map, _ITEMS_AT + slot * _ITEM.size)
        )
        return StatusItem(
            slot=slot,
            phase=Phase(phase) if phase <= Phase.UNTIMED else Phase.QUEUED,
            link_run=link_run,
            chain_run=chain_run,
            limit_s=limit_s,
            chain_limit_s=chain_limit_s,
            epoch=epoch,
            phase_since_s=since_s,
            token=_text(token),
            uuid=_text(uuid),
            link=_text(link),
            chain=_text(chain),
        )

    def reset(self) -> None:
        """Clear everything except the metrics, for the child that replaces a dead one."""
        self._bytes[:_METRICS_AT] = bytes(_METRICS_AT)


def _rebuild(descriptor: Any) -> SharedStatus:
    return SharedStatus(descriptor.detach())


def _text(field: bytes) -> str:
    return field.rstrip(b"\0").decode("utf-8", "ignore")

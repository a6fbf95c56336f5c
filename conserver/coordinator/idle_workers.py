"""The roster: which workers of this host want work, and who has been rung for it.

A worker that wants work says so (process/wakeup.py) and is then idle here until its claim is
answered with items. Ringing sends one idle worker to Redis. It stays rung until it has said how its
claim went; if it is gone by then, passes, or does not say anything for a second, the next idle one
is sent instead, because something waits for it. Which of its chains have room only the worker
knows, from one moment to the next: so nobody asks before, and whoever has none passes on.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from conserver.process import wakeup
from conserver.process.shared_status import State

if TYPE_CHECKING:
    from conserver.process.messages import Message
    from conserver.process.shared_status import SharedStatus

RING_TIMEOUT_S = 1.0
_PACKET_BYTES_MAX = 256


class _Ring(NamedTuple):
    """A worker that was sent, for whom, and by when it should have answered.

    tried: the workers that were sent before it.
    """

    answered: asyncio.Future[bool]
    overdue: asyncio.TimerHandle
    tried: frozenset[int]


class IdleWorkers:
    """The workers by their slots. Everything here happens on the event loop's thread.

    `wanted` is set while a worker is idle that nobody has rung; `suspects` is set when a worker
    has met suspects, and cleared by whoever has looked after them.
    """

    def __init__(self, ends: Sequence[socket.socket], statuses: Sequence[SharedStatus]) -> None:
        """Our ends of the workers' sockets, and their pages, in the order of the slots 1..N."""
        self._ends = dict(enumerate(ends, 1))
        self._statuses = dict(enumerate(statuses, 1))
        self._consumers: dict[int, str] = {}
        self._idle: dict[int, None] = {}  # in the order of their word, the latest last
        self._rung: dict[int, _Ring] = {}
        self._gone: set[int] = set()
        self._retired = False
        self.wanted = asyncio.Event()
        self.suspects = asyncio.Event()
        self.on_change: Callable[[], None] = lambda: None
        """Called after `wanted` was set or cleared."""

    @property
    def idle(self) -> frozenset[int]:
        """The slots of the workers that want work, those that were rung included."""
        return frozenset(self._idle)

    @property
    def gone(self) -> frozenset[int]:
        """The slots whose sockets have ended: neither worker nor supervisor holds the other end."""
        return frozenset(self._gone)

    def listen(self) -> None:
        """Take what the workers say from now on."""
        loop = asyncio.get_running_loop()
        for slot, end in self._ends.items():
            loop.add_reader(end, self._read, slot)

    def retire(self) -> None:
        """Nobody is idle from now on, so nobody is rung; only `gone` is kept up."""
        self._retired = True
        for slot in self._ends:
            self.dismiss(slot)

    def close(self) -> None:
        """Listen no more."""
        loop = asyncio.get_running_loop()
        for end in self._ends.values():
            loop.remove_reader(end)

    def introduce(self, slot: int, consumer: str) -> None:
        """Another worker takes a slot. What its predecessor has said is void."""
        if self._consumers.get(slot) == consumer:
            return
        self._consumers[slot] = consumer
        self._read(slot, heed=False)
        self.dismiss(slot)

    def hear_state(self, message: Message) -> None:
        """The supervisor's state message: a coordinator that replaces another learns who is who."""
        for worker in message.get("workers", ()):
            if worker["consumer"]:
                self.introduce(worker["slot"], worker["consumer"])

    def leave(self, consumer: str) -> None:
        """A consumer has died."""
        for slot, present in self._consumers.items():
            if present == consumer:
                self.dismiss(slot)

    def dismiss(self, slot: int) -> None:
        """The worker of a slot is gone; what it had been rung for, another one gets."""
        self._idle.pop(slot, None)
        self._unlist(slot)
        self._tell()

    def ring(self) -> asyncio.Future[bool]:
        """Send one idle worker to claim.

        Returns:
            A future that is true when the claim of a rung worker has been answered, or all idle
            ones have passed; and false at once, or as soon as it turns out, when no idle worker is
            left.
        """
        answered: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._send_someone(answered, frozenset())
        return answered

    def order_empty(self, slot: int) -> bool:
        """Order a worker to run itself empty. False if it does not read."""
        return self._say(slot, wakeup.EMPTY)

    def hear(self, slot: int, packet: bytes) -> None:
        """What a worker says: a word or several, and the consumer that says it."""
        said = packet.rstrip(b"0123456789abcdef")
        consumer = packet[len(said) :].decode()
        stale = consumer and self._consumers.get(slot, consumer) != consumer
        if stale or self._retired:
            return
        for number in said:
            word = bytes((number,))
            if word == wakeup.SUSPECTS:
                self.suspects.set()
                continue
            self._idle.pop(slot, None)
            if word in (wakeup.IDLE, wakeup.PASSED):
                self._idle[slot] = None
            if word in (wakeup.PASSED, wakeup.BUSY):
                self._unlist(slot)
            else:
                self._answered(slot)
            if word == wakeup.MORE:
                self.ring()
        self._tell()

    def _read(self, slot: int, heed: bool = True) -> None:
        while True:
            try:
                packet = self._ends[slot].recv(_PACKET_BYTES_MAX)
            except (BlockingIOError, InterruptedError):
                return
            except ConnectionError:
                packet = b""
            if not packet:
                # Its end stays readable for ever. The supervisor holds the other one too, so this
                # means that both are gone.
                asyncio.get_running_loop().remove_reader(self._ends[slot])
                self._gone.add(slot)
                self.dismiss(slot)
                return
            if heed:
                self.hear(slot, packet)

    def _say(self, slot: int, word: bytes) -> bool:
        try:
            self._ends[slot].send(word)
        except (BlockingIOError, ConnectionError):
            return False
        return True

    def _send_someone(self, answered: asyncio.Future[bool], tried: frozenset[int]) -> None:
        for slot in self._by_fitness(tried):
            if self._say(slot, wakeup.WAKE):
                loop = asyncio.get_running_loop()
                overdue = loop.call_later(RING_TIMEOUT_S, self.dismiss, slot)
                self._rung[slot] = _Ring(answered, overdue, tried)
                break
            del self._idle[slot]
        else:
            if not answered.done():
                # Those that passed look again by themselves, as soon as they have room.
                answered.set_result(bool(tried & self._idle.keys()))
        self._tell()

    def _by_fitness(self, tried: frozenset[int]) -> list[int]:
        """The idle ones that were not rung, nor sent for this before, the fittest first.

        Those that hold nothing come before those that could take one more beside what they run;
        among equals the latest to become idle: its models and caches are warm, and the others may
        be swapped out in peace.
        """
        taken = tried | self._rung.keys()
        free = [slot for slot in reversed(self._idle) if slot not in taken]
        return sorted(free, key=lambda slot: self._statuses[slot].state is not State.IDLE)

    def _answered(self, slot: int) -> None:
        ring = self._rung.pop(slot, None)
        if ring is not None:
            ring.overdue.cancel()
            if not ring.answered.done():
                ring.answered.set_result(True)

    def _unlist(self, slot: int) -> None:
        ring = self._rung.pop(slot, None)
        if ring is not None:
            ring.overdue.cancel()
            self._send_someone(ring.answered, ring.tried | {slot})

    def _tell(self) -> None:
        wanted = any(slot not in self._rung for slot in self._idle)
        if wanted == self.wanted.is_set():
            return
        if wanted:
            self.wanted.set()
        else:
            self.wanted.clear()
        self.on_change()

"""Knows which workers of this host are idle, and wakes one of them.

A worker reports that it is idle or busy (process/wakeup.py). A woken worker claims once, and counts
as busy until it reports again. Only the worker knows whether its chains have room for an item. So a
list waiter waits for the woken worker's answer, and then looks in Redis whether the item was
claimed.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING

from conserver.process import wakeup
from conserver.process.shared_status import State

if TYPE_CHECKING:
    from conserver.process.messages import Message
    from conserver.process.shared_status import SharedStatus

ANSWER_TIMEOUT_S = 1.0
"""How long a woken worker may take to answer. A killed or hanging worker never answers."""
_PACKET_BYTES_MAX = 256


class IdleWorkers:
    """The workers, by child slot. Used on the event loop's thread only.

    Attributes:
        any_idle: set while a worker is idle.
        suspects: set when suspects were reported or returned; suspects.py clears it.
        on_change: called after any_idle was set or cleared.
    """

    def __init__(self, ends: Sequence[socket.socket], statuses: Sequence[SharedStatus]) -> None:
        """ends: the coordinator's ends of the sockets to the workers. Both are in the order of the
        slots 1..N.
        """
        self._ends = dict(enumerate(ends, 1))
        self._statuses = dict(enumerate(statuses, 1))
        self._consumers: dict[int, str] = {}
        self._idle: dict[int, None] = {}  # in the order in which they became idle, the latest last
        self._answers: dict[int, asyncio.Future[None]] = {}  # of the workers that were woken
        self._gone: set[int] = set()
        self._retired = False
        self.any_idle = asyncio.Event()
        self.suspects = asyncio.Event()
        self.on_change: Callable[[], None] = lambda: None

    @property
    def idle(self) -> frozenset[int]:
        """The slots of the idle workers."""
        return frozenset(self._idle)

    @property
    def gone(self) -> frozenset[int]:
        """The slots whose socket was closed: worker and supervisor have both ended."""
        return frozenset(self._gone)

    def listen(self) -> None:
        """Start to receive the workers' messages."""
        loop = asyncio.get_running_loop()
        for slot, end in self._ends.items():
            loop.add_reader(end, self._read, slot)

    def retire(self) -> None:
        """Wake no worker from now on. `gone` is still updated."""
        self._retired = True
        for slot in self._ends:
            self.remove(slot)

    def close(self) -> None:
        """Stop receiving messages."""
        loop = asyncio.get_running_loop()
        for end in self._ends.values():
            loop.remove_reader(end)

    def assign(self, slot: int, consumer: str) -> None:
        """Note that a new worker has a slot, and discard messages of the slot's earlier worker."""
        if self._consumers.get(slot) == consumer:
            return
        self._consumers[slot] = consumer
        self._read(slot, discard=True)
        self.remove(slot)

    def read_state(self, message: Message) -> None:
        """Learn the workers from the supervisor's state message, as a new coordinator must."""
        for worker in message.get("workers", ()):
            if worker["consumer"]:
                self.assign(worker["slot"], worker["consumer"])

    def consumer_died(self, consumer: str) -> None:
        """As `remove`, for a caller that does not know the slot."""
        for slot, present in self._consumers.items():
            if present == consumer:
                self.remove(slot)

    def remove(self, slot: int) -> None:
        """Count the worker of a slot as not idle, and stop waiting for its answer."""
        self._idle.pop(slot, None)
        self._answered(slot)
        self._notify()

    def wake(self, passed_over: Collection[int] = ()) -> int | None:
        """Wake one idle worker. The worker counts as idle again when it reports so.

        Args:
            passed_over: slots of workers that must not be woken.

        Returns:
            The worker's slot; None if no idle worker is left besides those passed over.
        """
        for slot in self._by_preference(passed_over):
            del self._idle[slot]
            if self._send(slot, wakeup.WAKE):
                self._answers[slot] = asyncio.get_running_loop().create_future()
                self._notify()
                return slot
        self._notify()
        return None

    async def await_answer(self, slot: int) -> None:
        """Wait until a woken worker has answered or is gone, at most ANSWER_TIMEOUT_S."""
        if slot in self._answers:
            await asyncio.wait([self._answers[slot]], timeout=ANSWER_TIMEOUT_S)

    def order_to_finish_first(self, slot: int) -> None:
        """Order a worker to claim nothing until it holds no item."""
        self._send(slot, wakeup.FINISH_FIRST)

    def receive(self, slot: int, packet: bytes) -> None:
        """Take in a packet from a worker. Each byte is one message."""
        if self._retired:
            return
        for number in packet:
            message = bytes((number,))
            if message == wakeup.SUSPECTS:
                self.suspects.set()
                continue
            self._idle.pop(slot, None)
            if message == wakeup.IDLE:
                self._idle[slot] = None
            self._answered(slot)
        self._notify()

    def _read(self, slot: int, discard: bool = False) -> None:
        while True:
            try:
                packet = self._ends[slot].recv(_PACKET_BYTES_MAX)
            except (BlockingIOError, InterruptedError):
                return
            except ConnectionError:
                packet = b""
            if not packet:
                # A closed socket stays readable for ever. (Worker and supervisor have both ended:
                # both hold its other end.)
                asyncio.get_running_loop().remove_reader(self._ends[slot])
                self._gone.add(slot)
                self.remove(slot)
                return
            if not discard:
                self.receive(slot, packet)

    def _send(self, slot: int, message: bytes) -> bool:
        try:
            self._ends[slot].send(message)
        except (BlockingIOError, ConnectionError):
            return False
        return True

    def _by_preference(self, passed_over: Collection[int]) -> list[int]:
        """The slots of the idle workers, without `passed_over`, the best first: those that hold no
        item, then the one that became idle last, because its caches are warm.
        """
        slots = [slot for slot in reversed(self._idle) if slot not in passed_over]
        return sorted(slots, key=lambda slot: self._statuses[slot].state is not State.IDLE)

    def _answered(self, slot: int) -> None:
        answer = self._answers.pop(slot, None)
        if answer is not None:
            answer.set_result(None)

    def _notify(self) -> None:
        """Bring any_idle up to date."""
        if bool(self._idle) == self.any_idle.is_set():
            return
        if self._idle:
            self.any_idle.set()
        else:
            self.any_idle.clear()
        self.on_change()

"""Signals: handlers only record, loops act.

`SignalInbox` (the supervisor) keeps which signals came and when; `Stop` (its children) keeps only
that
one came. Both have a descriptor that becomes readable on a signal, for select, selectors or
asyncio's add_reader alike.

The interpreter's wakeup descriptor is used besides a handler in Python, because a signal may be
delivered to any thread: the handler runs in the main thread, which a select would keep asleep.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterable, Iterator
from types import FrameType

STOP_SIGNALS = frozenset({signal.SIGTERM, signal.SIGINT})
OUR_SIGNALS = STOP_SIGNALS | {signal.SIGHUP}


class _Wakeup:
    """A pipe that the interpreter writes to whenever a signal arrives."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def fileno(self) -> int:
        """The descriptor to wait on."""
        return self._read

    def clear(self) -> None:
        """Empty the pipe. Clear first, then look at what was recorded: nothing is missed so."""
        with contextlib.suppress(BlockingIOError):
            while os.read(self._read, 512):
                pass

    def listen(self, signals: Iterable[int]) -> None:
        """Take these signals from now on. Main thread only."""
        for number in signals:
            signal.signal(number, self._record)
        signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)

    def close(self) -> None:
        """Give the pipe back; the caller has ended the listening."""
        os.close(self._read)
        os.close(self._write)

    def _record(self, number: int, _frame: FrameType | None) -> None:
        raise NotImplementedError


class Stop(_Wakeup):
    """A child's "please end": set by SIGTERM or SIGINT, whoever sent it, and never unset.

    Wait on `fileno()`; when it is readable call `clear()`, then look at `requested`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.requested = False

    def request(self) -> None:
        """Ask for the end without a signal."""
        self.requested = True
        with contextlib.suppress(BlockingIOError):
            os.write(self._write, b"\0")

    def _record(self, number: int, _frame: FrameType | None) -> None:
        self.requested = True


class SignalInbox(_Wakeup):
    """The supervisor's signals with their times, for as long as `listening()` lasts."""

    def __init__(self) -> None:
        super().__init__()
        self._arrived: list[tuple[int, float]] = []

    def take(self) -> list[tuple[int, float]]:
        """What has arrived since the last call: (signal number, time.monotonic())."""
        arrived: list[tuple[int, float]] = []
        while self._arrived:
            arrived.append(self._arrived.pop(0))
        return arrived

    @contextlib.contextmanager
    def listening(self, signals: Iterable[int] = OUR_SIGNALS) -> Iterator[None]:
        """Take these signals, and give them back to their former handlers at the end."""
        numbers = tuple(signals)
        former = {number: signal.getsignal(number) for number in numbers}
        former_wakeup = signal.set_wakeup_fd(-1)
        self.listen(numbers)
        try:
            yield
        finally:
            signal.set_wakeup_fd(former_wakeup)
            for number, handler in former.items():
                signal.signal(number, handler)

    def _record(self, number: int, _frame: FrameType | None) -> None:
        self._arrived.append((number, time.monotonic()))


@contextlib.contextmanager
def held_back(signals: Iterable[int] = OUR_SIGNALS) -> Iterator[None]:
    """Let these signals wait while a child is born.

    The child inherits the mask, also through exec, and lets them in when it is ready to take them
    (`let_in`): none is lost, and none finds the interpreter's own handler half-way through an
    import.
    """
    former = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, former)


def let_in(signals: Iterable[int] = OUR_SIGNALS) -> None:
    """The other half of `held_back`, in the child."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)

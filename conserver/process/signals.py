"""Signal handlers that only record; a main loop reacts.

`SignalInbox` (supervisor) records which signals arrived and when. `StopFlag` (children) records
only that SIGTERM or SIGINT has arrived. Both have a descriptor that becomes readable on a signal,
for poll, selectors or asyncio's add_reader.

The descriptor is the interpreter's wakeup descriptor. A Python handler alone is not enough: the
kernel may deliver a signal to any thread, while handlers run in the main thread, which would stay
asleep in its select.
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


class _SignalPipe:
    """A pipe that the interpreter writes to whenever a signal arrives."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def fileno(self) -> int:
        """The descriptor to wait on."""
        return self._read

    def clear(self) -> None:
        """Empty the pipe. Call this before looking at what was recorded, or a signal is missed."""
        with contextlib.suppress(BlockingIOError):
            while os.read(self._read, 512):
                pass

    def listen(self, signals: Iterable[int]) -> None:
        """Record these signals from now on. Main thread only."""
        for number in signals:
            signal.signal(number, self._record)
        signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)

    def close(self) -> None:
        """Close the pipe; the caller has restored the handlers."""
        os.close(self._read)
        os.close(self._write)

    def _record(self, number: int, _frame: FrameType | None) -> None:
        raise NotImplementedError


class StopFlag(_SignalPipe):
    """Set for good once a child has received SIGTERM or SIGINT.

    Wait on `fileno()`; when it is readable call `clear()`, then look at `requested`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.requested = False

    def _record(self, number: int, _frame: FrameType | None) -> None:
        self.requested = True


class SignalInbox(_SignalPipe):
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
        """Record these signals, and restore the former handlers at the end."""
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
def signals_blocked(signals: Iterable[int] = OUR_SIGNALS) -> Iterator[None]:
    """Block these signals while a child process is created.

    The child inherits the mask, also through exec, and calls `unblock_signals` once its handlers
    are installed. So no signal is lost, and none raises KeyboardInterrupt half-way through an
    import.
    """
    former = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, former)


def unblock_signals(signals: Iterable[int] = OUR_SIGNALS) -> None:
    """The child's counterpart of `signals_blocked`."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)

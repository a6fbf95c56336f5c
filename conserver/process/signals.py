"""Signal handlers that only record the signal. A main loop reacts to it.

`SignalInbox` (supervisor) records which signals arrived and when. `StopFlag` (children) records
only that SIGTERM or SIGINT has arrived. Both have a descriptor that becomes readable on a signal,
for poll, selectors or asyncio's add_reader.

The descriptor belongs to a pipe that the interpreter writes to (signal.set_wakeup_fd). Without the
pipe, a signal may go unnoticed: Python runs handlers in the main thread only, but the kernel may
deliver the signal to another thread, and the main thread then stays asleep in its select.
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
        """Empty the pipe. Call this before you read the recorded signals, or a signal is missed."""
        with contextlib.suppress(BlockingIOError):
            while os.read(self._read, 512):
                pass

    def listen(self, signals: Iterable[int]) -> None:
        """Record these signals from now on. Main thread only."""
        for number in signals:
            signal.signal(number, self._record)
        signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)

    def close(self) -> None:
        """Close the pipe. The caller must have restored the handlers."""
        os.close(self._read)
        os.close(self._write)

    def _record(self, number: int, _frame: FrameType | None) -> None:
        raise NotImplementedError


class StopFlag(_SignalPipe):
    """Whether a child has received SIGTERM or SIGINT. It is never reset.

    Wait until `fileno()` is readable. Then call `clear()`, and read `requested`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.requested = False

    def _record(self, number: int, _frame: FrameType | None) -> None:
        self.requested = True


class SignalInbox(_SignalPipe):
    """The signals of the supervisor, with their times. Records only inside `listening()`."""

    def __init__(self) -> None:
        super().__init__()
        self._arrived: list[tuple[int, float]] = []

    def take(self) -> list[tuple[int, float]]:
        """The signals since the last call, as (signal number, time.monotonic())."""
        arrived: list[tuple[int, float]] = []
        while self._arrived:
            arrived.append(self._arrived.pop(0))
        return arrived

    @contextlib.contextmanager
    def listening(self, signals: Iterable[int] = OUR_SIGNALS) -> Iterator[None]:
        """Record these signals. At the end of the block, restore the former handlers."""
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

    The child inherits the signal mask, also through exec. It calls `unblock_signals` once its
    handlers are installed. So no signal is lost, and no signal raises KeyboardInterrupt in the
    middle of an import.
    """
    former = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, former)


def unblock_signals(signals: Iterable[int] = OUR_SIGNALS) -> None:
    """Unblock the signals in a child that was created inside `signals_blocked`."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)

"""The main loop of the transcriber process. It connects workers with the lanes.

The main thread reads the workers' messages, passes jobs to the lanes and sends the answers; it
never computes. It gives slots to calls in the order of their requests. If a batch takes far longer
than any before, the main thread stops the heartbeat, and the supervisor replaces the process.
"""

from __future__ import annotations

import contextlib
import os
import resource
import selectors
import socket
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field

from conserver.media.speech.batching import Batcher
from conserver.media.speech.lanes import Failed, Job, Lanes, Outcome
from conserver.media.speech.meters import SpeechMeters
from conserver.media.speech.models import Models
from conserver.media.speech.service_options import ServiceOptions
from conserver.media.speech.windows import Answer, ModelInfo, WindowOptions
from conserver.media.speech.wire import SharedMel
from conserver.media.transcription.engine import Model
from conserver.process import memory, packets
from conserver.process.packets import Gone, Message
from conserver.telemetry import log

TICK_S = 0.5
MEMORY_EVERY_S = 5.0
# A batch may take this many times as long as the longest batch before it, but at least
# _OVERDUE_S_MIN.
_OVERDUE_TIMES = 20
_OVERDUE_S_MIN = 60.0
# The limit for the first batch. On a new GPU it compiles for minutes.
_OVERDUE_S_FIRST = 1800.0
_TOO_MANY_FILES = Failed("a transcriber has too many open files: raise its hard limit", 30.0)


@dataclass(eq=False)
class _Connection:
    """The connection of one call of a worker."""

    socket: socket.socket
    model: Model | None = None
    admitted: bool = False
    open: bool = True
    unsent: deque[Message] = field(default_factory=deque)
    told: dict[int, Job] = field(default_factory=dict)
    """Jobs whose detected language was sent to the worker, which chooses the call's language."""


class Service:
    """The main loop of a transcriber."""

    def __init__(
        self,
        listener: socket.socket,
        options: ServiceOptions,
        beat: Callable[[], None],
        count: Callable[[int], None],
        show: Callable[[int, int, int], None],
        meters: SpeechMeters | None = None,
        look_at_memory: Callable[[], None] | None = None,
    ) -> None:
        """
        Args:
            listener: the non-blocking socket to which workers connect.
            options: how the device is used.
            beat: writes the heartbeat; called at least once a second, unless a batch is overdue.
            count: called with the number of answered windows.
            show: called with the numbers of slots, of calls in a slot, and of calls that wait.
            meters: count the computed windows.
            look_at_memory: called every few seconds, to measure the memory in use.
        """
        self._show_memory = look_at_memory
        self._memory_due_s = 0.0
        self._trimmed_at_rows = 0
        self._options = options
        self._beat = beat
        self._count = count
        self._show = show
        self._listener = listener
        self._wakeup = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._selector = selectors.DefaultSelector()
        self._connections: set[_Connection] = set()
        self._queue: deque[_Connection] = deque()
        self._log = log.get_logger()
        self._models = Models(
            workers=options.lanes,
            threads=options.threads,
            ahead=2 * options.rows * options.lanes,
            memory_bytes=options.memory_bytes,
            allow_cpu=options.allow_cpu,
        )
        batcher: Batcher[Job] = Batcher(options.rows, options.gather_s)
        self._lanes = Lanes(
            self._models, batcher, options.lanes, self._tell_progress, self._wake, meters
        )
        self._idle_since_s = time.monotonic()
        self.idle = False
        """Whether `run` has returned because of `idle_s`."""

    def run(self, ready: Callable[[], None], ended: Callable[[], bool], fds: Iterable[int]) -> int:
        """Serve until `ended`, or until idle for too long.

        Args:
            ready: called once the first models are loaded.
            ended: called after every event; True ends the loop.
            fds: descriptors that wake the loop, so that it calls `ended`.

        Returns:
            The exit code.
        """
        _allow_many_files()
        self._selector.register(self._wakeup, selectors.EVENT_READ, self._collect)
        for fd in fds:
            self._selector.register(fd, selectors.EVENT_READ, _look)
        self._lanes.start()
        self._admit()
        for model in self._options.models:
            self._lanes.put(Job(self, 0, model))
        to_load = len(self._options.models)
        while not ended():
            if to_load == 0:
                to_load = -1
                self._idle_since_s = time.monotonic()  # Loading time is no idle time.
                self._selector.register(self._listener, selectors.EVENT_READ, self._accept)
                ready()
            if self._healthy():
                self._beat()
            self._look_at_memory()
            for key, _ in self._selector.select(TICK_S):
                key.data()
            loaded = self._hand_out()
            to_load -= loaded if to_load > 0 else 0
            if to_load < 0 and self._is_idle():
                self.idle = True
                break
        return 0

    def _look_at_memory(self) -> None:
        now_s = time.monotonic()
        if now_s < self._memory_due_s:
            return
        self._memory_due_s = now_s + MEMORY_EVERY_S
        if not self._connections and self._trimmed_at_rows != self._lanes.rows:
            self._trimmed_at_rows = self._lanes.rows
            memory.trim_heap()  # Half of its memory is free heap after batches.
        if self._show_memory is not None:
            self._show_memory()

    def _is_idle(self) -> bool:
        if self._connections:
            self._idle_since_s = time.monotonic()
        idle_s = self._options.idle_s
        return 0 < idle_s < time.monotonic() - self._idle_since_s

    def _healthy(self) -> bool:
        longest_s = self._lanes.longest_s
        limit_s = max(_OVERDUE_S_MIN, _OVERDUE_TIMES * longest_s) if longest_s else _OVERDUE_S_FIRST
        return self._lanes.at_work_s(time.monotonic()) < limit_s

    def _wake(self) -> None:
        os.eventfd_write(self._wakeup, 1)

    def _collect(self) -> None:
        try:
            os.eventfd_read(self._wakeup)
        except BlockingIOError:
            return

    # Messages from workers.

    def _accept(self) -> None:
        accepted = packets.accept(self._listener)
        if accepted is None:
            return
        connection = _Connection(accepted)
        self._connections.add(connection)

        def hear() -> None:
            self._hear(connection)

        self._selector.register(accepted, selectors.EVENT_READ, hear)

    def _hear(self, connection: _Connection) -> None:
        try:
            self._send_rest(connection)
            while connection.open:
                received = packets.receive(connection.socket)
                if received is None:
                    break
                self._take(connection, *received)
        except Gone:
            self._close(connection)

    def _take(self, connection: _Connection, message: Message, descriptor: int) -> None:
        match message["type"]:
            case "open":
                connection.model = model = Model(**message["model"])
                info = self._models.info(model)
                if info is not None:
                    self._send(connection, {"type": "info", **info.dump()})
                else:
                    self._lanes.put(Job(connection, 0, model))
            case "begin":
                self._queue.append(connection)
                self._admit()
            case "window" if descriptor < 0:  # The kernel passes none beyond the limit.
                self._send(connection, {"type": "failed", **asdict(_TOO_MANY_FILES)})
            case "window" if connection.model is not None:
                self._lanes.put(_job(connection, connection.model, message, SharedMel(descriptor)))
            case "speak":
                for number in message["ids"]:
                    job = connection.told.pop(number, None)
                    if job is not None and job.options is not None:
                        job.options = job.options.speaking(message["language"])
                        self._lanes.put(job)
            case other:
                self._log.error("unknown_message", type=other)
                self._close(connection)

    def _admit(self) -> None:
        """Give free slots to waiting calls, in order."""
        busy = sum(connection.admitted for connection in self._connections)
        while self._queue and busy < self._options.slot_count:
            connection = self._queue.popleft()
            connection.admitted = True
            busy += 1
            self._send(connection, {"type": "admitted"})
        self._show(self._options.slot_count, busy, len(self._queue))

    def _close(self, connection: _Connection) -> None:
        """Close a connection, because its call or its worker has ended."""
        if not connection.open:
            return
        connection.open = False
        self._connections.discard(connection)
        if connection in self._queue:
            self._queue.remove(connection)
        self._selector.unregister(connection.socket)
        connection.socket.close()
        self._lanes.drop(connection)
        for job in connection.told.values():
            job.close()
        self._admit()

    # Messages to workers.

    def _hand_out(self) -> int:
        """Send the results of the lanes. Returns how many of the first models are loaded."""
        loaded = 0
        while self._lanes.finished:
            job, outcome = self._lanes.finished.popleft()
            if not isinstance(job.call, _Connection):
                loaded += 1
                if isinstance(outcome, Failed):
                    self._log.error("model_not_loaded", model=job.model.name, reason=outcome.reason)
                continue
            if isinstance(outcome, Answer):
                self._count(1)
            if not job.call.open:
                job.close()
                self._lanes.drop(job.call)
            else:
                if isinstance(outcome, list):
                    job.call.told[job.number] = job
                self._send(job.call, _message(job, outcome))
        return loaded

    def _tell_progress(self, kind: str, jobs: Sequence[Job]) -> None:
        """Tell workers which windows a batch begins or puts back. Runs in a lane's thread. If this
        process dies, each worker makes suspects of its windows in a batch.
        """
        theirs: dict[_Connection, list[int]] = {}
        for job in jobs:
            if isinstance(job.call, _Connection) and job.options is not None:
                theirs.setdefault(job.call, []).append(job.number)
        for connection, numbers in theirs.items():
            try:
                packets.send(connection.socket, {"type": kind, "ids": numbers, "crowd": len(jobs)})
            except Gone:
                continue  # The main thread will notice the closed connection, too.

    def _send(self, connection: _Connection, message: Message) -> None:
        connection.unsent.append(message)
        try:
            self._send_rest(connection)
        except Gone:
            self._close(connection)

    def _send_rest(self, connection: _Connection) -> None:
        while connection.unsent:
            if not packets.send(connection.socket, connection.unsent[0]):
                break
            connection.unsent.popleft()
        if connection.open:
            events = selectors.EVENT_READ | (selectors.EVENT_WRITE if connection.unsent else 0)
            key = self._selector.get_key(connection.socket)
            if key.events != events:
                self._selector.modify(connection.socket, events, key.data)


def _allow_many_files() -> None:
    """Raise the limit of open files as far as allowed, because each waiting window is one."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):  # "Unlimited" is more than the kernel allows.
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _look() -> None:
    """The callback of a descriptor that only wakes the loop."""


def _job(connection: _Connection, model: Model, message: Message, mel: SharedMel) -> Job:
    return Job(
        call=connection,
        number=message["id"],
        model=model,
        options=WindowOptions.load(message["options"]),
        mel=mel,
        frames=message["frames"],
        suspicion=message["suspicion"],
        crowd=message["crowd"],
        trace=message.get("trace", ""),
    )


def _message(job: Job, outcome: Outcome) -> Message:
    match outcome:
        case Answer():
            return {"type": "answer", "id": job.number, "answer": outcome.dump()}
        case ModelInfo():
            return {"type": "info", **outcome.dump()}
        case Failed():
            return {"type": "failed", **asdict(outcome)}
        case languages:
            return {"type": "languages", "id": job.number, "languages": languages}

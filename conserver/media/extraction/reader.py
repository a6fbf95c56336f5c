"""The page reader: a process that opens documents and reads their pages, one at a time.

All page readers of a host accept from one socket, and the first free one takes the next page of any
worker. The document comes in shared memory. A file from a stranger may crash a library, or let it
run or allocate without end. So the kernel limits the time of each page (its signals kill the
process even while no Python code runs) and the memory of the process. A bad page therefore costs
only this page.

    request, with the descriptor of the document's memory
        {"type": "open", "key", "limits"}
        {"type": "page", "key", "limits", "number"}
    answers
        {"type": "started", "pid"}
        {"type": "opened", "kind", "count", "language"}
        {"type": "page"}, with a memfd that holds the `Page`
        {"type": "refused", "reason"}      the document, or this page, can never be read
        {"type": "failed", "reason"}       this machine cannot read it now

After the last answer the reader closes the connection.
"""

from __future__ import annotations

import contextlib
import os
import resource
import select
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import orjson

from conserver.errors import Retry
from conserver.media.extraction import kinds
from conserver.media.extraction.ocr import Ocr
from conserver.media.extraction.pages import Limits, OpenDocument, Page, Refused
from conserver.process import failpoints, packets
from conserver.process.packets import Gone, Message

MEMORY_BYTES = 2 << 30
IDLE_S = 120.0
"""A reader that has loaded models and gets no page for this time ends, to free its memory."""

PAGES_MAX = 2000
"""A reader is replaced after this many pages, because libraries leak memory."""

WAIT_FACTOR = 10
"""The limit of a page's elapsed time, as a multiple of the limit of its CPU time."""

_NICE = 5
_REQUEST_S = 5.0
_FORGET_S = 5.0
_BEAT_S = 0.5
_HEAD_BYTES = 1024
_OOM_SCORE = "800"


@dataclass(frozen=True, slots=True)
class ReaderOptions:
    """The limits and the device of a reader.

    Attributes:
        memory_bytes: the limit of its memory; 0 means none. Not used with a GPU, because a GPU's
            driver reserves more address space than any machine has memory.
        gpu: the CUDA device; None for the CPU.
    """

    memory_bytes: int = MEMORY_BYTES
    gpu: int | None = None
    idle_s: float = IDLE_S


def _nothing(*_: object) -> None:
    pass


class Reader:
    """The main loop of a page reader."""

    def __init__(
        self,
        listener: socket.socket,
        options: ReaderOptions,
        beat: Callable[[], None] = _nothing,
        count: Callable[[int], None] = _nothing,
        opener: Callable[[str, Limits], OpenDocument] | None = None,
    ) -> None:
        """
        Args:
            listener: a non-blocking socket, which all readers share.
            beat: writes the heartbeat; called twice a second, by another thread.
            count: called with 1 for each page that was read.
            opener: opens a document by its path; None for `open_document`.
        """
        self._listener = listener
        self._options = options
        self._beat = beat
        self._count = count
        self._opener = opener or open_document
        self._ocr = Ocr(options.gpu)
        self._key = ""
        self._open: OpenDocument | None = None
        self._pages = 0
        self._worn = False
        self._used_at_s = time.monotonic()

    def run(self, ended: Callable[[], bool], descriptors: list[int]) -> None:
        """Serve until `ended`, until PAGES_MAX, or, with loaded models, until idle for IDLE_S.

        Args:
            ended: whether to stop; called when one of the descriptors is readable.
        """
        _limit(self._options)
        _watch(self._beat, descriptors)
        poll = select.poll()
        for descriptor in (self._listener.fileno(), *descriptors):
            poll.register(descriptor, select.POLLIN)
        while not self._worn:
            ready = poll.poll(1000)
            if any(descriptor != self._listener.fileno() for descriptor, _ in ready) and ended():
                return
            connection = packets.accept(self._listener) if ready else None
            if connection is None:
                if self._rest():
                    return
                continue
            with connection:
                connection.settimeout(_REQUEST_S)
                with contextlib.suppress(Gone, TimeoutError):
                    self._serve(connection)
            self._used_at_s = time.monotonic()

    def _rest(self) -> bool:
        """Close the document while no page waits. Returns whether to end."""
        idle_s = time.monotonic() - self._used_at_s
        if idle_s > _FORGET_S:
            self._close()
        return self._pages > 0 and idle_s > self._options.idle_s

    def _serve(self, connection: socket.socket) -> None:
        received = packets.receive(connection)
        if received is None:
            return
        request, memory = received
        try:
            limits = Limits.load(request["limits"])
            packets.send(connection, {"type": "started", "pid": os.getpid()})
            with _time_limit(limits.page_timeout_s):
                answer, page = self._answer(request, memory, limits)
        finally:
            if memory >= 0:
                os.close(memory)
        self._count(1)
        self._pages += 1
        self._worn = self._worn or self._pages >= PAGES_MAX
        if page is None:
            packets.send(connection, answer)
            return
        result = memory_of(orjson.dumps(page.dump()))
        try:
            packets.send(connection, answer, result)
        finally:
            os.close(result)

    def _answer(self, request: Message, memory: int, limits: Limits) -> tuple[Message, Page | None]:
        try:
            document = self._opened(request["key"], memory, limits)
            if request["type"] == "open":
                opened = {"kind": document.kind, "count": document.count}
                return {"type": "opened", **opened, "language": document.language}, None
            failpoints.at("page")
            page = document.page(request["number"], limits, self._ocr)
            return {"type": "page"}, page.cut(limits.page_characters)
        except Refused as error:
            return {"type": "refused", "reason": str(error)}, None
        except Retry as error:
            return {"type": "failed", "reason": str(error)}, None
        except MemoryError:
            self._worn = True
            return {"type": "refused", "reason": _too_large(self._options.memory_bytes)}, None
        except Exception as error:  # noqa: BLE001 - a library's error on a stranger's file
            if _is_memory(error):
                self._worn = True
                return {"type": "refused", "reason": _too_large(self._options.memory_bytes)}, None
            return {
                "type": "refused",
                "reason": f"{type(error).__name__}: {str(error)[:300]}",
            }, None

    def _opened(self, key: str, memory: int, limits: Limits) -> OpenDocument:
        """The document. It stays open for its next page."""
        if self._open is None or self._key != key:
            self._close()
            self._open, self._key = self._opener(f"/proc/self/fd/{memory}", limits), key
        return self._open

    def _close(self) -> None:
        if self._open is not None:
            self._open.close()
            self._open = None


def open_document(path: str, limits: Limits) -> OpenDocument:
    """Open a file. Its bytes decide the kind, not its media type or name.

    Raises:
        Refused: it is empty, of an unsupported kind, damaged, encrypted, or beyond a limit.
    """
    with Path(path).open("rb") as file:
        head = file.read(_HEAD_BYTES)
    if not head:
        raise Refused("the document is empty")
    match kinds.kind_of(head):
        case kinds.PDF:
            from conserver.media.extraction.pdf import PdfFile

            return PdfFile(path, limits)
        case kinds.IMAGE:
            from conserver.media.extraction.pictures import Picture

            return Picture(path, limits)
        case kinds.ZIP:
            from conserver.media.extraction.office import OfficeText

            return OfficeText(path, limits)
        case kinds.OLE:
            raise Refused(
                "the office file is encrypted or of an old format (doc, xls): only docx and odt"
                " without a password are read"
            )
    raise Refused("the content is neither a PDF nor a picture nor an office text")


def memory_of(content: bytes) -> int:
    """Copies bytes to shared memory. Returns its descriptor, at position 0."""
    descriptor = os.memfd_create("conserver-document", os.MFD_CLOEXEC)
    data = memoryview(content)
    while data:
        data = data[os.write(descriptor, data) :]
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


@contextlib.contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    """Let the kernel kill this process if the `with` block exceeds a time.

    The limit is CPU time, because on a busy machine a good page takes long, too. A second limit,
    WAIT_FACTOR times as long, is elapsed time, for code that waits for ever.
    """
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    signal.setitimer(signal.ITIMER_REAL, seconds * WAIT_FACTOR)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)


def _limit(options: ReaderOptions) -> None:
    """Limit the memory, and let the kernel kill this process first if the machine has none left."""
    os.nice(_NICE)  # Workers and the API get the CPU first.
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(_OOM_SCORE, encoding="ascii")
    if options.memory_bytes and options.gpu is None:
        with contextlib.suppress(OSError, ValueError):  # A stricter limit is set already.
            resource.setrlimit(resource.RLIMIT_DATA, (options.memory_bytes, options.memory_bytes))
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _watch(beat: Callable[[], None], descriptors: list[int]) -> None:
    """Write the heartbeat, and end the process when its parent ends, also within a page."""

    def watch() -> None:
        poll = select.poll()
        for descriptor in descriptors:
            poll.register(descriptor, 0)  # Report only that the other end is closed.
        while True:
            beat()
            if any(event & select.POLLHUP for _, event in poll.poll(_BEAT_S * 1000)):
                os._exit(0)

    threading.Thread(target=watch, name="watch", daemon=True).start()


def _too_large(limit: int) -> str:
    return f"it takes more memory than a page reader has ({limit >> 20} MiB)"


def _is_memory(error: Exception) -> bool:
    """Whether an error of a library means that memory is full, by its text."""
    text = str(error)
    return "bad_alloc" in text or "Insufficient memory" in text or "Failed to allocate" in text

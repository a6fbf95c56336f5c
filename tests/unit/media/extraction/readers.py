"""Page readers for tests: real processes, with documents that misbehave on order.

A document is JSON, one string per page: its text, or "crash", "hang", "spin", "greedy", "damaged"
or "away". The first page "unopenable" crashes the process that opens it.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from conserver.errors import Retry
from conserver.media.extraction.pages import Limits, Page, Recognize, Refused
from conserver.media.extraction.reader import Reader, ReaderOptions
from conserver.process import packets

MEMORY_BYTES = 1 << 30


class StagedDocument:
    """A document that does what its pages say."""

    kind = "pdf"
    language = "en"

    def __init__(self, path: str, _limits: Limits) -> None:
        self._pages = json.loads(Path(path).read_bytes())
        self.count = len(self._pages)
        if self._pages[0] == "unopenable":
            os.kill(os.getpid(), signal.SIGSEGV)

    def page(self, index: int, _limits: Limits, _recognize: Recognize) -> Page:
        """Read one."""
        match self._pages[index]:
            case "crash":
                os.kill(os.getpid(), signal.SIGSEGV)
            case "hang":
                threading.Event().wait()
            case "spin":
                while True:
                    pass
            case "greedy":
                bytearray(MEMORY_BYTES * 2)
            case "damaged":
                raise Refused("the page is damaged")
            case "away":
                raise Retry(None, "the OCR models cannot be loaded: no such file")
        return Page(f"{self._pages[index]}", "ocr", 0.9, "en")

    def close(self) -> None:
        """Nothing is open."""


def staged(*pages: str) -> bytes:
    """A document with these pages."""
    return json.dumps(pages).encode()


class StagedReaders:
    """Reader processes that open staged documents; replaced when they die, as a supervisor does."""

    def __init__(self, count: int) -> None:
        self.address = f"conserver-test-{os.urandom(8).hex()}"
        self.count = count
        self.started = 0
        self.processes: list[BaseProcess] = []
        self._listener = packets.listen(self.address)
        self._context = multiprocessing.get_context("spawn")
        self._lock = threading.Lock()
        self._lifeline, self._theirs = self._context.Pipe()

    def ensure(self) -> None:
        """Start those that are missing."""
        with self._lock:
            self.processes = [one for one in self.processes if one.is_alive()]
            while len(self.processes) < self.count:
                process = self._context.Process(target=_serve, args=(self._listener, self._theirs))
                process.start()
                self.started += 1
                self.processes.append(process)

    def close(self) -> None:
        """End them."""
        for process in self.processes:
            process.kill()
            process.join()
        self._lifeline.close()
        self._theirs.close()
        self._listener.close()


@contextmanager
def staged_readers(count: int = 2) -> Iterator[StagedReaders]:
    """Readers for a test."""
    readers = StagedReaders(count)
    try:
        yield readers
    finally:
        readers.close()


def _serve(listener: socket.socket, lifeline: Connection) -> None:
    listener.setblocking(False)
    options = ReaderOptions(memory_bytes=MEMORY_BYTES)
    Reader(listener, options, opener=StagedDocument).run(lambda: True, [lifeline.fileno()])


def texts(pages: Sequence[Any]) -> list[str]:
    """The texts of pages."""
    return [page.text for page in pages]

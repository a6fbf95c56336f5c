"""Lets page readers read a document, and collects its pages. Runs in the thread of the link.

1. Puts the document into shared memory, and lets a page reader open it.
2. Requests as many pages at once as there are page readers. Each page is a connection of its own.
   The pages of several documents take turns, because readers accept connections in order.
3. If a reader dies, sends its page to another reader. After two deaths or exceeded times the page
   is given up; the result names it.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import selectors
import socket
import time
from collections import defaultdict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from conserver.errors import Rejected, Retry
from conserver.media.extraction.pages import Limits, Page
from conserver.media.extraction.pool import Readers
from conserver.media.extraction.reader import memory_of
from conserver.process import packets
from conserver.process.packets import Gone, Message

DEATHS_MAX = 2
"""After so many deaths of its page readers, a page is not sent again."""

LOST_MAX = 20
"""How often a page reader may end before it begins a page of the document."""

CHARACTERS_MAX = 20_000_000
"""A document with more text is refused, because its vCon would be too large to store."""

_PULSE_S = 1.0
_OPEN = -1


@dataclass(frozen=True, slots=True)
class Extraction:
    """The text of a document. kind: pdf, image, docx or odt."""

    kind: str
    language: str
    pages: tuple[Page, ...]


def _nothing(*_: object) -> None:
    pass


@dataclass(frozen=True, slots=True)
class Following:
    """How the caller follows the work on a document.

    Attributes:
        pulse: called about once a second. An exception that it raises ends the work.
        progress: called with the number of pages that are done, and the total.
        failed: called with the number (from 1) of a page that could not be read, and the reason.
        kept: the value that was last passed to `keep` for this document, maybe by another process.
        keep: called with the pages so far (plain JSON) after every `keep_pages` recognized pages,
            at most every `keep_every_s`. None if nothing can be kept.
    """

    pulse: Callable[[], None] = _nothing
    progress: Callable[[int, int], None] = _nothing
    failed: Callable[[int, str], None] = _nothing
    kept: Mapping[str, Any] | None = None
    keep: Callable[[dict[str, Any]], None] | None = None
    keep_pages: int = 5
    keep_every_s: float = 5.0


def read(content: bytes, limits: Limits, following: Following, readers: Readers) -> Extraction:
    """The text of a document, page by page.

    Raises:
        Rejected: it can never be read: damaged, encrypted, empty, beyond a limit, or no page of it
            can be read.
        Retry: this machine cannot read it now.
    """
    memory = memory_of(content)
    try:
        # Kept pages are used only with the same options, because options change the text.
        told = {**limits.dump(), "page_timeout_s": 0}
        digest = hashlib.sha256(content)
        digest.update(orjson.dumps(told))
        del content
        return _Document(memory, digest.hexdigest(), limits, following, readers).run()
    finally:
        os.close(memory)


@dataclass(slots=True)
class _Task:
    """A page that was sent to the page readers. started_at_s: 0 until a reader begins it."""

    number: int
    started_at_s: float = 0.0
    answer: Message | None = None
    page: Page | None = None


class _Document:
    """The extraction of one document."""

    def __init__(
        self, memory: int, digest: str, limits: Limits, following: Following, readers: Readers
    ) -> None:
        self._memory = memory
        self._digest = digest
        self._limits = limits
        self._following = following
        self._readers = readers
        self._key = secrets.token_hex(16)
        self._pages: dict[int, Page] = {}
        self._deaths: dict[int, int] = defaultdict(int)
        self._selector = selectors.DefaultSelector()
        self._kept_at_s = time.monotonic()
        self._unkept = 0
        self._lost = 0

    def run(self) -> Extraction:
        """See `read`."""
        try:
            kind, count, language = self._describe()
            waiting = deque(number for number in range(count) if number not in self._pages)
            self._following.progress(len(self._pages), count)
            while waiting or self._selector.get_map():
                while waiting and len(self._selector.get_map()) < self._readers.count:
                    self._ask(_Task(waiting.popleft()))
                for task in self._wait():
                    if self._settle(task, waiting):
                        self._following.progress(len(self._pages), count)
                self._keep(kind, count, language)
        finally:
            for key in list(self._selector.get_map().values()):
                key.fileobj.close()  # type: ignore[union-attr]
            self._selector.close()
        pages = tuple(self._pages[number] for number in range(count))
        if all(page.error for page in pages):
            raise Rejected(f"no page could be read; {_named(0, count)}{pages[0].error}")
        return Extraction(kind, language, pages)

    def _describe(self) -> tuple[str, int, str]:
        """The kind of the document, how many pages it has, and its language."""
        kept = self._following.kept
        if kept and kept.get("digest") == self._digest:
            self._pages = {int(n): Page.load(page) for n, page in kept["pages"].items()}
            return kept["kind"], kept["count"], kept["language"]
        answer: Message | None = None
        while answer is None:
            self._ask(_Task(_OPEN))
            task = None
            while task is None:
                task = next(iter(self._wait()), None)
            answer = task.answer
            if answer is None and (reason := self._died(task)):
                raise Rejected(f"the document cannot be opened: {reason}")
        if answer["type"] == "refused":
            raise Rejected(answer["reason"])
        return answer["kind"], answer["count"], answer["language"]

    def _ask(self, task: _Task) -> None:
        """Send a page. The first free reader takes it."""
        self._readers.ensure()
        try:
            connection = packets.connect(self._readers.address)
        except Gone:
            raise Retry(None, "there are no page readers: the supervisor ends") from None
        self._selector.register(connection, selectors.EVENT_READ, task)
        request = {"key": self._key, "limits": self._limits.dump()}
        request |= {"type": "open"} if task.number == _OPEN else {"type": "page"}
        packets.send(connection, {**request, "number": task.number}, self._memory)

    def _wait(self) -> list[_Task]:
        """Wait for about a second. Returns pages that were answered or whose reader has died."""
        found = []
        for key, _ in self._selector.select(_PULSE_S):
            connection, task = key.fileobj, key.data
            assert isinstance(connection, socket.socket)
            try:
                received = packets.receive(connection)
            except Gone:
                received = None
            if received is not None and received[0]["type"] == "started":
                task.started_at_s = time.monotonic()
                continue
            self._selector.unregister(connection)
            connection.close()
            if received is not None:
                task.answer, result = received
                if result >= 0:
                    task.page = _page(result)
            found.append(task)
        self._following.pulse()
        self._readers.ensure()
        return found

    def _settle(self, task: _Task, waiting: deque[int]) -> bool:
        """Take an answer. Returns whether the page is done."""
        number, answer = task.number, task.answer
        if answer is None:
            reason = self._died(task)
            if not reason:
                waiting.appendleft(number)
                return False
            page = Page(error=reason)
        elif answer["type"] == "failed":
            raise Retry(None, answer["reason"])
        else:
            page = task.page or Page(error=answer["reason"])
        if page.error:
            self._following.failed(number + 1, page.error)
        self._pages[number] = page
        self._unkept += page.source == "ocr"
        if sum(len(one.text) for one in self._pages.values()) > CHARACTERS_MAX:
            raise Rejected(f"the document has more than {CHARACTERS_MAX} characters of text")
        return True

    def _died(self, task: _Task) -> str:
        """Count a death of the page's reader. Returns why to give up the page; "" to resend it."""
        if not task.started_at_s:  # No reader had begun the page.
            self._lost += 1
            if self._lost > LOST_MAX:
                raise Retry(None, "page readers end before they begin: see child_died in the log")
            return ""
        self._deaths[task.number] += 1
        if self._deaths[task.number] < DEATHS_MAX:
            return ""
        limit_s = self._limits.page_timeout_s
        if time.monotonic() - task.started_at_s >= limit_s:
            return f"it takes longer than page_timeout_s ({limit_s:g} s)"
        return f"it has ended {DEATHS_MAX} page readers (a crash, or want of memory)"

    def _keep(self, kind: str, count: int, language: str) -> None:
        following, now_s = self._following, time.monotonic()
        due = self._unkept >= following.keep_pages
        due = due and now_s - self._kept_at_s >= following.keep_every_s
        if following.keep is None or not due or len(self._pages) == count:
            return
        self._kept_at_s, self._unkept = now_s, 0
        following.keep(
            {
                "digest": self._digest,
                "kind": kind,
                "count": count,
                "language": language,
                "pages": {str(number): page.dump() for number, page in self._pages.items()},
            }
        )


def _page(memory: int) -> Page:
    with open(memory, "rb") as file:
        file.seek(0)
        return Page.load(orjson.loads(file.read()))


def _named(number: int, count: int) -> str:
    return f"page {number + 1}: " if count > 1 else ""

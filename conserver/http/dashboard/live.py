"""Refreshes open pages: sends the live part of a page as a server-sent event when it changes.

All tabs that show the same page to visitors with the same rights form a group. While a group has a
tab, the server renders its live part once a second, for all tabs together, and sends the HTML if it
has changed. A tab closes its stream while the browser hides it.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import time
from collections.abc import AsyncIterator, Hashable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from starlette.concurrency import run_in_threadpool
from starlette.responses import Response, StreamingResponse

from conserver.errors import OperationError
from conserver.http.api.problems import ProblemError
from conserver.telemetry import log

if TYPE_CHECKING:
    from conserver.http.dashboard.app import Dashboard
    from conserver.http.dashboard.pages import Page, Visit

EVERY_S = 1.0
PING_S = 15.0
SESSION_EVERY_S = 30.0
STREAMS_MAX = 1000
RECONNECT_MS = 1000


@dataclass
class _Group:
    """The tabs that show one page to visitors with the same rights."""

    html: str = ""
    good: str = ""
    """The latest HTML. If rendering fails, it stays on the page, below the error."""
    version: str = ""
    listeners: set[asyncio.Event] = field(default_factory=set)
    task: asyncio.Task[None] | None = None

    def wake(self) -> None:
        for listener in self.listeners:
            listener.set()


class Live:
    """The streams of this process."""

    def __init__(self, dashboard: Dashboard) -> None:
        self._dashboard = dashboard
        self._groups: dict[Hashable, _Group] = {}
        self._log = log.get_logger()
        self.rendered = 0
        """How often a live part was rendered; for tests and the log."""

    def __len__(self) -> int:
        """How many streams are open."""
        return sum(len(group.listeners) for group in self._groups.values())

    async def stream(self, visit: Visit, page: Page) -> Response:
        """The stream of a page. Raises ProblemError: 503 if too many streams are open."""
        if len(self) >= STREAMS_MAX:
            raise ProblemError(
                503, "too many pages are open here", "too-many", {"Retry-After": "10"}
            )
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        events = self._events(visit, page, visit.request.headers.get("last-event-id", ""))
        return StreamingResponse(events, 200, headers, "text/event-stream")

    async def _events(self, visit: Visit, page: Page, seen: str) -> AsyncIterator[str]:
        token = visit.token
        query = tuple(sorted((k, v) for k, v in visit.query.items() if k != "live"))
        # Without the role read a visitor sees only its own jobs, so its group is its own.
        whose = "" if token.may("read") else token.name
        key = (page.path, visit.here, query, token.roles, token.lists, whose)
        group = self._groups.setdefault(key, _Group())
        changed = asyncio.Event()
        group.listeners.add(changed)
        if group.task is None:
            group.task = asyncio.create_task(self._keep(group, visit, page), name="live-page")
        asked_s = time.monotonic()
        try:
            yield f"retry: {RECONNECT_MS}\n\n"
            while not self._dashboard.context.subscriptions.closing:
                if group.version and group.version != seen:
                    seen = group.version
                    yield _event(group.html, seen)
                try:
                    async with asyncio.timeout(PING_S):
                        await changed.wait()
                    changed.clear()
                except TimeoutError:
                    yield ": ping\n\n"
                if time.monotonic() - asked_s > SESSION_EVERY_S:
                    asked_s = time.monotonic()
                    if not await self._dashboard.still_in(visit):
                        yield "event: gone\ndata: the session has ended\n\n"
                        return
        finally:
            group.listeners.discard(changed)
            if not group.listeners and self._groups.get(key) is group:
                del self._groups[key]
                group.task.cancel()

    async def _keep(self, group: _Group, visit: Visit, page: Page) -> None:
        """Render the live part again and again, until the group has no tab."""
        while not self._dashboard.context.subscriptions.closing:
            began_s = time.monotonic()
            html = await self._made(group, visit, page)
            version = hashlib.sha256(html.encode()).hexdigest()[:16]
            if version != group.version:
                group.html, group.version = html, version
                group.wake()
            await asyncio.sleep(max(EVERY_S - (time.monotonic() - began_s), EVERY_S / 4))
        group.wake()

    async def _made(self, group: _Group, visit: Visit, page: Page) -> str:
        from redis.exceptions import RedisError

        def make() -> str:
            return self._dashboard.templates.live(visit, page, page.function(visit))

        self.rendered += 1
        try:
            group.good = await run_in_threadpool(make)
        except (ProblemError, OperationError, RedisError) as error:
            return self._dashboard.templates.apology(error) + group.good
        except Exception as error:  # noqa: BLE001 - the next try may succeed.
            self._log.exception("live_page_failed", page=page.path, error=type(error).__name__)
            return self._dashboard.templates.apology(error) + group.good
        return group.good


def _event(html: str, version: str) -> str:
    # A CR ends a line of a stream, too: a text with one could write fields of its own.
    data = "\n".join(f"data: {line}" for line in re.split(r"\r\n?|\n", html))
    return f"id: {version}\n{data}\n\n"

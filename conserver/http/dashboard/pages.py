"""Declares pages (`Pages`), and their argument: a `Visit`, one request of a logged-in visitor.

A page's function runs in a thread and may block. It returns a Response. The function of a live page
returns the values of its template instead: the server renders the whole page with them, and later
only the block `live` for the page's stream. The package's docstring shows how to add a page.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar
from urllib.parse import quote, unquote, urlencode, urlsplit

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from conserver.http.api import bodies
from conserver.http.api.context import Context
from conserver.http.api.problems import ProblemError
from conserver.http.api.token_limits import Allowance
from conserver.http.dashboard import csrf
from conserver.http.dashboard.sessions import Said
from conserver.operations import lists
from conserver.operations.connection import Client
from conserver.operations.tokens import Token

if TYPE_CHECKING:
    from conserver.http.dashboard.app import Dashboard

Values: TypeAlias = Mapping[str, Any]
FORM_FIELDS_MAX = 1000
FORM_BYTES_MAX = 4 << 20
"""The largest form without files. (The ids of 10,000 dead letters have 400 KB.)"""


@dataclass
class Visit:
    """One request: the visitor, the page, and functions to answer."""

    request: Request
    dashboard: Dashboard
    token: Token
    cookie: str
    said: Said | None = None
    form: FormData = field(default_factory=FormData)
    new_cookie: bool = False
    """Whether the cookie is new and must be set; only if the dashboard needs no login."""

    @property
    def context(self) -> Context:
        """The API's context: configuration, storages, uploads, operations."""
        return self.dashboard.context

    @property
    def query(self) -> Mapping[str, str]:
        """The query string; if a name has several values, the last one."""
        return self.request.query_params

    @contextmanager
    def client(self) -> Iterator[Client]:
        """A blocking client of Redis."""
        with self.context.client() as client:
            yield client

    def name(self, parameter: str) -> str:
        """A part of the path, such as the name of a list, as `quoted` wrote it."""
        return unquoted(str(self.request.path_params[parameter]))

    def check_list(self, name: str) -> str:
        """The name, checked: a list that the visitor may see. Raises ProblemError: 404."""
        if not self.token.may_use(name):
            raise ProblemError(404, f"there is no list `{name}` that you may see", "list-unknown")
        return name

    def known_list(self, name: str) -> str:
        """The name, checked: a list that the visitor may see and lists.check_known knows.

        Raises:
            ProblemError: 404.
            OperationError: "not_found".
        """
        self.check_list(name)
        with self.client() as client:
            lists.check_known(client, [name], self.context.config.ingress, pushed=False)
        return name

    def may(self, role: str) -> bool:
        """Whether the visitor has the role."""
        return self.token.may(role)

    # ---- addresses -------------------------------------------------------------------------------

    @property
    def here(self) -> str:
        """The path of this page below /ui/, in the form that `to` takes."""
        root: str = self.request.scope["root_path"]
        raw = self.request.scope.get("raw_path") or quote(self.request.scope["path"]).encode()
        path: str = raw.decode("latin-1")
        return path.removeprefix(root).lstrip("/")

    @property
    def address(self) -> str:
        """The path of this page below /ui/, with its query string."""
        query = self.request.url.query
        return self.here + (f"?{query}" if query and self.request.method == "GET" else "")

    @property
    def page_path(self) -> str:
        """The path of this page in the form of declarations, such as /workers."""
        return "/" + unquote(self.here)

    def to_path(self, path: str = "", /, **query: object) -> str:
        """The address of a page, relative to this page, so that it works under any prefix."""
        up = "../" * self.here.count("/")
        if not path.partition("?")[0]:
            up = up or "./"
        return up + path + _query(query)

    def here_with(self, /, **query: object) -> str:
        """The address of this page with some query values replaced; None removes a value."""
        return self.to_path(self.here, **{**self.query, **query})

    # ---- answers ---------------------------------------------------------------------------------

    def render(self, template: str, /, status: int = 200, **values: Any) -> Response:
        """A page."""
        html = self.dashboard.templates.page(self, template, values)
        return self._finished(HTMLResponse(html, status))

    def to(
        self, path: str = "", /, *, said: str = "", kind: str = "done", **query: object
    ) -> Response:
        """Redirect to another page after an action.

        Args:
            said: a message that the page shows at its top.
            kind: "done" or "failed".
        """
        self.dashboard.snapshots.clear()
        if said:
            self.dashboard.sessions.say(self.cookie, said, kind)
        return self._finished(RedirectResponse(self.to_path(path, **query), 303))

    def confirm(
        self, question: str, *, yes: str, action: str, back: str, **values: Any
    ) -> Response:
        """A page that asks before an action. Works without JavaScript, and by keyboard.

        Args:
            question: names the action, with the number of items.
            yes: the text of the button, such as "Requeue 4,310 dead letters".
            action: the path to which the form is sent, in the form that `to` takes.
            back: the path of the link "Cancel".
            values: `fields` of the form (name -> value, or several values); `details`, further
                lines of text; `danger`, whether the action cannot be undone.
        """
        known = {"fields": {}, "details": (), "danger": False}
        asked = {"question": question, "yes": yes, "action": action, "back": back}
        return self.render("confirm.html", **{**known, **values, **asked})

    def _finished(self, response: Response) -> Response:
        if self.new_cookie:
            self.dashboard.sessions.set_cookie(self.request, response, self.cookie, "/")
        return response


Answering = TypeVar("Answering", bound=Callable[[Visit], Response | Awaitable[Response]])
Filling = TypeVar("Filling", bound=Callable[[Visit], Values])
Function = TypeVar("Function", bound=Callable[[Visit], Any])


@dataclass(frozen=True, slots=True)
class Page:
    """One page. nav: its name in the navigation; "" if it is not in the navigation."""

    path: str
    method: str
    role: str
    nav: str
    function: Callable[[Visit], Any]
    template: str = ""
    most_bytes: int = FORM_BYTES_MAX


class Pages:
    """The pages of one module."""

    def __init__(self) -> None:
        self.pages: list[Page] = []

    def get(
        self, path: str, *, role: str = "read", nav: str = ""
    ) -> Callable[[Answering], Answering]:
        """Declares a page that is not live. role: the role that a visitor needs."""
        return self._declared(path, "GET", role, nav)

    def post(
        self, path: str, *, role: str, most_bytes: int = FORM_BYTES_MAX
    ) -> Callable[[Answering], Answering]:
        """Declares the target of a form. The CSRF secret and the visitor's role are checked before
        the function is called.

        most_bytes: the largest form; 0: the limit of uploads.
        """
        return self._declared(path, "POST", role, "", most_bytes=most_bytes)

    def live(
        self, path: str, template: str, *, role: str = "read", nav: str = ""
    ) -> Callable[[Filling], Filling]:
        """Declares a live page: its block `live` is sent again whenever it changes.

        While a tab shows the page, the function is called about once a second, once for all
        visitors with the same rights. So its result must not depend on the visitor.
        """
        return self._declared(path, "GET", role, nav, template)

    def _declared(
        self,
        path: str,
        method: str,
        role: str,
        nav: str,
        template: str = "",
        most_bytes: int = FORM_BYTES_MAX,
    ) -> Callable[[Function], Function]:
        def declare(function: Function) -> Function:
            self.pages.append(Page(path, method, role, nav, function, template, most_bytes))
            return function

        return declare


def route_of(page: Page, dashboard: Dashboard) -> Route:
    """Starlette's route for a page."""

    async def endpoint(request: Request) -> Response:
        visit = await dashboard.enter(request, page.role)
        if isinstance(visit, Response):
            return visit
        if page.method == "POST":
            most_bytes = page.most_bytes or dashboard.context.settings.upload_max_bytes
            length = _length(request, most_bytes)
            if not page.most_bytes:
                await Allowance(request).take(length)
            bounded = _InTime(request.scope, request.receive)
            async with bounded.form(max_fields=FORM_FIELDS_MAX) as visit.form:
                csrf.check(request, visit.cookie, str(visit.form.get(csrf.FIELD, "")))
                return await _answered(visit, page)
        if page.template:
            if "live" in request.query_params:
                return await dashboard.live.stream(visit, page)
            return await run_in_threadpool(_rendered, visit, page)
        return await _answered(visit, page)

    return Route(page.path, endpoint, methods=[page.method], name=page.function.__name__)


class _InTime(Request):
    """A request whose body goes on arriving: a form that stalls is 408, as a body of the API is."""

    async def stream(self) -> AsyncGenerator[bytes, None]:
        """The pieces of the body. Raises ProblemError as `bodies.in_time` does."""
        async for piece in bodies.in_time(super().stream()):
            yield piece


async def _answered(visit: Visit, page: Page) -> Response:
    if inspect.iscoroutinefunction(page.function):
        answer: Response = await page.function(visit)
        return answer
    return await run_in_threadpool(page.function, visit)


def _length(request: Request, most_bytes: int) -> int:
    """The length of a form. Raises ProblemError: 411 or 413, before the form is read."""
    length = request.headers.get("content-length", "")
    if not length.isdigit():
        raise ProblemError(411, "a form says how long it is", "length-needed")
    if int(length) > most_bytes:
        raise ProblemError(413, f"a form has at most {most_bytes} bytes here", "too-large")
    return int(length)


def _rendered(visit: Visit, page: Page) -> Response:
    return visit.render(page.template, **page.function(visit), is_live=True)


def quoted(name: str) -> str:
    """A name quoted as one part of a path, so that a proxy that decodes paths does not split it."""
    doubtful = name.replace("%", "%25").replace("/", "%2F")
    if not doubtful.strip("."):
        doubtful = doubtful.replace(".", "%2E")
    return quote(doubtful, safe="")


def unquoted(part: str) -> str:
    """The inverse of `quoted`, for a part of a path that the server has decoded once."""
    return unquote(part)


def safe_next(wanted: str) -> str:
    """The page after a login: `wanted` if it is a path below /ui/, else the overview."""
    try:
        parts = urlsplit(wanted)
    except ValueError:
        return ""
    odd = parts.scheme or parts.netloc or parts.path.startswith("/") or "\\" in wanted
    if odd or not wanted.isprintable() or ".." in parts.path.split("/"):
        return ""
    return wanted


def _query(query: Mapping[str, object]) -> str:
    given = {name: value for name, value in query.items() if value not in (None, "")}
    return "?" + urlencode(given, doseq=True) if given else ""

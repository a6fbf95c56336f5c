"""How a page is declared, and the Visit that it gets: one request of one person.

A page's function runs in a thread and may block. It returns a Response, or for a live page the
values of its template; those are rendered as a whole page, and again for the stream of the page's
live part. See the package's docstring for how to add one.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar
from urllib.parse import quote, unquote, urlencode, urlsplit

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from conserver.http.api.context import Context
from conserver.http.api.problems import ProblemError
from conserver.http.api.token_limits import Allowance
from conserver.http.dashboard import csrf
from conserver.http.dashboard.sessions import Said
from conserver.operations.connection import Client
from conserver.operations.tokens import Token

if TYPE_CHECKING:
    from conserver.http.dashboard.app import Dashboard

Values: TypeAlias = Mapping[str, Any]
FORM_FIELDS_MAX = 1000
FORM_BYTES_MAX = 4 << 20
"""Of a form without files. The ids of 10,000 dead letters are 400 KB."""


@dataclass
class Visit:
    """One request: who asks, for what, and how to answer."""

    request: Request
    dashboard: Dashboard
    token: Token
    cookie: str
    said: Said | None = None
    form: FormData = field(default_factory=FormData)
    new_cookie: bool = False
    """Whether the cookie was made for this request; only where everybody may come in."""

    @property
    def context(self) -> Context:
        """The API's: configuration, storages, uploads, operations."""
        return self.dashboard.context

    @property
    def query(self) -> Mapping[str, str]:
        """What is behind the question mark; the last of several values."""
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
        """A list's name, if the visitor may see that list. Raises ProblemError: 404."""
        if not self.token.may_use(name):
            raise ProblemError(404, f"there is no list `{name}` that you may see", "list-unknown")
        return name

    def may(self, role: str) -> bool:
        """Whether the visitor has that role."""
        return self.token.may(role)

    # ---- addresses -------------------------------------------------------------------------------

    @property
    def here(self) -> str:
        """The path of this page below /ui/, as `to` takes it."""
        root: str = self.request.scope["root_path"]
        raw = self.request.scope.get("raw_path") or quote(self.request.scope["path"]).encode()
        path: str = raw.decode("latin-1")
        return path.removeprefix(root).lstrip("/")

    @property
    def address(self) -> str:
        """This page below /ui/ with its query."""
        query = self.request.url.query
        return self.here + (f"?{query}" if query and self.request.method == "GET" else "")

    @property
    def page_path(self) -> str:
        """The path of this page as pages declare theirs: /workers."""
        return "/" + unquote(self.here)

    def to_path(self, path: str = "", /, **query: object) -> str:
        """The address of a page, relative to this one: no prefix has to be known."""
        up = "../" * self.here.count("/")
        if not path.partition("?")[0]:
            up = up or "./"
        return up + path + _query(query)

    def here_with(self, /, **query: object) -> str:
        """The address of this page with some parts of its query replaced; None removes one."""
        return self.to_path(self.here, **{**self.query, **query})

    # ---- answers ---------------------------------------------------------------------------------

    def render(self, template: str, /, status: int = 200, **values: Any) -> Response:
        """A page."""
        html = self.dashboard.templates.page(self, template, values)
        return self._finished(HTMLResponse(html, status))

    def to(
        self, path: str = "", /, *, said: str = "", kind: str = "done", **query: object
    ) -> Response:
        """Go to another page after an action. said: what it shows at its top.

        kind: "done" or "failed".
        """
        self.dashboard.snapshots.clear()
        if said:
            self.dashboard.sessions.say(self.cookie, said, kind)
        return self._finished(RedirectResponse(self.to_path(path, **query), 303))

    def confirm(
        self, question: str, *, yes: str, action: str, back: str, **values: Any
    ) -> Response:
        """Ask before something is done. Works without JavaScript, and by keyboard.

        Args:
            question: what is about to happen, with its count.
            yes: what the button says, such as "Requeue 4,310 dead letters".
            action: the path that the form is sent to, as `to` takes it.
            back: the path where "Cancel" leads.
            values: `fields` (name -> value, or several values) that the form carries; `details`,
                more lines for the person; `danger`: it cannot be undone.
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
    """One address. nav: its name in the navigation; "" where it is not there."""

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
        """Declares a page that answers by itself. role: who may see it."""
        return self._declared(path, "GET", role, nav)

    def post(
        self, path: str, *, role: str, most_bytes: int = FORM_BYTES_MAX
    ) -> Callable[[Answering], Answering]:
        """Declares the target of a form. Its secret and the visitor's role have been checked.

        most_bytes: of the form; 0: as much as uploads may have.
        """
        return self._declared(path, "POST", role, "", most_bytes=most_bytes)

    def live(
        self, path: str, template: str, *, role: str = "read", nav: str = ""
    ) -> Callable[[Filling], Filling]:
        """Declares a page whose block `live` is sent again whenever it changes.

        The function is called about once a second while anybody has the page open, and once for
        all visitors with the same rights. It must not depend on who they are.
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
            async with request.form(max_fields=FORM_FIELDS_MAX) as visit.form:
                csrf.check(request, visit.cookie, str(visit.form.get(csrf.FIELD, "")))
                return await _answered(visit, page)
        if page.template:
            if "live" in request.query_params:
                return await dashboard.live.stream(visit, page)
            return await run_in_threadpool(_rendered, visit, page)
        return await _answered(visit, page)

    return Route(page.path, endpoint, methods=[page.method], name=page.function.__name__)


async def _answered(visit: Visit, page: Page) -> Response:
    if inspect.iscoroutinefunction(page.function):
        answer: Response = await page.function(visit)
        return answer
    return await run_in_threadpool(page.function, visit)


def _length(request: Request, most_bytes: int) -> int:
    """How long a form is. Raises ProblemError: 411 or 413, before anything of it is read."""
    length = request.headers.get("content-length", "")
    if not length.isdigit():
        raise ProblemError(411, "a form says how long it is", "length-needed")
    if int(length) > most_bytes:
        raise ProblemError(413, f"a form has at most {most_bytes} bytes here", "too-large")
    return int(length)


def _rendered(visit: Visit, page: Page) -> Response:
    return visit.render(page.template, **page.function(visit), is_live=True)


def quoted(name: str) -> str:
    """A name as one part of an address; proxies that decode a path do not tear it apart."""
    doubtful = name.replace("%", "%25").replace("/", "%2F")
    if not doubtful.strip("."):
        doubtful = doubtful.replace(".", "%2E")
    return quote(doubtful, safe="")


def unquoted(part: str) -> str:
    """The name that `quoted` wrote, of a part of a path that the server has decoded once."""
    return unquote(part)


def safe_next(wanted: str) -> str:
    """Where a login leads: a path below /ui/, and nothing else."""
    parts = urlsplit(wanted)
    odd = parts.scheme or parts.netloc or parts.path.startswith("/") or "\\" in wanted
    if odd or not wanted.isprintable() or ".." in parts.path.split("/"):
        return ""
    return wanted


def _query(query: Mapping[str, object]) -> str:
    given = {name: value for name, value in query.items() if value not in (None, "")}
    return "?" + urlencode(given, doseq=True) if given else ""

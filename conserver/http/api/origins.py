"""Recognizes requests that a browser sends for a page of another site (cross-site requests).

A browser lets any page send many kinds of requests to this server; the page only cannot read the
answers. If the API needs no token, the headers checked here are the only difference to a request
of the person at the browser.
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

from starlette.types import Scope

ANY = "*"


def named(text: str) -> frozenset[str]:
    """The origins that a setting names, separated by commas."""
    return frozenset(origin.strip() for origin in text.split(",") if origin.strip())


def is_foreign(
    scope: Scope, headers: Mapping[bytes, bytes], allowed: frozenset[str], *, host: bool
) -> bool:
    """Whether a page of another site sends the request, and its origin is not allowed.

    A link to the dashboard on another site is allowed. Clients other than browsers send neither
    Origin nor Sec-Fetch-Site, and are never foreign.

    Args:
        host: for browsers without Sec-Fetch-Site: whether to compare `Origin` with `Host`. Behind
            a proxy the two may differ.
    """
    origin = headers.get(b"origin", b"").decode("latin-1")
    if ANY in allowed or origin in allowed:
        return False
    site = headers.get(b"sec-fetch-site", b"")
    if site:
        return site not in (b"same-origin", b"none") and not _shows_a_page(scope, headers)
    if not origin or not host:
        return False
    ours = headers.get(b"host", b"").decode("latin-1")
    return _place(origin) != ours.lower()


def _place(origin: str) -> str:
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""


def _shows_a_page(scope: Scope, headers: Mapping[bytes, bytes]) -> bool:
    """Whether the browser opens a page of the dashboard."""
    path = str(scope["path"]).removeprefix(scope.get("root_path", ""))
    is_page = path in ("", "/", "/ui") or path.startswith("/ui/")
    goes = headers.get(b"sec-fetch-mode") == b"navigate" and scope.get("method") == "GET"
    return is_page and goes

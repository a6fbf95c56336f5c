"""Whether a browser sends a request for a page of another site.

A page needs no permission to send many kinds of requests to this server, only to read the answers.
Where no token is asked for, nothing else tells such a request from one of the person at the
browser.
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
    """Whether another site's page sends it, whose origin is not allowed.

    Who only follows a link to the dashboard is no stranger. A client that is no browser says
    nothing of where it comes from.

    Args:
        host: whether browsers name us in `Host` as in `Origin`: not behind every proxy. It counts
            for browsers that send no Sec-Fetch-Site.
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
    """Whether the browser goes to a page of the dashboard."""
    path = str(scope["path"]).removeprefix(scope.get("root_path", ""))
    is_page = path in ("", "/", "/ui") or path.startswith("/ui/")
    goes = headers.get(b"sec-fetch-mode") == b"navigate" and scope.get("method") == "GET"
    return is_page and goes

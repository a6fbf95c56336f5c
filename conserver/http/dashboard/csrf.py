"""The CSRF secret in each form, so that a page of another site cannot send the form.

The secret is derived from the visitor's cookie, so nothing has to be stored. It differs in every
page, so that compression cannot reveal it (BREACH). Before the secret is checked, a request is
refused if the browser marks it as cross-site.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets

from starlette.requests import Request

from conserver.http.api.problems import ProblemError

FIELD = "csrf"
_NONCE_CHARS = 16
_FOREIGN = frozenset({"cross-site", "same-site"})


def token_for(cookie: str) -> str:
    """A secret for a form of the visitor with this cookie."""
    nonce = secrets.token_hex(_NONCE_CHARS // 2)
    return nonce + _sign(cookie, nonce)


def check(request: Request, cookie: str, given: str) -> None:
    """Check that a form was sent by a page of this dashboard.

    Raises:
        ProblemError: 403.
    """
    if request.headers.get("sec-fetch-site", "") in _FOREIGN:
        raise ProblemError(403, "this form was sent by a page of another site", "csrf")
    nonce, signature = given[:_NONCE_CHARS], given[_NONCE_CHARS:]
    good = bool(cookie) and hmac.compare_digest(_sign(cookie, nonce).encode(), signature.encode())
    if not good:
        raise ProblemError(
            403, "this form is not valid any more: go back, reload the page, and try again", "csrf"
        )


def _sign(cookie: str, nonce: str) -> str:
    return hmac.new(cookie.encode(), nonce.encode(), hashlib.sha256).hexdigest()

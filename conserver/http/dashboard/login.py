"""/ui/login, /ui/logout: exchange a token for a session, end it. /ui/theme: light, dark, system."""

from __future__ import annotations

from dataclasses import replace

from starlette.responses import RedirectResponse, Response

from conserver.http.api import auth
from conserver.http.api.problems import ProblemError
from conserver.http.dashboard.pages import Pages, Visit, safe_next
from conserver.http.dashboard.sessions import is_secure, new_cookie
from conserver.http.dashboard.templating import THEMES
from conserver.telemetry import log

pages = Pages()
THEME_KEPT_S = 365 * 86_400


@pages.get("/login", role="")
async def login(visit: Visit) -> Response:
    """Asks for a token."""
    return _asked(visit)


@pages.post("/login", role="")
async def begin(visit: Visit) -> Response:
    """Begins a session."""
    text = str(visit.form.get("token", "")).strip()
    try:
        token = auth.find(
            visit.request, visit.context, visit.dashboard.failures, [text] if text else []
        )
    except ProblemError as error:
        if error.status not in (401, 429):
            raise
        wrong = "Too many wrong tokens came from your address; wait a minute."
        return _asked(visit, wrong if error.status == 429 else "This token is not known.")
    cookie = await visit.dashboard.sessions.begin(token)
    visit.request.state.token = token
    log.get_logger().info("dashboard_login", actor=token.name)
    wanted = safe_next(str(visit.form.get("next", "")))
    response = RedirectResponse(visit.to_path() if not wanted else visit.to_path(wanted), 303)
    visit.dashboard.sessions.set_cookie(visit.request, response, cookie)
    return response


@pages.post("/logout", role="")
async def logout(visit: Visit) -> Response:
    """Ends the session on all replicas."""
    await visit.dashboard.sessions.end(visit.cookie)
    log.get_logger().info("dashboard_logout", actor=visit.token.name)
    response = RedirectResponse(visit.to_path("login"), 303)
    visit.dashboard.sessions.set_cookie(visit.request, response, new_cookie())
    return response


@pages.post("/theme", role="")
async def theme(visit: Visit) -> Response:
    """Sets a cookie for the theme of the pages."""
    wanted = str(visit.form.get("theme", ""))
    back = safe_next(str(visit.form.get("next", "")))
    response = RedirectResponse(visit.to_path(back), 303)
    response.set_cookie(
        "conserver_theme",
        wanted if wanted in THEMES else "auto",
        max_age=THEME_KEPT_S,
        path=None,
        secure=is_secure(visit.request),
        httponly=True,
        samesite="lax",
    )
    return response


def _asked(visit: Visit, wrong: str = "") -> Response:
    wanted = safe_next(visit.query.get("next", "") or str(visit.form.get("next", "")))
    # The form's CSRF secret is derived from a cookie, so one is needed before the session exists.
    cookie = visit.cookie or new_cookie()
    made = replace(visit, cookie=cookie, new_cookie=False)
    response = made.render("login.html", 401 if wrong else 200, wrong=wrong, next=wanted)
    if cookie != visit.cookie:
        visit.dashboard.sessions.set_cookie(visit.request, response, cookie)
    return response

"""Jinja2: every value is escaped and has no secrets; numbers, sizes and times are for people.

Only the macros of call.html, which show a vCon on its page, and the snippets of a search may show
secrets: a vCon belongs to its reader. The filter `short` hides them there, too.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

import conserver
from conserver.http.dashboard import csrf
from conserver.http.dashboard.faults import status_and_text
from conserver.http.dashboard.pages import Page, Visit, quoted
from conserver.operations.error_kinds import common_part
from conserver.telemetry.redact import redact_text

if TYPE_CHECKING:
    from conserver.http.dashboard.app import Dashboard

FOLDER = Path(__file__).parent
THEMES = ("auto", "light", "dark")
_SPANS = ((86_400 * 2, 86_400, "d"), (3600 * 2, 3600, "h"), (120, 60, "min"))


class Templates:
    """The templates of the dashboard."""

    def __init__(self, dashboard: Dashboard) -> None:
        self._dashboard = dashboard
        self._versions: dict[str, str] = {}
        self._environment = environment()

    def page(self, visit: Visit, template: str, values: Mapping[str, Any]) -> str:
        """A whole page."""
        found = self._environment.get_template(template)
        return found.render(self._frame(visit) | {"is_live": False} | dict(values))

    def live(self, visit: Visit, page: Page, values: Mapping[str, Any]) -> str:
        """The live part of a page."""
        found = self._environment.get_template(page.template)
        context = found.new_context(self._frame(visit) | {"is_live": True} | dict(values))
        return "".join(found.blocks["live"](context)).strip()

    def apology(self, error: Exception) -> str:
        """The live part of a page if rendering has failed: the error as a sentence."""
        words = Markup('<p class="said failed" role="alert">{}</p>')
        return str(words.format(coded(status_and_text(error)[1])))

    def _frame(self, visit: Visit) -> dict[str, Any]:
        """The values that every template gets."""
        theme = visit.request.cookies.get("conserver_theme", "")
        return {
            "visit": visit,
            "may": visit.may,
            "to": visit.to_path,
            "here": visit.here_with,
            "static": lambda name: visit.to_path(f"static/{name}", v=self._version(name)),
            "csrf": lambda: Markup('<input type="hidden" name="{}" value="{}">').format(
                csrf.FIELD, csrf.token_for(visit.cookie)
            ),
            "nav": [page for page in self._dashboard.nav if visit.may(page.role)],
            "theme": theme if theme in THEMES else "auto",
            "label": self._dashboard.context.settings.ui_label,
            "is_open": self._dashboard.context.is_open,
            "version": conserver.__version__,
        }

    def _version(self, name: str) -> str:
        """A hash of a static file's content, for its address, so that browsers may cache it."""
        if name not in self._versions:
            content = (FOLDER / "static" / name).read_bytes()
            self._versions[name] = hashlib.sha256(content).hexdigest()[:12]
        return self._versions[name]


def shown(value: Any) -> Any:
    """A value as templates show it: without secrets. Markup was made of such values."""
    return value if isinstance(value, (Markup, int, float)) else redact_text(str(value))


@cache
def environment() -> Environment:
    """The Jinja2 environment of this process; all dashboards share its compiled templates."""
    made = Environment(
        loader=FileSystemLoader(FOLDER / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=shown,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    made.filters.update(
        number=number,
        span=span,
        size=size,
        moment=moment,
        ago=ago,
        short=short,
        took=took,
        when=when,
        needle=common_part,
        coded=coded,
    )
    made.globals.update(quoted=quoted, now=time.time, path=path, highest=highest)
    made.globals["macros"] = made.get_template("macros.html").module
    made.globals["parts"] = made.overlay(finalize=None).get_template("call.html").module
    return made


def number(value: float | None, digits: int = 0) -> str:
    """4310 as 4,310. None (a key of the wrong type) as "?"."""
    return "?" if value is None else f"{value:,.{digits}f}"


def span(seconds: float | None) -> str:
    """A duration in the unit that fits: 120 ms, 4.5 s, 45 s, 12 min, 3 h, 9 d."""
    if seconds is None:
        return "–"
    seconds = max(seconds, 0.0)
    if 0 < seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 10:
        return f"{seconds:.1f} s"
    for least_s, unit_s, unit in _SPANS:
        if seconds >= least_s:
            return f"{seconds / unit_s:.0f} {unit}"
    return f"{seconds:.0f} s"


def took(seconds: float) -> str:
    """A duration: below a second in ms, else as `span` writes it."""
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else span(seconds)


def size(count: float | None) -> str:
    """Bytes as 512 B, 3.4 KiB, 181 MiB."""
    if count is None:
        return "–"
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024 or unit == "GiB":
            break
        count /= 1024
    return f"{count:.0f} {unit}" if unit == "B" or count >= 100 else f"{count:.1f} {unit}"


def moment(at_s: float | None) -> Markup:
    """A time, which the page's script shows in the reader's own zone."""
    if not at_s:
        return Markup("–")
    try:
        at = datetime.fromtimestamp(at_s, UTC)
    except (OverflowError, ValueError, OSError):
        return Markup("–")
    machine, text = at.isoformat(timespec="milliseconds"), at.strftime("%Y-%m-%d %H:%M:%S")
    return Markup('<time datetime="{}">{} UTC</time>').format(machine, text)


def when(text: str) -> Markup:
    """A time given as text, shown like `moment`; the text itself if it is no time."""
    try:
        return moment(datetime.fromisoformat(text.upper()).timestamp())
    except (ValueError, OverflowError):
        return Markup("{}").format(short(text, 40))


def ago(at_s: float | None) -> str:
    """How long ago a time was. Never negative, even if clocks differ."""
    return span(time.time() - at_s) if at_s else "–"


def path(points: Sequence[float | None], most: float, width: int, height: int) -> str:
    """The `d` of an SVG path over evenly spaced points. most: the highest value. None is a gap."""
    step, scale = width / max(len(points) - 1, 1), (height - 2) / (most or 1)
    parts, draws = [], False
    for at, value in enumerate(points):
        if value is None:
            draws = False
            continue
        parts.append(f"{'L' if draws else 'M'}{at * step:.1f} {height - 1 - value * scale:.1f}")
        draws = True
    return "".join(parts)


def highest(lines: Sequence[Sequence[float | None]]) -> float:
    """The highest known value; 0 if none is known."""
    return max((value for line in lines for value in line if value is not None), default=0.0)


def coded(text: str) -> Markup:
    """HTML for a text: parts in backticks become <code>, everything is escaped."""
    parts = redact_text(text).split("`")
    return Markup().join(
        Markup("<code>{}</code>").format(part) if place % 2 else part
        for place, part in enumerate(parts)
    )


def short(text: object, length: int = 80) -> str:
    """The beginning of a text on one line. A cut would hide half a secret from `shown`."""
    line = " ".join(redact_text(str(text)).split())
    return line if len(line) <= length else line[: length - 1] + "…"

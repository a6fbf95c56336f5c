"""/ui/schedules: the schedules, their next times, and the ends of their last runs."""

from __future__ import annotations

from starlette.responses import Response

from conserver.http.api.problems import ProblemError
from conserver.http.dashboard.pages import Pages, Values, Visit, quoted
from conserver.operations import schedules

pages = Pages()
_ACTS = {
    "run": (schedules.run_now, "runs as soon as a host has seen it"),
    "pause": (schedules.pause, "is paused"),
    "resume": (schedules.resume, "fires again at its next time"),
}
"""Action on a schedule -> the function, and the message afterwards."""


@pages.live("/schedules", "schedules.html", nav="Schedules")
def show(visit: Visit) -> Values:
    """All schedules of the configuration; none for a visitor who is restricted to lists."""
    if visit.token.lists:
        return {"schedules": [], "hidden": True}
    with visit.client() as client:
        return {"schedules": schedules.read(client, visit.context.config), "hidden": False}


@pages.get("/schedules/{name}/run", role="operate")
def ask(visit: Visit) -> Response:
    """Asks before a schedule is run."""
    name = _name(visit)
    with visit.client() as client:
        found = schedules.get(client, visit.context.config, name)
    return visit.confirm(
        f"Run {name} now?",
        yes="Run it",
        action=f"schedules/{quoted(name)}/run",
        back="schedules",
        details=[f"It {found.does}, besides its times ({found.cron}, {found.timezone})."],
    )


@pages.post("/schedules/{name}/{act}", role="operate")
def act(visit: Visit) -> Response:
    """Runs, pauses or resumes a schedule."""
    name, wanted = _name(visit), visit.name("act")
    if wanted not in _ACTS:
        raise ProblemError(404, "a schedule is run, paused or resumed")
    change, said = _ACTS[wanted]
    with visit.client() as client:
        change(client, visit.context.config, name, actor=visit.token.name)
    return visit.to("schedules", said=f"{name} {said}.")


def _name(visit: Visit) -> str:
    """The schedule in the address. Raises ProblemError if the visitor is restricted to lists,
    because a schedule may work on any list.
    """
    if visit.token.lists:
        raise ProblemError(403, "a token that is restricted to lists may not use schedules")
    return visit.name("name")

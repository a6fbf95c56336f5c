"""/ui/schedules: what happens at fixed times, when next, and how the last run ended."""

from __future__ import annotations

from starlette.responses import Response

from conserver.api.problems import ProblemError
from conserver.dashboard.pages import Pages, Values, Visit, quoted
from conserver.operations import schedules

pages = Pages()


@pages.live("/schedules", "schedules.html", nav="Schedules")
def show(visit: Visit) -> Values:
    """All schedules of the configuration; none for who may use some lists only."""
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


@pages.post("/schedules/{name}/run", role="operate")
def run(visit: Visit) -> Response:
    """Asks for a run."""
    name = _name(visit)
    with visit.client() as client:
        schedules.run_now(client, visit.context.config, name, actor=visit.token.name)
    return visit.to("schedules", said=f"{name} runs as soon as a host has seen it.")


@pages.post("/schedules/{name}/pause", role="operate")
def pause(visit: Visit) -> Response:
    """Lets the times of a schedule pass."""
    name = _name(visit)
    with visit.client() as client:
        schedules.pause(client, visit.context.config, name, actor=visit.token.name)
    return visit.to("schedules", said=f"{name} is paused.")


@pages.post("/schedules/{name}/resume", role="operate")
def resume(visit: Visit) -> Response:
    """Lets a schedule fire again."""
    name = _name(visit)
    with visit.client() as client:
        schedules.resume(client, visit.context.config, name, actor=visit.token.name)
    return visit.to("schedules", said=f"{name} fires again at its next time.")


def _name(visit: Visit) -> str:
    """The schedule of the address. Raises ProblemError: a schedule may work on any list."""
    if visit.token.lists:
        raise ProblemError(403, "a token that is restricted to lists may not use schedules")
    return visit.name("name")

"""/ui/config: the configuration as it was read, without its secrets; and reading it again."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

import yaml
from starlette.responses import Response

from conserver.api.problems import ProblemError
from conserver.config import model
from conserver.config.environment import Environment
from conserver.dashboard.pages import Pages, Visit
from conserver.dashboard.picture import picture
from conserver.errors import ConfigError, Problem
from conserver.operations import reload as operation
from conserver.operations import settings as settings_operation
from conserver.telemetry.redact import redact, redact_text, redact_texts

pages = Pages()
_RELOADS = (
    "The supervisor of this machine reads the file, and replaces its workers one after the other:"
    " what runs is finished, nothing is lost."
)
_REFUSED = "The file cannot be used as it is: the reload will be refused."


@pages.get("/config", nav="Configuration")
def config(visit: Visit) -> Response:
    """What this process has read, and whether the file says something else by now."""
    context = visit.context
    found: Any = context.config
    shown: Any = redact(found.model_dump(mode="json", exclude_defaults=True))
    shown.pop("ingress_auth", None)
    faults, changed = _file(visit)
    return visit.render(
        "config.html",
        picture=picture(found),
        text=yaml.safe_dump(shown, sort_keys=False, allow_unicode=True, width=100),
        warnings=[str(redact_texts(str(one))) for one in found.warnings],
        settings=[
            replace(one, value=_hidden(one.name, one.value))
            for one in settings_operation.listing(context.settings, os.environ)
        ],
        file=context.settings.config_file,
        faults=faults,
        changed=changed,
        alone=not context.host,
    )


@pages.post("/config/reload", role="admin")
def reload(visit: Visit) -> Response:
    """Lets the supervisor read its configuration again."""
    if visit.form.get("sure") != "yes":
        faults, _ = _file(visit)
        return visit.confirm(
            "Read the configuration again?",
            yes="Reload",
            action="config/reload",
            back="config",
            details=[_RELOADS, *[_REFUSED] * bool(faults)],
            fields={"sure": "yes"},
        )
    if not visit.context.host:
        what = "this API runs alone: send each supervisor a SIGHUP on its own machine"
        raise ProblemError(409, what, "no-supervisor")
    with visit.client() as client:
        operation.reload(client, visit.context.host, actor=visit.token.name)
    said = "The supervisor was asked; its log says `reloaded`, or why it refused."
    return visit.to("config", said=said)


def _hidden(name: str, value: object) -> object:
    shown: Any = redact({name: value})
    return shown[name]


def _file(visit: Visit) -> tuple[list[str], bool]:
    """What is wrong with the file as it is now, and whether it says something else."""
    context = visit.context

    def told(problem: Problem) -> str:
        return redact_text(str(problem))

    try:
        now = model.load(context.settings.config_file, Environment(os.environ))
    except ConfigError as error:
        return [told(one) for one in error.problems], True
    return [], now != context.config

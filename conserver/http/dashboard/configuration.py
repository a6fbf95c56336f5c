"""/ui/config: the configuration that this process uses, without secrets; reloading it."""

from __future__ import annotations

import os
from typing import Any

import yaml
from starlette.responses import Response

from conserver.config import model
from conserver.config.environment import Environment
from conserver.errors import ConfigError
from conserver.http.dashboard.pages import Pages, Values, Visit
from conserver.http.dashboard.picture import picture
from conserver.operations import reload as operation
from conserver.operations import settings as settings_operation
from conserver.telemetry.redact import redact_fields

pages = Pages()
_RELOADS = (
    "Every host reads its file, and replaces its workers one after the other: what runs is"
    " finished, nothing is lost. A host that cannot use its file says so, and goes on as it is."
)
_REFUSED = "The file cannot be used as it is on this machine: the reload will be refused here."
_ALONE = (
    "This API runs alone: the pages go on with the configuration that it has read, until it is"
    " started again."
)


@pages.get("/config", nav="Configuration")
def config(visit: Visit) -> Response:
    """The configuration that this process has read, and whether the file has changed since."""
    context = visit.context
    found: Any = context.config
    shown: Any = redact_fields(found.model_dump(mode="json", exclude_defaults=True))
    shown.pop("ingress_auth", None)
    faults, changed = _file(visit)
    return visit.render(
        "config.html",
        picture=picture(found),
        text=yaml.safe_dump(shown, sort_keys=False, allow_unicode=True, width=100),
        warnings=[str(one) for one in found.warnings],
        settings=settings_operation.listing(context.settings, os.environ),
        file=context.settings.config_file,
        faults=faults,
        changed=changed,
    )


@pages.post("/config/reload", role="admin")
def reload(visit: Visit) -> Response:
    """Lets all hosts read their configuration again."""
    if visit.form.get("sure") != "yes":
        faults, _ = _file(visit)
        alone = not visit.context.host
        return visit.confirm(
            "Let all hosts read the configuration again?",
            yes="Reload",
            action="config/reload",
            back="config",
            details=[_RELOADS, *[_REFUSED] * bool(faults), *[_ALONE] * alone],
            fields={"sure": "yes"},
        )
    with visit.client() as client:
        request = operation.ask(client, actor=visit.token.name)
    return visit.to(f"reloads/{request}")


@pages.live("/reloads/{request}", "reload.html", role="admin")
def reloads(visit: Visit) -> Values:
    """The result of a reload on each host."""
    request = visit.name("request")
    with visit.client() as client:
        found = operation.answers(client, request)
    return {"answers": found, "asked_at": operation.asked_at_s(request)}


def _file(visit: Visit) -> tuple[list[str], bool]:
    """The errors in the present file, and whether it differs from the configuration in use."""
    context = visit.context
    try:
        now = model.load(context.settings.config_file, Environment(os.environ))
    except ConfigError as error:
        return [str(one) for one in error.problems], True
    return [], now != context.config

"""/ui/dead-letters: dead letters by cause and one by one; requeue and purge by a filter."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from starlette.responses import Response

from conserver.errors import InvalidArgumentError
from conserver.http.api.problems import ProblemError
from conserver.http.dashboard import operations, overview
from conserver.http.dashboard.pages import Pages, Visit
from conserver.operations import dead_letters
from conserver.operations.background import Order
from conserver.operations.dead_letters import REASONS, Filter

pages = Pages()
PAGE = 50
KINDS_SHOWN = 50
KINDS_LOOKED_AT = 10_000


@dataclass(frozen=True)
class Wanted:
    """A filter: the form's fields, and the Filter made of them."""

    typed: Mapping[str, str]
    filter: Filter
    wrong: str = ""


@pages.get("/dead-letters", nav="Dead letters")
def show(visit: Visit) -> Response:
    """The dead letters that match the filter, by cause and one by one."""
    wanted = _wanted(visit, visit.query)
    at = visit.query.get("at", "0")
    offset = int(at) if at.isdecimal() and len(at) < 10 else 0
    found, kinds, hints = dead_letters.Listing([], False), [], []
    config = visit.context.config
    if not wanted.wrong:
        with visit.client() as client:
            found = dead_letters.listing(
                client, wanted.filter, limit=PAGE, offset=offset, look=dead_letters.newest
            )
            kinds = dead_letters.count(client, wanted.filter, KINDS_LOOKED_AT)
            if not kinds:
                hints = dead_letters.unknown_names(client, wanted.filter, config.ingress)
    return visit.render(
        "dead_letters.html",
        status=422 if wanted.wrong else 200,
        wrong=wanted.wrong,
        typed=wanted.typed,
        letters=[_shown(letter) for letter in found.letters],
        kinds=kinds[:KINDS_SHOWN],
        counted=sum(kind.count for kind in kinds),
        looked_at=KINDS_LOOKED_AT,
        hints=hints,
        offset=offset,
        following=offset + PAGE if found.more else 0,
        page=PAGE,
        reasons=REASONS,
        names=[one.name for one in overview.seen(visit).lists],
        places=sorted({*config.links, *config.storages}),
    )


@pages.get("/dead-letters/{uuid}")
def letter(visit: Visit) -> Response:
    """The dead letters of one vCon, with their tracebacks."""
    uuid = visit.name("uuid")
    with visit.client() as client:
        wanted = Filter(names=visit.token.lists, uuids=(uuid,))
        found = [_details(one) for one in dead_letters.select(client, wanted)]
    if not found:
        raise ProblemError(404, f"{uuid} is no dead letter (any more)")
    return visit.render("dead_letter.html", uuid=uuid, letters=found)


@pages.post("/dead-letters", role="operate")
def begin(visit: Visit) -> Response:
    """Starts a dry run, which counts the items. Its page asks whether to start the operation."""
    kind = str(visit.form.get("kind", ""))
    typed = {name: str(visit.form.get(name, "")) for name in operations.FIELDS}
    wanted = _wanted(visit, typed)
    if wanted.wrong:
        raise ProblemError(422, wanted.wrong)
    if kind not in ("requeue", "purge"):
        raise ProblemError(422, "an operation is requeue or purge")
    if "list" in wanted.typed:
        visit.known_list(wanted.typed["list"])
    order = Order(kind, wanted.filter, visit.token.name, dry_run=True)
    return operations.begun(visit, order, wanted.typed)


def _wanted(visit: Visit, given: Mapping[str, str]) -> Wanted:
    """The filter of a form. Raises ProblemError: 404 for a list that the visitor may not see."""
    typed = {name: value for name in operations.FIELDS if (value := given.get(name, "").strip())}
    if "list" in typed:
        visit.check_list(typed["list"])
    names = (typed["list"],) if "list" in typed else visit.token.lists
    uuids = (typed["uuid"],) if "uuid" in typed else ()
    try:
        found = Filter(
            names=names,
            uuids=uuids,
            error=re.escape(typed.get("text", "")),
            where=typed.get("where", ""),
            reason=typed.get("reason", ""),
            older_s=_age(typed.get("older", "")),
            newer_s=_age(typed.get("newer", "")),
        )
        found.check()
    except InvalidArgumentError as error:
        return Wanted(typed, Filter(names=names), str(error))
    return Wanted(typed, found)


def _age(text: str) -> float | None:
    return dead_letters.parse_age(text) if text else None


def _shown(letter: dead_letters.DeadLetter) -> Mapping[str, Any]:
    why = letter.why
    return {
        "uuid": letter.name,
        "list": letter.list,
        "reason": str(why.get("reason", "")),
        "where": dead_letters.where_of(why),
        "error": dead_letters.error_of(why),
        "attempts": why.get("attempts"),
        "died_at": dead_letters.died_at(why),
    }


def _details(letter: dead_letters.DeadLetter) -> Mapping[str, Any]:
    """A dead letter as the page shows it, with its traceback."""
    told = dead_letters.details(letter)
    known = {"reason", "list", "uuid", "error", "traceback", "died_at", "links_done"}
    known |= {"storages_owed", "attempts", "payload_bytes", "link", "storage"}
    rest = {name: value for name, value in told.items() if name not in known}
    texts = {name: told.get(name, "") for name in ("error", "traceback")}
    return {**_shown(letter), **told, **texts, "rest": rest}

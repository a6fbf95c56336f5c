"""/v1/dead-letters: shows dead letters and their reasons. /v1/operations requeues and purges."""

from __future__ import annotations

import re
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel, ConfigDict, Field

from conserver.http.api import submitting
from conserver.http.api.auth import requires
from conserver.http.api.context import Context, context_of
from conserver.http.api.problems import ProblemError
from conserver.http.api.shapes import iso_or_none, with_iso
from conserver.operations import dead_letters
from conserver.operations.connection import Client
from conserver.operations.dead_letters import DeadLetter, Filter
from conserver.operations.tokens import Token

router = APIRouter(prefix="/v1/dead-letters", tags=["dead letters"])

LIMIT_MAX = 1000


class FilterView(BaseModel):
    """Selects dead letters: those that match every field that is given."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"example": {"lists": ["calls"], "reason": "failed"}}
    )

    lists: list[str] = Field([], max_length=1000, description="Of these lists.")
    uuids: list[str] = Field([], max_length=10_000, description="Of these vCons.")
    error: str = Field("", max_length=1000, description="Text in the error; case is ignored.")
    where: str = Field("", max_length=1000, description="The link or storage that failed.")
    reason: str = Field(
        "", description="failed, rejected, unavailable, poison, time_limit or oversized."
    )
    older: str = Field("", description="Dead for longer: 90s, 15m, 2h, 7d, 1w.")
    newer: str = Field("", description="Dead for less.")

    def load(self, context: Context, client: Client, token: Token) -> Filter:
        """The filter, within the lists that the token may use.

        Raises:
            ProblemError: 403 or 404 for a list.
            OperationError: "invalid".
        """
        found = Filter(
            names=tuple(self.lists) or token.lists,
            uuids=tuple(self.uuids),
            error=re.escape(self.error),  # No pattern of a client's, which might never end.
            where=self.where,
            reason=self.reason,
            older_s=dead_letters.parse_age(self.older) if self.older else None,
            newer_s=dead_letters.parse_age(self.newer) if self.newer else None,
        )
        found.check()
        for name in self.lists:
            submitting.served_list(context, client, token, name)
        return found


class FilterQuery(FilterView):
    """A filter in a query string, and which page of the result to show."""

    cursor: str = Field("", pattern=r"^[0-9]{0,9}$", description="`next` of the page before.")
    limit: int = Field(100, ge=1, le=LIMIT_MAX)
    count: str = Field("", pattern=r"^(kinds)?$", description="`kinds`: only counts, by cause.")


class DeadLetterView(BaseModel):
    """One dead letter. reason: failed, rejected, unavailable, poison, time_limit, oversized."""

    uuid: str
    list: str
    reason: str
    where: str = Field(description="The link or storage that failed.")
    error: str = Field(description="The first line of the error.")
    attempts: int
    died_at: str | None


class DeadLetterPage(BaseModel):
    """Some dead letters, oldest first. next: the cursor of the next page; null on the last page."""

    dead_letters: list[DeadLetterView]
    next: str | None


class KindView(BaseModel):
    """The number of dead letters of a list with the same cause."""

    count: int
    list: str
    reason: str
    where: str
    error: str


class DeadLetterDetails(BaseModel):
    """All that is known of the dead letters of one vCon: usually there is one."""

    dead_letters: list[dict[str, Any]]


@router.get("", summary="List dead letters, or count them by kind")
def show_all(
    request: Request,
    token: Annotated[Token, Depends(requires("read"))],
    wanted: Annotated[FilterQuery, Query()],
) -> DeadLetterPage | list[KindView]:
    """With `count=kinds` the answer counts the dead letters by cause, the largest number first."""
    context = context_of(request)
    at = int(wanted.cursor or 0)
    with context.client() as client:
        meant = wanted.load(context, client, token)
        if wanted.count:
            kinds = dead_letters.count(client, meant)
            return [KindView(**asdict(kind)) for kind in kinds]
        found = dead_letters.listing(client, meant, limit=wanted.limit, offset=at)
    following = str(at + len(found.letters)) if found.more else None
    return DeadLetterPage(dead_letters=[_view(one) for one in found.letters], next=following)


@router.get(
    "/{uuid}",
    summary="Why a vCon is dead",
    responses={404: {"description": "It is no dead letter"}},
)
def show(
    request: Request, uuid: str, token: Annotated[Token, Depends(requires("read"))]
) -> DeadLetterDetails:
    """Shows the dead letters of one vCon with their tracebacks."""
    context = context_of(request)
    with context.client() as client:
        meant = Filter(names=token.lists, uuids=(uuid,))
        found = list(dead_letters.select(client, meant))
    if not found:
        raise ProblemError(404, "it is no dead letter", "not-dead")
    shown = [with_iso(dead_letters.details(letter)) for letter in found]
    return DeadLetterDetails(dead_letters=shown)


def _view(letter: DeadLetter) -> DeadLetterView:
    why = letter.why
    attempts = why.get("attempts")
    return DeadLetterView(
        uuid=letter.name,
        list=letter.list,
        reason=str(why.get("reason", "")),
        where=dead_letters.where_of(why),
        error=dead_letters.error_of(why),
        attempts=attempts if isinstance(attempts, int) else 0,
        died_at=iso_or_none(dead_letters.died_at(why)),
    )

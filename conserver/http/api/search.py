"""/v1/search: finds vCons by words in them, if a storage has a full-text index."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel, Field

from conserver.http.api.auth import check_unrestricted, requires
from conserver.http.api.context import context_of
from conserver.http.api.hiding import as_is
from conserver.operations import search as operation
from conserver.operations.tokens import Token

router = APIRouter(prefix="/v1/search", tags=["vcons"])


class HitView(BaseModel):
    """A vCon that was found."""

    uuid: str
    created_at: str
    subject: str
    snippet: str = Field(description="Text around the words that were found.")
    marks: list[tuple[int, int]] = Field(
        description="The words found in the snippet: begin and end, in characters."
    )


class SearchPage(BaseModel):
    """Some hits, the newest first. next: the cursor of the next page; null on the last page."""

    storage: str = Field(description="The storage that answered.")
    hits: list[HitView]
    next: str | None
    silent: list[str] = Field(description="Storages that were asked first and failed.")


@router.get(
    "",
    summary="Search what was said",
    responses={
        404: {"description": "No storage of the configuration can search"},
        503: {"description": "No storage that can search answers"},
    },
)
def search(
    request: Request,
    token: Annotated[Token, Depends(requires("read"))],
    q: Annotated[str, Query(max_length=1000, description='Words and "phrases": all must occur.')],
    storage: Annotated[str, Query(description="Only this storage.")] = "",
    limit: Annotated[int, Query(ge=1, le=operation.LIMIT_MAX)] = 20,
    cursor: Annotated[str, Query(max_length=1000, description="`next` of the page before.")] = "",
) -> SearchPage:
    """Searches transcripts, messages, subjects, parties, tags and other analyses."""
    check_unrestricted(token, "does not search: words are those of all lists")
    reader = context_of(request).storages
    found = operation.search(reader, q, storage=storage, limit=limit, cursor=cursor)
    hits = [
        HitView(
            uuid=hit.uuid,
            created_at=hit.created_at,
            subject=hit.subject,
            snippet=hit.snippet,
            marks=list(hit.marks),
        )
        for hit in found.hits
    ]
    as_is(request)
    return SearchPage(
        storage=found.storage, hits=hits, next=found.cursor or None, silent=sorted(found.silent)
    )

"""/v1/documents: submit a PDF, a picture or an office file to read its text."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from conserver.http.api.auth import requires
from conserver.http.api.context import Context, context_of
from conserver.http.api.new_jobs import hand_in
from conserver.http.api.problems import ProblemError
from conserver.http.api.shapes import JobView
from conserver.operations.tokens import Token

router = APIRouter(prefix="/v1/documents", tags=["jobs"])

_MODULE = "read_documents"


class NewDocument(BaseModel):
    """A document: `url`, from which a worker fetches it, or the id of an `upload`."""

    model_config = ConfigDict(
        json_schema_extra={"example": {"url": "https://example.com/contract.pdf"}}
    )

    url: str | None = None
    upload: str | None = Field(None, description="The id of an upload.")
    mediatype: str = Field("", description="Of the file at `url`, if its name does not show it.")
    list: str = Field("", description="By default the first list that reads documents.")
    job_id: str = Field("", pattern=r"^[A-Za-z0-9._-]{0,64}$", description="An id of your own.")
    not_before: datetime | None = Field(None, description="The earliest time, with a time zone.")
    meta: dict[str, Any] | None = Field(None, description="Kept in the vCon.")


@router.post(
    "",
    status_code=202,
    summary="Hand in a document",
    responses={
        202: {"model": JobView, "headers": {"Location": {"schema": {"type": "string"}}}},
        200: {"model": JobView, "description": "The same request has made it before"},
        404: {"description": "No chain reads documents, or no such list or upload"},
        409: {"description": "Another submission has this job id"},
        413: {"description": "Too large"},
        415: {"description": "No document, by its media type and its name"},
        422: {"description": "Not one source, or a key used with another request"},
        503: {"description": "The list is full, or Redis is"},
    },
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {"schema": NewDocument.model_json_schema()},
                "multipart/form-data": {
                    "schema": {
                        "type": "object",
                        "required": ["file"],
                        "properties": {
                            "file": {"type": "string", "format": "binary"},
                            "list": {"type": "string"},
                            "job_id": {"type": "string"},
                            "not_before": {"type": "string", "format": "date-time"},
                            "meta": {"type": "string", "description": "A JSON object"},
                        },
                    }
                },
            },
        }
    },
)
async def submit(
    request: Request, token: Annotated[Token, Depends(requires("submit"))]
) -> Response:
    """Takes a document (a form with `file`, an upload, a URL), and answers with its job.

    The job's events report how many pages have been read.
    """
    return await hand_in(request, token, usual_list(context_of(request), token))


def usual_list(context: Context, token: Token) -> str:
    """The first list whose chain reads documents. Raises ProblemError: 404."""
    config = context.config
    for chain in config.enabled_chains.values():
        modules = {config.links[name].module.rpartition(".")[2] for name in chain.links}
        if _MODULE in modules:
            for name in chain.usual_lists:
                if token.may_use(name):
                    return name
    raise ProblemError(
        404, "no chain here reads documents (or none that this token may use)", "list-unknown"
    )

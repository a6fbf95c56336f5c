"""/v1/jobs/{id}/result: the result of a job, in the format that the caller wants."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import orjson
from fastapi import APIRouter, Depends, Query, Request, Response

from conserver.http.api import etags, submitting
from conserver.http.api.auth import token_of
from conserver.http.api.context import context_of
from conserver.http.api.hiding import as_is
from conserver.http.api.problems import ProblemError
from conserver.media.transcription import formats
from conserver.media.transcription.transcript import Transcript, transcript_of
from conserver.operations import documents
from conserver.operations.tokens import Token
from conserver.vcon.document_result import document_result

router = APIRouter(tags=["jobs"])

Format = Literal["json", "text", "srt", "vtt", "verbose_json", "diarized_json", "vcon"]


@router.get(
    "/v1/jobs/{job}/result",
    summary="What came out of a job",
    response_class=Response,
    responses={
        200: {
            "content": {
                "application/json": {},
                "text/plain": {},
                "text/vtt": {},
                "application/x-subrip": {},
            }
        },
        304: {"description": "It is still that of If-None-Match"},
        404: {"description": "No such job; no transcript in its vCon; the vCon is gone"},
        409: {"description": "It has not ended, or did not come to a result"},
        502: {"description": "A storage that may have it could not be asked"},
    },
)
async def result(
    request: Request,
    job: str,
    token: Annotated[Token, Depends(token_of)],
    wanted: Annotated[Format, Query(alias="format")] = "json",
) -> Response:
    """Returns the vCon as the chain left it, or its transcript: as OpenAI's `json`, `verbose_json`
    or `diarized_json`, as plain text, or as subtitles. If the vCon has no transcript but documents
    that were read, it returns their text; with `json` page by page.
    """
    context = context_of(request)
    found = await submitting.visible_job(context, token, job)
    if found.status not in ("completed", "filtered"):
        what = f"the job is {found.status}" if found.ended else f"it is still {found.status}"
        raise ProblemError(409, f"there is no result: {what}", "no-result", state=found.status)
    raw = await documents_of(request, found.uuid)
    if wanted == "vcon":
        body, kind = raw, "application/json"
    else:
        body = _of_documents(orjson.loads(raw), wanted) or _rendered(transcript_in(raw), wanted)
        kind = formats.MEDIA_TYPES[wanted]
    headers = {"ETag": etags.of(body), "Cache-Control": "private, no-cache"}
    if etags.matches(request.headers.get("if-none-match"), headers["ETag"]):
        return Response(status_code=304, headers=headers)
    as_is(request)
    return Response(body, 200, headers, kind)


def transcript_in(raw: bytes) -> Transcript:
    """The transcript of a vCon. Raises ProblemError: 404: it has no transcript."""
    found = transcript_of(orjson.loads(raw))
    if found is None:
        raise ProblemError(404, "its vCon holds no transcript: try format=vcon", "no-transcript")
    return found


def _of_documents(vcon: dict[str, Any], wanted: str) -> bytes | None:
    """The text of the vCon's documents; None if it has a transcript, or no document with text."""
    return None if transcript_of(vcon) is not None else document_result(vcon, wanted)


def _rendered(found: Transcript, wanted: str) -> bytes:
    try:
        return formats.render(found, wanted).encode()
    except formats.NoTimesError as error:
        raise ProblemError(404, f"{error}: try format=text", "no-times") from None


async def documents_of(request: Request, uuid: str) -> bytes:
    """The document of a vCon. Raises ProblemError: 404 or 502."""
    from starlette.concurrency import run_in_threadpool

    context = context_of(request)

    def read() -> documents.Found:
        with context.client() as client:
            return documents.get(client, context.storages, uuid)

    found = await run_in_threadpool(read)
    if found.text is not None:
        return found.text
    if found.silent:
        names = ", ".join(sorted(found.silent))
        raise ProblemError(502, f"these storages could not be asked: {names}", "storage-away")
    raise ProblemError(404, f"there is no vCon {uuid}", "vcon-unknown")

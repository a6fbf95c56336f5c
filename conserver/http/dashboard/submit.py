"""/ui/submit: makes a job of each file from a browser; /ui/submit/jobs shows their progress."""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.datastructures import UploadFile
from starlette.responses import JSONResponse, Response

from conserver.errors import OperationError
from conserver.http.api import recordings, submitting
from conserver.http.api.incoming import WRITE_BYTES
from conserver.http.api.multipart import store_failed
from conserver.http.api.problems import ProblemError
from conserver.http.api.submitting import Wish
from conserver.http.dashboard.item import may_see_payload
from conserver.http.dashboard.pages import Pages, Values, Visit
from conserver.http.dashboard.snapshots import FOR_EVER_S
from conserver.media.transcription.transcript import transcripts_of
from conserver.operations import audit, documents
from conserver.operations import jobs as operations
from conserver.operations.recordings import HEAD_BYTES, MEDIA_TYPES, sniffed
from conserver.outbound.uploads import Upload, new_id
from conserver.queue.jobs import Job
from conserver.vcon.document import Vcon

pages = Pages()

FILES_MAX = 50
NAME = "name"
"""The field of a job's hash with the name of its file."""
_SAID_CHARS = 400


@pages.get("/submit", role="submit", nav="Submit")
def form(visit: Visit) -> Response:
    """The form for files."""
    chains = visit.context.config.enabled_chains.values()
    usual = (name for chain in chains for name in chain.usual_lists)
    names = [name for name in usual if visit.token.may_use(name)]
    settings = visit.context.settings
    most_bytes = settings.upload_max_bytes
    return visit.render("submit.html", lists=names, most_bytes=most_bytes, files_max=FILES_MAX)


@pages.post("/submit", role="submit", most_bytes=0)
async def submit(visit: Visit) -> Response:
    """Makes a job of every file. Answers a form with a redirect, the page's script with JSON."""
    answer = await _taken(visit)
    if "application/json" not in visit.request.headers.get("accept", ""):
        return answer
    return JSONResponse({"to": answer.headers["location"]})


async def _taken(visit: Visit) -> Response:
    """Makes the jobs. A refused file does not stop the other files."""
    name = submitting.known_list(visit.context, visit.token, str(visit.form.get("list", "")))
    given = [one for one in visit.form.getlist("file") if isinstance(one, UploadFile)]
    files = [one for one in given if one.filename or one.size]
    if not files:
        return visit.to("submit", said="No file was chosen.", kind="failed")
    if len(files) > FILES_MAX:
        said = f"At most {FILES_MAX} files at once; `conserver submit` takes any number."
        return visit.to("submit", said=said, kind="failed")
    made: list[Job] = []
    refused: list[str] = []
    for file in files:
        try:
            made.append(await _submitted(visit, name, file))
        except (ProblemError, OperationError) as error:
            refused.append(f"{file.filename}: {error}")
    if made:
        await asyncio.to_thread(_audit, visit, name, len(made))
    said = "; ".join(refused)[:1000]
    if not made:
        return visit.to("submit", said=f"Nothing was taken. {said}", kind="failed")
    ids = ",".join(job.id for job in made)
    return visit.to("submit/jobs", said=f"Refused: {said}" if said else "", kind="failed", ids=ids)


@pages.live("/submit/jobs", "submitted.html", role="submit")
def submitted(visit: Visit) -> Values:
    """The progress of these jobs, and their transcripts at the end."""
    ids = [one for one in visit.query.get("ids", "").split(",") if submitting.is_job_id(one)]
    ids = list(dict.fromkeys(ids))[:FILES_MAX]
    with visit.client() as client:
        found = operations.find(client, ids)
    rows = [
        _row(visit, job)
        for job in found
        if job is not None and submitting.may_see(visit.token, job)
    ]
    return {"rows": rows, "missing": len(ids) - len(rows)}


def _row(visit: Visit, job: Job) -> dict[str, Any]:
    row = {
        "job": job,
        "name": job.fields.get(NAME, "") or job.uuid,
        "subject": "",
        "error": job.why,
        "said": "",
        "silent": False,
    }
    if job.status == "completed" and may_see_payload(visit):
        row["subject"], row["said"] = visit.dashboard.snapshots.get(
            ("said", job.id, job.seq), FOR_EVER_S, lambda: _said(visit, job.uuid)
        )
        row["silent"] = not row["said"]
    return row


def _said(visit: Visit, uuid: str) -> tuple[str, str]:
    """The subject of a vCon, and the beginning of its transcript."""
    with visit.client() as client:
        found = documents.get(client, visit.context.storages, uuid)
    if found.text is None:
        return "", ""
    view = Vcon.parse(found.text).view
    said = " ".join(one.text for _, one in sorted(transcripts_of(view).items()))
    subject = view.get("subject")
    if len(said) > _SAID_CHARS:
        said = said[:_SAID_CHARS] + " …"
    return subject if isinstance(subject, str) else "", said


async def _submitted(visit: Visit, name: str, file: UploadFile) -> Job:
    """The job of one file. Raises ProblemError: files of this kind are not accepted."""
    filename = file.filename or "unnamed"
    head = await file.read(1)
    await file.seek(0)
    if not head:
        raise ProblemError(422, "it is empty", "no-file")
    context = visit.context
    fields = [(NAME, filename[:200])]
    if head in (b"{", b"\xef", b" ", b"\n"):  # JSON, perhaps after a byte order mark.
        raw = await file.read(context.settings.max_document_bytes + 1)
        raw = raw.removeprefix(b"\xef\xbb\xbf").lstrip()
        uuid = await asyncio.to_thread(submitting.uuid_of, context, raw)
        job, _ = await submitting.submit(context, visit.token, Wish(name, uuid, raw, fields=fields))
        return job
    suffix = "." + filename.rpartition(".")[2].lower()
    mediatype = MEDIA_TYPES.get(suffix) or file.content_type or ""
    if not mediatype.startswith(("audio/", "video/")):  # Look at the content instead.
        mediatype = sniffed(await file.read(HEAD_BYTES))
        await file.seek(0)
    if not mediatype:
        raise ProblemError(422, "it is neither a recording nor a vCon", "no-recording")
    upload = await _kept(visit, file, mediatype, filename)
    stays = False
    try:
        uuid, raw = await recordings.vcon_of_upload(context, upload)
        job, _ = await submitting.submit(context, visit.token, Wish(name, uuid, raw, fields=fields))
        stays = recordings.stays(context, upload)
    finally:
        if not stays:
            await context.transfer(context.uploads.remove, upload.id)
    return job


async def _kept(visit: Visit, file: UploadFile, mediatype: str, filename: str) -> Upload:
    """Write the file to the store of uploads."""
    try:
        writer = await asyncio.to_thread(visit.context.uploads.begin, new_id())
        try:
            while piece := await file.read(WRITE_BYTES):
                await asyncio.to_thread(writer.write, piece)
            finish = writer.finish
            return await visit.context.transfer(finish, mediatype, filename, visit.token.name)
        finally:
            await asyncio.to_thread(writer.abandon)
    except OSError as error:
        raise store_failed(error) from None


def _audit(visit: Visit, name: str, count: int) -> None:
    with visit.client() as client:
        audit.record(client, visit.token.name, "submit", {"list": name}, count)

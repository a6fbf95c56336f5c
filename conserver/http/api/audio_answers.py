"""The answer to a transcription request at the end of its job, in OpenAI's formats, or an error."""

from __future__ import annotations

import orjson
from starlette.requests import Request

from conserver.http.api import results
from conserver.http.api.audio_form import Wanted
from conserver.http.api.openai_errors import NO_RETRY
from conserver.http.api.problems import ProblemError
from conserver.media.transcription import formats
from conserver.media.transcription.transcript import Transcript, transcript_of
from conserver.queue.jobs import Job

JOB_HEADER = "x-conserver-job"
"""Response header with the id of the job."""

_SAID = ("rejected", "oversized")
"""Reasons of a dead letter for which the recording is to blame."""


def ended_badly(job: Job) -> ProblemError:
    """The error for a job without a result. It tells clients not to repeat the request, because
    workers have tried the item as often as they may.
    """
    headers = {**NO_RETRY, JOB_HEADER: job.id}
    if job.status == "cancelled":
        return ProblemError(500, f"the job {job.id} was cancelled", "job-cancelled", headers)
    reason = str(job.error.get("reason", "failed"))
    why = str(job.error.get("error") or reason)
    if reason in _SAID:
        return ProblemError(400, why, "invalid-audio", headers, param="file")
    return ProblemError(500, f"the job {job.id} failed: {why}", "job-failed", headers)


async def transcript_of_job(request: Request, job: Job) -> Transcript:
    """The transcript that a job has made. Raises ProblemError: 400, 500 or 502."""
    if job.status not in ("completed", "filtered"):
        raise ended_badly(job)
    headers = {**NO_RETRY, JOB_HEADER: job.id}
    try:
        raw = await results.documents_of(request, job.uuid)
    except ProblemError as error:
        status = 500 if error.status == 404 else error.status
        raise ProblemError(status, error.detail, error.kind, headers) from None
    found = transcript_of(orjson.loads(raw))
    if found is None:
        what = f"the chain behind this model made no transcript ({job.status}): job {job.id}"
        raise ProblemError(500, what, "no-transcript", headers)
    return found


def rendered(found: Transcript, wanted: Wanted) -> tuple[str, str]:
    """The body of the answer and its media type. Raises ProblemError: 500."""
    kind = formats.MEDIA_TYPES[wanted.form]
    if wanted.form == "text":
        return f"{found.text}\n", kind  # The same text as in `json`, without speakers' names.
    if wanted.form == "srt":
        kind = formats.MEDIA_TYPES["text"]
    if wanted.form == "verbose_json":
        body = formats.verbose(found, wanted.parts)
        if wanted.request.translate:
            body |= {"task": "translate", "language": "english"}
        return orjson.dumps(body).decode(), kind
    try:
        return formats.render(found, wanted.form), kind
    except formats.NoTimesError as error:
        raise ProblemError(500, str(error), "no-times", NO_RETRY) from None

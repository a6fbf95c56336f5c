"""What a transcription answers at the end of its job: OpenAI's forms, and its errors."""

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
"""The id of the job behind an answer."""

_SAID = ("rejected", "oversized")
"""Reasons of a dead letter that are the recording's."""


def ended_badly(job: Job) -> ProblemError:
    """What is told of a job that came to nothing. No client needs to try again: the queue has."""
    headers = {**NO_RETRY, JOB_HEADER: job.id}
    if job.status == "cancelled":
        return ProblemError(500, f"the job {job.id} was cancelled", "job-cancelled", headers)
    reason = str(job.error.get("reason", "failed"))
    why = str(job.error.get("error") or reason)
    if reason in _SAID:
        return ProblemError(400, why, "invalid-audio", headers, param="file")
    return ProblemError(500, f"the job {job.id} failed: {why}", "job-failed", headers)


async def transcript_of_job(request: Request, job: Job) -> Transcript:
    """The transcript that a job came to. Raises ProblemError: 400, 500 or 502."""
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
    """The body and its media type. Raises ProblemError: 500."""
    kind = formats.MEDIA_TYPES[wanted.form]
    if wanted.form == "text":
        return f"{found.text}\n", kind  # Without names of speakers: the text of `json`.
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

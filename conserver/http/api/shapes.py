"""The JSON of a job in the API's answers, with an example for /openapi.json."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from conserver.queue.jobs import Job

_LAST_S = 253_402_300_799.0


def iso(at_s: float) -> str:
    """A moment as ISO 8601 in UTC, to the millisecond, up to the end of the year 9999."""
    at_s = min(at_s, _LAST_S)
    return datetime.fromtimestamp(at_s, UTC).isoformat(timespec="milliseconds")[:-6] + "Z"


def iso_or_none(at_s: float | None) -> str | None:
    """A moment as `iso` writes it; None for 0 or None, which mean none or unknown."""
    return iso(at_s) if at_s else None


def with_iso(found: Mapping[str, Any]) -> dict[str, Any]:
    """`found`, with `iso_or_none` of each number whose key ends in `_at`."""
    return {
        name: iso_or_none(value) if name.endswith("_at") and _is_number(value) else value
        for name, value in found.items()
    }


def _is_number(value: object) -> bool:
    return isinstance(value, int | float)


class Progress(BaseModel):
    """The progress of a running item, in the unit of the link that runs."""

    done: float
    total: float | None = None
    unit: str = ""


class JobError(BaseModel):
    """Why a job failed. reason: failed, rejected, unavailable, poison, time_limit, oversized ..."""

    reason: str
    where: str = Field("", description="The link or storage.")
    detail: str = ""


class JobNotification(BaseModel):
    """The state of the notification to the job's callback. status: queued, delivered, failed."""

    status: str
    error: str = Field("", description="Why it failed.")


class JobLinks(BaseModel):
    """Paths of the job."""

    self: str
    events: str
    result: str


class JobView(BaseModel):
    """One submission: its present state, and its end."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "id": "0199e0a47c1e8b3a9f112d3c4b5",
                "job_id": "0199e0a47c1e8b3a9f112d3c4b5",
                "list": "calls",
                "uuid": "0199e0a4-7c1e-8b3a-9f11-2d3c4b5a6978",
                "status": "processing",
                "link": "transcribe",
                "progress": {"done": 130, "total": 600, "unit": "s"},
                "progress_text": "transcribing, 130 of 600 s",
                "attempts": 0,
                "created_at": "2026-11-29T19:00:00.000Z",
                "updated_at": "2026-11-29T19:00:12.500Z",
                "start_time": "2026-11-29T19:00:00.000Z",
                "elapsed_time": 12.5,
                "retry_at": None,
                "waits_for": None,
                "error": None,
                "notification": None,
                "by": "ann",
                "links": {
                    "self": "/v1/jobs/0199e0a47c1e8b3a9f112d3c4b5",
                    "events": "/v1/jobs/0199e0a47c1e8b3a9f112d3c4b5/events",
                    "result": "/v1/jobs/0199e0a47c1e8b3a9f112d3c4b5/result",
                },
            }
        }
    )

    id: str
    job_id: str = Field(description="The same as `id`.")
    list: str
    uuid: str = Field(description="The uuid of the job's vCon.")
    status: str = Field(
        description="queued, processing, waiting; or an end: completed, filtered, cancelled, failed"
    )
    link: str = Field(description="The link that runs.")
    progress: Progress | None
    progress_text: str = Field(description="The progress in words.")
    attempts: int
    created_at: str
    updated_at: str
    start_time: str = Field(description="The same as `created_at`.")
    elapsed_time: float = Field(description="Seconds from the submission to the end, or to now.")
    retry_at: str | None = Field(description="When a waiting job is due.")
    waits_for: dict[str, Any] | None = Field(description="What a waiting job waits for.")
    error: JobError | None
    notification: JobNotification | None = Field(description="The one to the callback.")
    by: str = Field(description="The name of the token that submitted it.")
    links: JobLinks


def job_view(job: Job, base: str) -> JobView:
    """A job as the API shows it. base: the path in front of /v1."""
    error = dict(job.error)
    failed = job.status == "failed"
    until_s = job.updated_at if job.ended else time.time()
    path = f"{base}/v1/jobs/{job.id}"
    return JobView(
        id=job.id,
        job_id=job.id,
        list=job.list,
        uuid=job.uuid,
        status=job.status,
        link=job.link,
        progress=_progress(job),
        progress_text=_in_words(job),
        attempts=job.attempts,
        created_at=iso(job.created_at),
        updated_at=iso(job.updated_at),
        start_time=iso(job.created_at),
        elapsed_time=round(max(until_s - job.created_at, 0.0), 3),
        retry_at=iso_or_none(job.retry_at),
        waits_for=error if job.status == "waiting" and error else None,
        error=_error(error) if failed else None,
        notification=_notification(job),
        by=job.by,
        links=JobLinks(self=path, events=f"{path}/events", result=f"{path}/result"),
    )


def _notification(job: Job) -> JobNotification | None:
    if not job.ended or not job.notification:
        return None
    error = str(job.notification_error.get("error", ""))
    return JobNotification(status=job.notification, error=error)


def _progress(job: Job) -> Progress | None:
    done, total = job.progress.get("done"), job.progress.get("total")
    if not isinstance(done, int | float):
        return None
    unit = str(job.progress.get("unit", ""))
    return Progress(done=done, total=total if isinstance(total, int | float) else None, unit=unit)


def _in_words(job: Job) -> str:
    """Progress such as "transcribing, 130 of 600 s"; the status if there is no progress."""
    if job.status == "waiting":
        return f"waiting until {iso(job.retry_at)}" if job.retry_at else "waiting"
    if job.status != "processing" or not job.link:
        return job.status
    words = str(job.progress.get("doing") or f"in the link {job.link}")
    progress = _progress(job)
    if progress is None:
        return words
    of = "" if progress.total is None else f" of {progress.total:.0f}"
    return f"{words}, {progress.done:.0f}{of} {progress.unit}".rstrip()


def _error(error: dict[str, Any]) -> JobError:
    where = str(error.get("link") or error.get("storage") or "")
    reason, detail = str(error.get("reason", "failed")), str(error.get("error", ""))
    return JobError(reason=reason, where=where, detail=detail)

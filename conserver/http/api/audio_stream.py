"""stream=true: a transcription as server-sent events, in OpenAI's form.

    transcript.text.delta   text that was recognized since the last delta
    transcript.text.segment one speaker's text, at the end, with response_format=diarized_json
    transcript.text.done    the whole text
    [DONE]                  the end of the stream

The link transcribe writes the text so far to the job's progress, about once a second. An error is
an event with the member `error`, which OpenAI's clients raise as an exception.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from typing import Any

import orjson
from fastapi.responses import StreamingResponse
from redis.exceptions import RedisError
from starlette.requests import Request

from conserver.http.api import openai_errors
from conserver.http.api.audio_answers import transcript_of_job
from conserver.http.api.context import context_of
from conserver.http.api.events import changes
from conserver.http.api.hiding import as_is
from conserver.http.api.problems import ProblemError
from conserver.http.api.subscriptions import TooManyListenersError
from conserver.media.transcription import formats
from conserver.queue.jobs import Job
from conserver.telemetry.redact import redact_text


def response(
    request: Request, job: Job, headers: Mapping[str, str], *, turns: bool
) -> StreamingResponse:
    """The events of a job's transcription. turns: also send segments with their speakers."""
    told = {**headers, "Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
    as_is(request)
    return StreamingResponse(_events(request, job, turns), 200, told, "text/event-stream")


async def _events(request: Request, job: Job, turns: bool) -> AsyncIterator[str]:
    yield ": the job is queued\n\n"  # A first line, so that the response's head is sent at once.
    said, end = "", None
    try:
        with suppress(TooManyListenersError):
            async for now in changes(context_of(request), job, 0):
                if now is None:
                    yield ": ping\n\n"
                    continue
                if now.ended:
                    end = now
                    break
                text = now.progress.get("text")
                if isinstance(text, str) and len(text) > len(said) and text.startswith(said):
                    yield _delta(text[len(said) :])
                    said = text
        if end is None:
            why = f"this server stops: the job {job.id} goes on, ask for it"
            raise ProblemError(503, why, "come-again")
        found = await transcript_of_job(request, end)
    except ProblemError as error:
        yield _failure(error.status, error.detail, error.kind)
        return
    except RedisError:
        why = f"Redis does not answer: the job {job.id} goes on, ask for it"
        yield _failure(503, why, "redis-away")
        return
    if found.text.startswith(said) and len(found.text) > len(said):
        yield _delta(found.text[len(said) :])
    for one in enumerate(found.segments if turns else ()):
        yield _event(formats.turn(*one))
    done = {"type": "transcript.text.done", "text": found.text, "usage": formats.usage(found)}
    yield _event(done)
    yield "data: [DONE]\n\n"


def _delta(text: str) -> str:
    return _event({"type": "transcript.text.delta", "delta": text})


def _failure(status: int, detail: str, kind: str) -> str:
    code = kind.replace("-", "_")
    return _event(openai_errors.body_of(status, redact_text(detail), code))


def _event(body: dict[str, Any]) -> str:
    return f"data: {orjson.dumps(body).decode()}\n\n"

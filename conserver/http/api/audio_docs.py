"""The OpenAPI description of the two routes under /v1/audio."""

from __future__ import annotations

from typing import Any

from fastapi import Response

from conserver.http.api.audio_form import FORMATS, PARTS, TRANSLATED_FORMATS
from conserver.http.api.shapes import JobView

_JOB = {"x-conserver-job": {"schema": {"type": "string"}, "description": "The job behind it."}}


def described(*, translate: bool) -> dict[str, Any]:
    """Keyword arguments for the decorator of a route."""
    formats = TRANSLATED_FORMATS if translate else FORMATS
    fields: dict[str, Any] = {
        "file": {"type": "string", "format": "binary", "description": "The recording."},
        "model": {"type": "string", "description": "See /v1/models; by default whisper-1."},
        "response_format": {"type": "string", "enum": list(formats), "default": "json"},
        "prompt": {"type": "string", "description": "Names and spellings to prefer."},
        "temperature": {"type": "number", "minimum": 0, "maximum": 1},
        "stream": {"type": "boolean", "description": "Events instead of one answer."},
        "upload_presigned_url": {
            "type": "string",
            "description": "Where the result is put; the answer is then the job, with 202.",
        },
    }
    if not translate:
        fields |= {
            "language": {"type": "string", "description": "ISO 639-1; found out without it."},
            "timestamp_granularities[]": {
                "type": "array",
                "items": {"type": "string", "enum": list(PARTS)},
            },
        }
    form = {"type": "object", "required": ["file"], "properties": fields}
    return {
        "response_class": Response,
        "responses": {
            200: {
                "description": "The transcript",
                "headers": _JOB,
                "content": {
                    "application/json": {},
                    "text/plain": {},
                    "text/vtt": {},
                    "text/event-stream": {},
                },
            },
            202: {"model": JobView, "description": "The job, where that was asked for"},
            400: {"description": "A field, or the recording, cannot be used"},
            404: {"description": "There is no such model"},
            500: {"description": "The job failed; trying again changes nothing"},
            502: {"description": "A storage that may have the result could not be asked"},
            507: {"description": "The folder of uploads takes no more"},
        },
        "openapi_extra": {
            "requestBody": {"required": True, "content": {"multipart/form-data": {"schema": form}}}
        },
    }
